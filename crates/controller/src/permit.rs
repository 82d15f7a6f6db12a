//! Whether this replica may still write, asked before each write.
//!
//! A reconcile may take longer than the ownership that it began under. The fence at the API server would refuse what comes
//! too late; this keeps it from being sent at all, which counts most while there is no map to judge it by.

use std::fmt;
use std::sync::Arc;

use sharding::Epoch;

/// The leave to write for one Database: an epoch, and whether its bucket is still owned under it.
#[derive(Clone)]
pub struct Permit {
    epoch: Epoch,
    holds: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Permit {
    /// Leave to write with this epoch for as long as `holds` says so. It is asked before every single write, so it must
    /// answer at once.
    pub fn new(epoch: Epoch, holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            epoch,
            holds: Arc::new(holds),
        }
    }

    /// Leave without end, for those who only read, and for tests.
    pub fn always(epoch: Epoch) -> Self {
        Self::new(epoch, || true)
    }

    /// The epoch that every write carries.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether a write may be sent now.
    pub fn holds(&self) -> bool {
        (self.holds)()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("epoch", &self.epoch)
            .field("holds", &self.holds())
            .finish()
    }
}
