//! Databases that exist, with the labels of their namespaces, and exceptions: from a cluster, page by page, or from files.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use api::names;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use policy::exception::PolicyException;
use policy::request::Namespace;
use serde_json::Value;

use super::super::read::{ReadError as FileError, documents};
use crate::fleet::read::{Asked, ReadError};

/// How many Databases one answer holds, and are asked about at once.
pub(super) const PAGE: usize = 500;

const DATABASES: &str = "databases.intent.example.com";
const EXCEPTIONS: &str = "policyexceptions.intent.example.com";

/// A Database, and where it is.
pub(super) struct Existing {
    pub namespace: Namespace,
    pub object: Value,
}

impl Existing {
    pub(super) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(names::GROUP, names::VERSION, kind), plural)
}

/// Databases of a cluster, page by page.
pub(super) struct AtCluster {
    client: Client,
    /// What is left to be listed, the next one last. None: of the whole cluster.
    left: Vec<Option<String>>,
    /// Where the list of the next one goes on.
    token: Option<String>,
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl AtCluster {
    /// Those of these namespaces; of all, if none is named.
    pub(super) fn new(client: Client, namespaces: &[String]) -> Self {
        let mut left: Vec<Option<String>> = namespaces.iter().cloned().map(Some).collect();
        left.sort();
        left.dedup();
        left.reverse();
        if left.is_empty() {
            left.push(None);
        }
        Self {
            client,
            left,
            token: None,
            labels: HashMap::new(),
        }
    }

    /// The next page.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Existing>>, ReadError> {
        let Some(namespace) = self.left.last().cloned() else {
            return Ok(None);
        };
        let asked = Asked {
            verb: "list",
            resource: DATABASES,
            namespace: namespace.as_deref(),
            defined_by: Some("crds"),
        };
        let kind = resource(names::KIND, names::PLURAL);
        let api: Api<DynamicObject> = match &namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let parameters = ListParams {
            limit: Some(PAGE.try_into().unwrap_or(u32::MAX)),
            continue_token: self.token.take(),
            ..ListParams::default()
        };
        let page = api.list(&parameters).await.map_err(|error| asked.failed(error))?;
        self.token = page.metadata.continue_.filter(|token| !token.is_empty());
        if self.token.is_none() {
            self.left.pop();
        }
        let mut databases = Vec::new();
        for database in page.items {
            let namespace = database.namespace().unwrap_or_default();
            let labels = self.labels(&namespace).await?;
            databases.push(Existing {
                namespace: Namespace {
                    name: namespace,
                    labels,
                },
                object: json_of(database, names::KIND),
            });
        }
        Ok(Some(databases))
    }

    async fn labels(&mut self, namespace: &str) -> Result<BTreeMap<String, String>, ReadError> {
        if let Some(labels) = self.labels.get(namespace) {
            return Ok(labels.clone());
        }
        let asked = Asked {
            verb: "get",
            resource: "namespaces",
            namespace: Some(namespace),
            defined_by: None,
        };
        let api: Api<NamespaceObject> = Api::all(self.client.clone());
        let read = api.get_metadata_opt(namespace).await;
        // One that was deleted this moment has no Databases any more.
        let object = read.map_err(|error| asked.failed(error))?;
        let labels = object.and_then(|object| object.metadata.labels).unwrap_or_default();
        self.labels.insert(namespace.to_owned(), labels.clone());
        Ok(labels)
    }
}

/// Exceptions of a cluster; none, where they are not defined.
pub(super) async fn exceptions(client: &Client) -> Result<Vec<PolicyException>, ReadError> {
    let asked = Asked {
        verb: "list",
        resource: EXCEPTIONS,
        namespace: None,
        defined_by: None,
    };
    let kind = resource("PolicyException", names::EXCEPTIONS_PLURAL);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let list = match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        list => list.map_err(|error| asked.failed(error))?,
    };
    let mut exceptions = Vec::new();
    for object in list.items {
        let name = object.name_any();
        match serde_json::from_value(json_of(object, "PolicyException")) {
            Ok(exception) => exceptions.push(exception),
            // As in the operator: what it does not know may be a condition.
            Err(error) => eprintln!("warning: PolicyException {name} cannot be read, and is not used: {error}"),
        }
    }
    Ok(exceptions)
}

/// Items of a list need not say what they are.
fn json_of(object: DynamicObject, kind: &str) -> Value {
    let mut value = serde_json::to_value(object).expect("what was read from JSON is JSON");
    value["apiVersion"] = names::API_VERSION.into();
    value["kind"] = kind.into();
    value
}

/// What files hold.
pub(super) struct Files {
    pub databases: Vec<Existing>,
    pub exceptions: Vec<PolicyException>,
}

/// Why there is nothing to ask about.
#[derive(Debug, thiserror::Error)]
#[error("there is no Database in {}; give what `kubectl get databases -A -o yaml` prints", names.join(", "))]
struct NoDatabase {
    names: Vec<String>,
}

/// Databases of files, and the Namespaces and PolicyExceptions beside them. Whatever else is there is left out.
pub(super) fn files(paths: &[PathBuf]) -> Result<Files, Box<dyn std::error::Error>> {
    let (mut objects, mut exceptions) = (Vec::new(), Vec::new());
    let mut labels: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for path in paths {
        for document in documents(path)?.into_iter().flat_map(items) {
            match document["kind"].as_str() {
                Some(names::KIND) => objects.push(document),
                Some("Namespace") => {
                    let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    labels.insert(name, texts(&document["metadata"]["labels"]));
                }
                Some("PolicyException") => {
                    exceptions.push(serde_json::from_value(document).map_err(|error| FileError::Exception {
                        path: path.clone(),
                        why: error.to_string(),
                    })?);
                }
                Some(_) | None => {}
            }
        }
    }
    if objects.is_empty() {
        let names = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(NoDatabase { names }.into());
    }
    let existing = |object: Value| {
        let name = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let labels = labels.get(&name).cloned().unwrap_or_default();
        Existing {
            namespace: Namespace { name, labels },
            object,
        }
    };
    Ok(Files {
        databases: objects.into_iter().map(existing).collect(),
        exceptions,
    })
}

/// Those of a list, as `kubectl get` prints it; else the document itself.
fn items(mut document: Value) -> Vec<Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document.get_mut("items").filter(|_| is_list).map(Value::take) {
        Some(Value::Array(items)) => items,
        Some(_) | None => vec![document],
    }
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let entries = object.as_object().into_iter().flatten();
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    entries.filter_map(text).collect()
}
