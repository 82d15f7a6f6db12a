//! That no secret is anywhere but in Secrets.
//!
//! The operator is the real program with its real log, at its most talkative that is meant for people. Values are planted
//! and looked for, as they are and as base64, in everything that somebody without access to Secrets may read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::api::{DeleteParams, ListParams};
use planner::child::Kind;
use planner::status::ENGINE_REFUSES;
use serde_json::{Value, json};

use crate::program::Program;
use crate::support::{Bed, condition, database, eventually, postgresql, real_bed, real_bed_with_node, redis};

/// Whether a text holds a value, as it is or as base64.
fn holds(text: &str, value: &str) -> bool {
    text.contains(value) || text.contains(BASE64.encode(value).trim_end_matches('='))
}

/// Everything that may be read without access to Secrets, by what it is.
async fn readable(bed: &Bed, program: &Program, manifests: &[Value]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let kinds = [
        ("intent.example.com", "v1", "Database", "databases"),
        ("", "v1", "ConfigMap", "configmaps"),
        ("apps", "v1", "StatefulSet", "statefulsets"),
        ("apps", "v1", "ControllerRevision", "controllerrevisions"),
        ("", "v1", "Pod", "pods"),
        ("", "v1", "Service", "services"),
        ("", "v1", "ServiceAccount", "serviceaccounts"),
        ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
        ("", "v1", "Event", "events"),
        ("events.k8s.io", "v1", "Event", "events"),
    ];
    for (group, version, kind, plural) in kinds {
        let list = bed
            .api(group, version, kind, plural)
            .list(&ListParams::default())
            .await
            .expect("they can be listed");
        all.push((
            format!("{kind}s"),
            serde_json::to_string(&list).expect("objects are JSON"),
        ));
    }
    all.push(("the log".to_owned(), program.said()));
    all.push(("the metrics".to_owned(), program.metrics().await));
    for manifest in manifests {
        for format in ["yaml", "json"] {
            all.push((format!("plan -o {format}"), program.plan(bed, manifest, format).await));
        }
    }
    all
}

/// Values of a Secret that are secret: a name of a user or a host is not.
async fn secret_values(bed: &Bed, secret: &str, keys: &[&str]) -> Vec<(String, String)> {
    let object = bed.child(Kind::Secret, secret).await.expect("the Secret");
    let value = |key: &str| {
        let encoded = object["data"][key]
            .as_str()
            .unwrap_or_else(|| panic!("{secret} has no {key}"));
        String::from_utf8(BASE64.decode(encoded).expect("base64")).expect("text")
    };
    keys.iter()
        .map(|key| (format!("{key} of {secret}"), value(key)))
        .collect()
}

fn search(places: &[(String, String)], values: &[(String, String)]) -> Vec<String> {
    let found = |(what, value): &(String, String)| {
        let places = places
            .iter()
            .filter(|(_, text)| holds(text, value))
            .map(|(place, _)| place.clone());
        places.map(|place| format!("{what} is in {place}")).collect::<Vec<_>>()
    };
    values.iter().flat_map(found).collect()
}

/// Every place was really read, and the search finds what is there.
async fn the_search_can_find(bed: &Bed, places: &[(String, String)], values: &[(String, String)], names: &[&str]) {
    for (place, text) in places.iter().filter(|(place, _)| *place != "the metrics") {
        assert!(
            names.iter().any(|name| holds(text, name)),
            "{place} says nothing of {names:?}: {text}"
        );
    }
    let metrics = &places
        .iter()
        .find(|(place, _)| place == "the metrics")
        .expect("metrics")
        .1;
    assert!(holds(metrics, "workqueue_depth"), "{metrics}");
    let secrets = bed
        .children(Kind::Secret)
        .list(&ListParams::default())
        .await
        .expect("Secrets can be listed");
    let secrets = vec![(
        "the Secrets".to_owned(),
        serde_json::to_string(&secrets).expect("objects are JSON"),
    )];
    assert_eq!(
        search(&secrets, values).len(),
        values.len(),
        "each value is found where it is"
    );
}

/// Marks values that were planted, so that a failure shows what they are.
fn planted(what: &str) -> String {
    format!("planted-{what}-{}", std::process::id())
}

fn with_secret(mut spec: Value) -> Value {
    spec["configuration"]["secretRef"] = json!({"name": "hidden"});
    spec
}

async fn plant(bed: &Bed, key: &str, value: &str) {
    let hidden = json!({
        "apiVersion": "v1", "kind": "Secret", "stringData": {key: value},
        "metadata": {"name": "hidden", "labels": {api::names::WATCH_LABEL: "true"}},
    });
    bed.create(&bed.children(Kind::Secret), hidden).await;
}

