//! Which layers of the fence are active. That replicas stop by themselves and that writes carry preconditions is part of
//! the program; whether the API server refuses what comes too late depends on what is installed, so it is tried.
//!
//! Each replica tells by a metric, the leader also by a condition of the map.
//!
//! Not guaranteed: that each policy is as it was installed. Their names are compared, and one is seen to refuse.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use api::names::{BUCKET_LABEL, FENCE_ANNOTATION, FENCE_POLICY_PREFIX, FIELD_MANAGER, MANAGED_BY_LABEL};
use controller::api_error::ApiError;
use fleet::Fleet;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use sharding::crd::{FENCED_CONDITION, MAP_NAME};
use telemetry::label::FenceLayer;
use telemetry::metrics::FleetMetrics;

/// How often is looked.
const EVERY: Duration = Duration::from_mins(1);
/// An object that is never created.
const CANARY: &str = "database-operator-fence-canary";

/// What the API server does about writes that come too late.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Policies {
    /// It refuses them.
    InForce,
    /// Policies with these names are not bound.
    Missing(BTreeSet<String>),
    /// All are bound, and a write that is too late is accepted.
    Idle,
    /// That could not be found out.
    Unknown(String),
}

/// Looks for as long as the replica lives. Without a map there is nothing to look at.
pub(crate) async fn follow(client: Client, namespace: String, fleet: Fleet, metrics: FleetMetrics) -> Infallible {
    let mut served = fleet.served();
    let mut told = None;
    loop {
        let leading = match served.wait_for(|served| served.map.is_some()).await {
            Ok(served) => served.leads,
            // The member has ended, and with it soon this.
            Err(_) => return std::future::pending().await,
        };
        let policies = judge(canary(&client, &namespace).await, bound(&client).await);
        metrics.fence.count(|count| {
            count(FenceLayer::SelfFence);
            count(FenceLayer::Preconditions);
            if policies == Policies::InForce {
                count(FenceLayer::Policies);
            }
        });
        let condition = condition(&policies);
        if told.as_ref() != Some(&policies) {
            let said = condition["message"].as_str().unwrap_or_default();
            if policies == Policies::InForce {
                tracing::info!(said, "the fence is in force");
            } else {
                tracing::warn!(said, "the fence may not be in force");
            }
            told = Some(policies);
        }
        if leading && let Err(error) = tell(&client, condition).await {
            tracing::warn!(error = %telemetry::chain(&error), "the map's condition could not be written");
        }
        // A new leader looks at once, so that a condition does not wait for its minute.
        let _ = tokio::time::timeout(EVERY, served.wait_for(|served| served.leads != leading)).await;
    }
}

/// Tries to create what a replica would have created in 1970.
async fn canary(client: &Client, namespace: &str) -> Result<(), ApiError> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "metadata": {
            "name": CANARY,
            "labels": {BUCKET_LABEL: "0", MANAGED_BY_LABEL: FIELD_MANAGER},
            "annotations": {FENCE_ANNOTATION: "1"},
        },
    });
    let object = serde_json::from_value(object).expect("a ConfigMap");
    let parameters = PostParams {
        dry_run: true,
        field_manager: Some(FIELD_MANAGER.to_owned()),
    };
    let answer = configs.create(&parameters, &object).await;
    answer.map(drop).map_err(|error| ApiError::of(CANARY, error))
}

/// Which policies of the fence are bound.
async fn bound(client: &Client) -> Result<BTreeSet<String>, ApiError> {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let list = bindings.list_metadata(&ListParams::default()).await;
    let list = list.map_err(|error| ApiError::of("validatingadmissionpolicybindings", error))?;
    let names = list.iter().map(kube::ResourceExt::name_any);
    Ok(names.filter(|name| name.starts_with(FENCE_POLICY_PREFIX)).collect())
}

