//! The database operator.
fn main() {}