const ADMIN_KEYS: [&str; 3] = ["password", "app-password", "salt"];
const APP_KEYS: [&str; 2] = ["password", "uri"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_anywhere_but_in_secrets() {
    let Some(bed) = real_bed("secrets").await else { return };
    let program = Program::start(&bed, 0);
    let value = planted("value");
    plant(&bed, "shop.api_key", &value).await;
    bed.declare("orders", with_secret(postgresql())).await;
    bed.declare("cache", redis()).await;
    bed.condition("orders", "Applied", "True").await;
    bed.condition("cache", "Applied", "True").await;

    // Errors are where secrets get out: a value that is refused, a Secret that is lost, and one that cannot be read.
    let refused = planted("refused");
    let bad = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, "stringData": {"port": refused, "not-a-name": refused},
    });
    bed.create(&bed.children(Kind::Secret), bad).await;
    let mut spec = postgresql();
    spec["configuration"] = json!({"secretRef": {"name": "bad"}});
    bed.declare("refused", spec.clone()).await;
    bed.condition("refused", "SpecValid", "False").await;
    let mut values = vec![
        ("the value of secretRef".to_owned(), value),
        ("the refused value".to_owned(), refused),
    ];
    for name in ["orders", "cache"] {
        values.extend(secret_values(&bed, &format!("{name}-admin"), &ADMIN_KEYS).await);
        values.extend(secret_values(&bed, &format!("{name}-app"), &APP_KEYS).await);
    }
    for (secret, key) in [("orders-app", "password"), ("cache-admin", "password")] {
        bed.delete(Kind::Secret, secret).await;
        let again = eventually("it is made again", async || {
            bed.child(Kind::Secret, secret).await.ok_or_else(String::new)
        })
        .await;
        assert!(again["data"][key].is_string());
    }
    bed.condition("cache", "CredentialsInSync", "True").await;
    values.retain(|(what, _)| !what.contains("cache"));
    values.extend(secret_values(&bed, "cache-admin", &ADMIN_KEYS).await);
    bed.settled(Duration::from_secs(2)).await;

    let mut changed = with_secret(postgresql());
    changed["configuration"]["parameters"] = json!({"work_mem": "8MB"});
    let manifests = [
        database("orders", changed),
        database("orders", with_secret(postgresql())),
        database("new", with_secret(postgresql())),
        database("refused", spec),
    ];
    let places = readable(&bed, &program, &manifests).await;
    let places: Vec<(String, String)> = places.into_iter().filter(|(place, _)| place != "Pods").collect();
    the_search_can_find(&bed, &places, &values, &["orders", "new", "refused"]).await;
    let found = search(&places, &values);
    assert!(found.is_empty(), "{found:#?}");
    let size: usize = places.iter().map(|(_, text)| text.len()).sum();
    println!(
        "{} values looked for in {} places, {} KiB",
        values.len(),
        places.len(),
        size / 1024
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_refuses_a_secret_value_is_told_of_without_the_value() {
    refused_secretly(
        "secrets-postgresql",
        &postgresql(),
        ("shop.api_key", "planted-7f3a91"),
        "work_mem",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_a_secret_value_is_told_of_without_the_value() {
    refused_secretly(
        "secrets-redis",
        &redis(),
        ("maxmemory", "987654321"),
        "maxmemory-policy",
    )
    .await;
}

/// Plants a value that the engine takes, and then one that it refuses.
async fn refused_secretly(test: &str, spec: &Value, (takes, value): (&str, &str), refuses: &str) {
    let Some(bed) = real_bed_with_node(test).await else {
        return;
    };
    let program = Program::start(&bed, 1);
    plant(&bed, takes, value).await;
    bed.declare("orders", with_secret(spec.clone())).await;
    bed.condition("orders", "Ready", "True").await;
    let mut values = vec![("the value of secretRef".to_owned(), value.to_owned())];
    values.extend(secret_values(&bed, "orders-admin", &ADMIN_KEYS).await);
    values.extend(secret_values(&bed, "orders-app", &APP_KEYS).await);
    bed.settled(Duration::from_secs(2)).await;
    let manifests = [database("orders", with_secret(spec.clone()))];
    let places = readable(&bed, &program, &manifests).await;
    the_search_can_find(&bed, &places, &values, &["orders"]).await;
    let found = search(&places, &values);
    assert!(found.is_empty(), "{found:#?}");

    // The engine repeats a value that it refuses, and the operator repeats the engine, but not that.
    let worse = planted("refused");
    bed.children(Kind::Secret)
        .patch(
            "hidden",
            &crate::support::user(),
            &kube::api::Patch::Merge(json!({"stringData": {refuses: worse}})),
        )
        .await
        .expect("edited");
    let told = bed
        .database_when("orders", "the engine's refusal is told", |database| {
            condition(database, "ConfigurationApplied")["reason"] == ENGINE_REFUSES
        })
        .await;
    let message = condition(&told, "ConfigurationApplied")["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.contains(refuses), "{message}");
    values.push(("the refused value".to_owned(), worse));
    bed.settled(Duration::from_secs(2)).await;
    let places = readable(&bed, &program, &manifests).await;
    the_search_can_find(&bed, &places, &values, &["orders"]).await;
    let found = search(&places, &values);
    assert!(found.is_empty(), "{found:#?}");
    bed.databases()
        .delete("orders", &DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone("orders").await;
}
