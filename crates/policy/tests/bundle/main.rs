//! Bundles that attack us, and bundles that OPA and we exchange.

mod common;
mod hostile;
mod opa;