fn judge(canary: Result<(), ApiError>, bound: Result<BTreeSet<String>, ApiError>) -> Policies {
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return Policies::Unknown(error.to_string()),
    };
    let missing: BTreeSet<String> = super::names().difference(&bound).cloned().collect();
    match canary {
        _ if !missing.is_empty() => Policies::Missing(missing),
        Ok(()) => Policies::Idle,
        Err(ApiError::Fenced { .. }) => Policies::InForce,
        Err(error) => Policies::Unknown(error.to_string()),
    }
}

/// Without the time of its last change.
fn condition(policies: &Policies) -> Value {
    let install = "to install: database-operator crds --with-fence | kubectl apply --server-side -f -";
    let (status, reason, message) = match policies {
        Policies::InForce => (
            "True",
            "PoliciesInForce",
            "Self-fencing, preconditions and policies: the API server refuses writes of a replica whose ownership is \
             over."
                .to_owned(),
        ),
        Policies::Missing(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let names = names.join(", ");
            (
                "False",
                "PoliciesMissing",
                format!("Self-fencing and preconditions only. Not bound: {names}; {install}"),
            )
        }
        Policies::Idle => (
            "False",
            "PoliciesIdle",
            format!(
                "Self-fencing and preconditions only. The policies are bound for another user, or changed; {install}"
            ),
        ),
        Policies::Unknown(why) => (
            "Unknown",
            "CannotTell",
            format!("Self-fencing and preconditions; whether the policies are in force is not known: {why}"),
        ),
    };
    json!({"type": FENCED_CONDITION, "status": status, "reason": reason, "message": message})
}

/// Writes the condition, if the map has another one.
async fn tell(client: &Client, mut condition: Value) -> kube::Result<()> {
    let maps: Api<DynamicObject> = Api::all_with(client.clone(), &fleet::shardmap::resource());
    let map = maps.get(MAP_NAME).await?;
    let conditions = map.data["status"]["conditions"].as_array();
    let present = conditions.and_then(|all| all.iter().find(|one| one["type"] == FENCED_CONDITION));
    let same = |name: &str| present.is_some_and(|present| present[name] == condition[name]);
    if ["status", "reason", "message"].into_iter().all(same) {
        return Ok(());
    }
    condition["lastTransitionTime"] = if same("status") {
        present.map_or(Value::Null, |present| present["lastTransitionTime"].clone())
    } else {
        Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
    };
    let patch = json!({
        "metadata": {"uid": map.uid()},
        "status": {"conditions": [condition]},
    });
    maps.patch_status(MAP_NAME, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fenced() -> Result<(), ApiError> {
        Err(ApiError::Fenced {
            object: CANARY.to_owned(),
            message: "stale owner".to_owned(),
        })
    }

    fn forbidden<T>() -> Result<T, ApiError> {
        Err(ApiError::Forbidden {
            object: CANARY.to_owned(),
            message: "no".to_owned(),
        })
    }

    #[test]
    fn policies_are_in_force_only_if_all_are_bound_and_one_is_seen_to_refuse() {
        let all = super::super::names();
        assert_eq!(judge(fenced(), Ok(all.clone())), Policies::InForce);
        assert_eq!(judge(Ok(()), Ok(all.clone())), Policies::Idle);
        assert!(matches!(judge(forbidden(), Ok(all.clone())), Policies::Unknown(_)));
        assert!(matches!(judge(fenced(), forbidden()), Policies::Unknown(_)));
        let mut some = all;
        let gone = some.pop_first().expect("there are some");
        assert_eq!(judge(fenced(), Ok(some)), Policies::Missing([gone].into()));
        assert_eq!(
            judge(Ok(()), Ok(BTreeSet::new())),
            Policies::Missing(super::super::names())
        );
    }

    #[test]
    fn a_condition_names_what_is_missing_and_how_to_install_it() {
        let condition = condition(&Policies::Missing(["one".to_owned(), "two".to_owned()].into()));
        assert_eq!(condition["status"], "False");
        let message = condition["message"].as_str().expect("text");
        assert!(message.contains("one, two"), "{message}");
        assert!(message.contains("--with-fence"), "{message}");
    }
}
