//! What a Database is known by.

use std::sync::Arc;

use planner::plan::Subject;
use sharding::{Bucket, bucket_of};

/// Namespace and name of a Database, and the bucket that follows from them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Where it belongs, whatever its label says.
    pub bucket: Bucket,
}

impl Key {
    /// The key of the Database with this namespace and name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            bucket: bucket_of(namespace, name),
        }
    }

    /// The Database as plans and writers know it; a uid is needed for plans only.
    pub fn subject(&self, uid: &str) -> Subject {
        Subject {
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
            uid: uid.to_owned(),
            bucket: self.bucket,
        }
    }
}

impl workqueue::Key for Key {
    type Tenant = Arc<str>;

    fn tenant(&self) -> &Arc<str> {
        &self.namespace
    }

    fn group(&self) -> usize {
        self.bucket.index().into()
    }

    fn look_ahead(&self) {
        std::hint::black_box(Arc::strong_count(&self.name));
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
