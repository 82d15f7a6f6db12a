use std::hash::Hash;

/// What is queued. Cheap to clone.
pub trait Key: Clone + Eq + Hash {
    /// Who asks for its runs: within a class, tenants take turns.
    type Tenant: Clone + Eq + Hash;

    /// Its tenant: always the same for equal keys.
    fn tenant(&self) -> &Self::Tenant;

    /// Its group, always the same for equal keys: all that is queued of a group can be removed at once. A small number,
    /// since there is a table for each one up to the largest.
    fn group(&self) -> usize;

    /// Reads what a clone of it reads elsewhere in memory, such as the count of an [`Arc`](std::sync::Arc). Called
    /// shortly before it is handed out, so that nobody waits for that then. Need not do anything.
    fn look_ahead(&self) {}
}

/// One tenant and one group, for whoever needs neither.
impl Key for &str {
    type Tenant = ();

    fn tenant(&self) -> &() {
        &()
    }

    fn group(&self) -> usize {
        0
    }
}
