//! What is asked about.

use std::collections::BTreeMap;
use std::fmt;

use api::fault::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is done to a Database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Delete,
}

/// Who asks, among our own parts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The API server's webhook.
    Admission,
    /// A reconcile.
    Reconcile,
    /// A look at all that exists.
    Audit,
    /// The command line.
    Cli,
}

/// Who wants it, as the API server says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Unique in time, if the API server knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// The namespace of the Database.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Labels, which administrators set.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A question: may this be declared?
#[derive(Clone, Debug)]
pub struct Request {
    /// What is done.
    pub operation: Operation,
    /// Whether the API server only tries it.
    pub dry_run: bool,
    /// Which part of ours asks.
    pub source: Source,
    /// Who wants it; nobody in a reconcile.
    pub user: Option<User>,
    /// Where.
    pub namespace: Namespace,
    /// The Database as it is to be: any JSON, also what is no Database.
    pub object: Value,
    /// The Database as it was, of an update.
    pub old: Option<Value>,
}

/// The planner, as policy knows it: from a Database to the children that would be made for it, or all that is wrong with
/// it.
pub trait Planner: Sync {
    /// The children that `object`, whose defaults are filled in, has in `namespace`.
    fn children(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>>;

    /// At least the StatefulSets of these, or the same that is wrong: all that is needed where no rule reads `children`.
    fn sets(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        self.children(object, namespace)
    }
}

impl<F: Fn(&Value, &str) -> Result<Vec<Value>, Vec<Fault>> + Sync> Planner for F {
    fn children(&self, object: &Value, namespace: &str) -> Result<Vec<Value>, Vec<Fault>> {
        self(object, namespace)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        })
    }
}
