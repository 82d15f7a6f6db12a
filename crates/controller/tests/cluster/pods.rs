//! Real engines in real pods.
//!
//! Queries are sent from within the pod (`kubectl exec`), over TCP and with the application's own credentials from its
//! Secret: what an application would do.

use planner::child::Kind;
use serde_json::{Value, json};

use crate::support::{Bed, bed_with_node, condition, eventually, postgresql, redis};

/// Runs a statement as the application, through the Service, and returns what was printed.
async fn sql(bed: &Bed, name: &str, statement: &str) -> Result<String, String> {
    let script = format!(
        "PGPASSWORD=$(cat /etc/database/admin/app-password) psql -X -A -t -v ON_ERROR_STOP=1 -h {name}-rw -U app -d app -c \"{statement}\""
    );
    bed.exec(&format!("{name}-g1-0"), &script).await
}

async fn redis_cli(bed: &Bed, name: &str, command: &str) -> Result<String, String> {
    let script = format!(
        "REDISCLI_AUTH=$(cat /etc/database/admin/app-password) redis-cli --no-auth-warning --user app -h {name}-rw {command}"
    );
    bed.exec(&format!("{name}-g1-0"), &script).await
}

/// Ready is what the kubelet says; the Service follows a moment later.
async fn answers(what: &str, ask: impl AsyncFn() -> Result<String, String>, expected: &str) {
    eventually(what, async || match ask().await {
        Ok(answer) if answer.trim() == expected => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn pod_uid(bed: &Bed, name: &str) -> Value {
    bed.child(Kind::Pod, &format!("{name}-g1-0"))
        .await
        .map(|pod| pod["metadata"]["uid"].clone())
        .unwrap_or_default()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one life, told in the order in which it is lived")]
async fn the_life_of_a_postgresql() {
    let Some(bed) = bed_with_node("postgresql").await else {
        return;
    };
    let name = "orders";
    let operator = bed.operator(1);
    bed.declare(name, postgresql()).await;
    let database = bed.condition(name, "Ready", "True").await;
    assert_eq!(database["status"]["replicaStatus"]["summary"], "1/1");
    assert_eq!(database["status"]["replicaStatus"]["primary"], "orders-g1-0");
    let running = database["status"]["version"]["running"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    answers(
        "the version that is reported is the one that runs",
        async || {
            sql(
                &bed,
                name,
                "select split_part(current_setting('server_version'), ' ', 1)",
            )
            .await
        },
        &running,
    )
    .await;
    assert_eq!(condition(&database, "StorageReady")["status"], "True");

    answers(
        "rows are written",
        async || {
            sql(
                &bed,
                name,
                "create table if not exists t as select generate_series(1, 1000) as n",
            )
            .await
        },
        "SELECT 1000",
    )
    .await;
    let before = pod_uid(&bed, name).await;
    bed.edit(
        name,
        json!({"spec": {"configuration": {"parameters": {"work_mem": "7MB"}}}}),
    )
    .await;
    bed.condition(name, "Ready", "True").await;
    assert_ne!(pod_uid(&bed, name).await, before, "the parameter took a restart");
    answers("show work_mem", async || sql(&bed, name, "show work_mem").await, "7MB").await;
    answers(
        "select count(*) from t",
        async || sql(&bed, name, "select count(*) from t").await,
        "1000",
    )
    .await;

    // The engine refuses a value that no check of ours knows; its own words are told, and an edit brings it back.
    bed.edit(
        name,
        json!({"spec": {"configuration": {"parameters": {"work_mem": "1kB"}}}}),
    )
    .await;
    let refused = bed.condition(name, "Stalled", "True").await;
    let message = condition(&refused, "ConfigurationApplied")["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.contains("work_mem"), "{refused}");
    bed.edit(
        name,
        json!({"spec": {"configuration": {"parameters": {"work_mem": "9MB"}}}}),
    )
    .await;
    bed.condition(name, "Ready", "True").await;
    answers("show work_mem", async || sql(&bed, name, "show work_mem").await, "9MB").await;

    // The volume grows without a restart.
    let before = pod_uid(&bed, name).await;
    bed.edit(name, json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}))
        .await;
    bed.database_when(name, "the volume has grown", |database| {
        condition(database, "StorageReady")["status"] == "True"
            && database["status"]["observedGeneration"] == database["metadata"]["generation"]
    })
    .await;
    let claim = bed
        .child(Kind::PersistentVolumeClaim, "data-orders-g1-0")
        .await
        .expect("the volume");
    assert_eq!(claim["status"]["capacity"]["storage"], "2Gi");
    assert_eq!(pod_uid(&bed, name).await, before);

    // Deleted and declared again: the same rows, and a password that works.
    bed.databases()
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone(name).await;
    assert!(
        bed.child(Kind::Pod, "orders-g1-0").await.is_none(),
        "the pod went before the Database did"
    );
    let mut spec = postgresql();
    spec["deletionPolicy"] = json!("Delete");
    spec["resources"]["requests"]["storage"] = json!("2Gi");
    bed.declare(name, spec).await;
    bed.condition(name, "Ready", "True").await;
    answers(
        "select count(*) from t",
        async || sql(&bed, name, "select count(*) from t").await,
        "1000",
    )
    .await;
    let claim = bed
        .child(Kind::PersistentVolumeClaim, "data-orders-g1-0")
        .await
        .expect("the volume");
    let volume = claim["spec"]["volumeName"].as_str().expect("bound").to_owned();

    bed.databases()
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone(name).await;
    assert!(
        bed.child(Kind::PersistentVolumeClaim, "data-orders-g1-0")
            .await
            .is_none()
    );
    eventually("the volume is gone", async || match bed.volume(&volume).await {
        None => Ok(()),
        Some(volume) => Err(volume["status"].to_string()),
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn the_life_of_a_redis() {
    let Some(bed) = bed_with_node("redis").await else {
        return;
    };
    let name = "cache";
    let operator = bed.operator(1);
    bed.declare(name, redis()).await;
    bed.condition(name, "Ready", "True").await;
    answers(
        "a value is written",
        async || redis_cli(&bed, name, "set k v").await,
        "OK",
    )
    .await;
    bed.edit(
        name,
        json!({"spec": {"configuration": {"parameters": {"maxmemory-policy": "allkeys-lru"}}}}),
    )
    .await;
    bed.condition(name, "Ready", "True").await;
    answers(
        "the value is still there",
        async || redis_cli(&bed, name, "get k").await,
        "v",
    )
    .await;

    // A lost administrator's Secret is made anew, and the engine takes it at a restart.
    let before = bed.child(Kind::Secret, "cache-admin").await.expect("the Secret")["data"].clone();
    bed.delete(Kind::Secret, "cache-admin").await;
    eventually("a new Secret", async || {
        match bed.child(Kind::Secret, "cache-admin").await {
            Some(secret) if secret["data"] != before => Ok(()),
            other => Err(format!("{}", other.is_some())),
        }
    })
    .await;
    bed.condition(name, "CredentialsInSync", "True").await;
    bed.condition(name, "Ready", "True").await;
    answers(
        "the new password works",
        async || redis_cli(&bed, name, "get k").await,
        "v",
    )
    .await;

    bed.databases()
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    bed.gone(name).await;
    bed.declare(name, redis()).await;
    bed.condition(name, "Ready", "True").await;
    answers(
        "the value outlived its Database",
        async || redis_cli(&bed, name, "get k").await,
        "v",
    )
    .await;
    operator.stop().await;
}
