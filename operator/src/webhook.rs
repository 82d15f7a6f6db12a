//! What tells the API server of the webhook: a Service that leads to the replicas, and the registration.

use admission::registration::{PORT, Registration, SERVICE, manifest};
use api::names::{FIELD_MANAGER, NAME_LABEL, PART_OF_LABEL};
use serde_json::{Value, json};

use crate::command::WebhookArguments;

const HEADER: &str = "# Printed by `database-operator webhook`.\n";

/// The manifests, as YAML.
pub(crate) fn manifests(arguments: &WebhookArguments) -> Result<String, serde_yaml::ser::Error> {
    let registration = Registration {
        namespace: arguments.operator_namespace.clone(),
        failure_policy: arguments.failure_policy.into(),
        inject_ca_from: arguments.inject_ca_from.clone(),
    };
    let service = serde_yaml::to_string(&service(arguments))?;
    let registration = serde_yaml::to_string(&manifest(&registration))?;
    Ok(format!("{HEADER}{service}---\n{registration}"))
}

fn service(arguments: &WebhookArguments) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": arguments.operator_namespace,
            "labels": {NAME_LABEL: FIELD_MANAGER, PART_OF_LABEL: FIELD_MANAGER},
        },
        "spec": {
            "selector": {NAME_LABEL: FIELD_MANAGER},
            "ports": [{"name": "https", "port": PORT, "targetPort": arguments.port, "protocol": "TCP"}],
        },
    })
}
