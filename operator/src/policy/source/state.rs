//! What was in force before, in a ConfigMap of the operator's namespace: so that no restart and no other replica takes an
//! older bundle for a new one.

use std::collections::BTreeMap;

use api::names::{FIELD_MANAGER, MANAGED_BY_LABEL, PART_OF_LABEL};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use policy::bundle::Activated;

use super::read::{AskError, asked};

/// Name of the ConfigMap: a key per bundle, by name.
pub(crate) const CONFIG_MAP: &str = "database-operator-policies";

/// Why it is not known what was in force, or cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The API server does not say.
    #[error(
        "{verb} ConfigMap {name}, which remembers what was in force: failed; `database-operator rbac` prints the permission"
    )]
    Asked {
        /// Namespace and name.
        name: String,
        /// What was to be done, as RBAC has it.
        verb: &'static str,
        /// Why not.
        source: AskError,
    },
    /// It was edited.
    #[error(
        "ConfigMap {name}, key {key}, which remembers what was in force: not what the operator writes; mend it, or delete \
         the key, and the next bundle is accepted whatever its sequence"
    )]
    Damaged {
        /// Namespace and name.
        name: String,
        /// Of the bundle.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What the ConfigMap says.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// None: there is none.
    object: Option<ConfigMap>,
    pub activated: BTreeMap<String, Activated>,
}

/// Reads and writes the ConfigMap.
pub(super) struct State {
    api: Api<ConfigMap>,
    namespace: String,
}

impl State {
    /// In that namespace, the operator's.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
        }
    }

    pub(super) async fn read(&self) -> Result<Stored, StateError> {
        let object = asked(self.api.get_opt(CONFIG_MAP)).await;
        let object = object.map_err(|source| self.failed("get", source))?;
        let Some(object) = object else {
            return Ok(Stored::default());
        };
        let mut activated = BTreeMap::new();
        for (key, text) in object.data.iter().flatten() {
            let read = serde_json::from_str(text).map_err(|source| StateError::Damaged {
                name: self.name(),
                key: key.clone(),
                source,
            })?;
            activated.insert(key.clone(), read);
        }
        Ok(Stored {
            object: Some(object),
            activated,
        })
    }

    /// Adds `changes` to what was read; false if somebody else has written since.
    pub(super) async fn write(
        &self,
        stored: Stored,
        changes: &BTreeMap<String, Activated>,
    ) -> Result<bool, StateError> {
        let is_new = stored.object.is_none();
        let mut object = stored.object.unwrap_or_else(|| self.empty());
        let data = object.data.get_or_insert_default();
        for (name, activated) in changes {
            let text = serde_json::to_string(activated).expect("texts and numbers are JSON");
            data.insert(name.clone(), text);
        }
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let (verb, answer) = if is_new {
            ("create", asked(self.api.create(&parameters, &object)).await)
        } else {
            // It carries the resourceVersion that was read.
            (
                "update",
                asked(self.api.replace(CONFIG_MAP, &parameters, &object)).await,
            )
        };
        match answer {
            Ok(_) => Ok(true),
            Err(AskError::Answer(error)) if overtaken(is_new, &error) => Ok(false),
            Err(source) => Err(self.failed(verb, source)),
        }
    }

    fn empty(&self) -> ConfigMap {
        let label = |name: &str| (name.to_owned(), FIELD_MANAGER.to_owned());
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(CONFIG_MAP.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some([label(MANAGED_BY_LABEL), label(PART_OF_LABEL)].into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn name(&self) -> String {
        format!("{}/{CONFIG_MAP}", self.namespace)
    }

    fn failed(&self, verb: &'static str, source: AskError) -> StateError {
        StateError::Asked {
            name: self.name(),
            verb,
            source,
        }
    }
}

/// It was created, changed or deleted since it was read.
fn overtaken(is_new: bool, error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404 && !is_new)
}
