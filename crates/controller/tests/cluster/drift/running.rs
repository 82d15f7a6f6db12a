//! Damage to the children of a PostgreSQL that runs.

use std::time::Duration;

use planner::child::Kind;
use planner::status::VOLUME_LEAVING;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::damages::Deed;
use super::deeds::{perform, unrepaired};
use super::lost::copy_of;
use crate::support::{Bed, bed_with_node, condition, eventually, postgresql};

/// A running PostgreSQL under the same kind of treatment.
struct Running<'a> {
    bed: &'a Bed,
    repairs: Vec<(Duration, String)>,
}

impl Running<'_> {
    /// Does a deed to a child, and measures until all that is ours is as it was.
    async fn damage(&mut self, kind: Kind, name: &str, what: &str, deed: Deed) {
        let child = (kind, name.to_owned());
        let before = self.bed.child(kind, name).await.expect("the child");
        let gone = matches!(deed, Deed::Delete);
        perform(self.bed, &child, &deed, "somebody")
            .await
            .expect("the deed is done");
        let since = Instant::now();
        loop {
            let now = self.bed.child(kind, name).await;
            let same = |now: &Value| now["metadata"]["uid"] == before["metadata"]["uid"];
            // What is deleted may still be there for a moment.
            let repaired = now
                .filter(|now| !(gone && same(now)))
                .is_some_and(|now| unrepaired(kind, name, &before, &now).is_none());
            if repaired {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{name}, {what}: never repaired"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.repairs.push((since.elapsed(), format!("{name}: {what}")));
    }

    async fn pod(&self) -> Value {
        self.bed.child(Kind::Pod, "orders-g1-0").await.unwrap_or_default()
    }

    async fn rows(&self) -> String {
        let script = "PGPASSWORD=$(cat /etc/database/admin/app-password) psql -X -A -t -v ON_ERROR_STOP=1 -h orders-rw -U app -d app -c 'select count(*) from t'";
        eventually("rows are counted", async || self.bed.exec("orders-g1-0", script).await)
            .await
            .trim()
            .to_owned()
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one database, damaged part by part")]
async fn every_child_of_a_running_postgresql_is_repaired_within_seconds_and_no_pod_restarts_for_it() {
    let Some(bed) = bed_with_node("drift-node").await else {
        return;
    };
    let operator = bed.operator(1);
    bed.declare("orders", postgresql()).await;
    bed.condition("orders", "Ready", "True").await;
    let script = "PGPASSWORD=$(cat /etc/database/admin/app-password) psql -X -v ON_ERROR_STOP=1 -h orders-rw -U app -d app -c 'create table if not exists t as select generate_series(1, 1000) as n'";
    eventually("rows are written", async || bed.exec("orders-g1-0", script).await).await;
    let mut running = Running {
        bed: &bed,
        repairs: Vec::new(),
    };
    let pod = running.pod().await["metadata"]["uid"].clone();

    let merge = |change: Value| Deed::Merge(change);
    running
        .damage(Kind::ServiceAccount, "orders", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::ServiceAccount,
            "orders",
            "a token mounted",
            merge(json!({"automountServiceAccountToken": true})),
        )
        .await;
    running
        .damage(Kind::Service, "orders-rw", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Service,
            "orders-rw",
            "another selector",
            merge(json!({"spec": {"selector": {"a": "b"}}})),
        )
        .await;
    running
        .damage(Kind::Service, "orders-pods", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Service,
            "orders-pods",
            "another port",
            merge(json!({"spec": {"ports": [{"name": "x", "port": 1}]}})),
        )
        .await;
    running
        .damage(Kind::ConfigMap, "orders-config", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::ConfigMap,
            "orders-config",
            "another file",
            merge(json!({"data": {"postgresql.conf": "port = 1"}})),
        )
        .await;
    running
        .damage(
            Kind::StatefulSet,
            "orders-g1",
            "another grace",
            merge(json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}})),
        )
        .await;
    running
        .damage(
            Kind::StatefulSet,
            "orders-g1",
            "rolled by its controller",
            merge(json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})),
        )
        .await;
    let volume = "data-orders-g1-0";
    running
        .damage(
            Kind::PersistentVolumeClaim,
            volume,
            "without bucket",
            merge(json!({"metadata": {"labels": {api::names::BUCKET_LABEL: null}}})),
        )
        .await;
    running
        .damage(
            Kind::PersistentVolumeClaim,
            volume,
            "another database",
            merge(json!({"metadata": {"labels": {api::names::DATABASE_LABEL: "x"}}})),
        )
        .await;
    running
        .damage(Kind::ControllerRevision, "orders-1", "deleted", Deed::Delete)
        .await;
    running
        .damage(
            Kind::Pod,
            "orders-g1-0",
            "without role",
            merge(json!({"metadata": {"labels": {api::names::ROLE_LABEL: null}}})),
        )
        .await;
    running
        .damage(
            Kind::Pod,
            "orders-g1-0",
            "another role",
            merge(json!({"metadata": {"labels": {api::names::ROLE_LABEL: "replica"}}})),
        )
        .await;
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(
        running.pod().await["metadata"]["uid"],
        pod,
        "no pod restarts because a child was damaged"
    );
    assert_eq!(running.rows().await, "1000");

    // Without the password nothing is restarted; with the copy it goes on.
    let admin = bed.child(Kind::Secret, "orders-admin").await.expect("the Secret");
    bed.delete(Kind::Secret, "orders-admin").await;
    bed.condition("orders", "CredentialsInSync", "False").await;
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(running.rows().await, "1000", "it serves on without its Secret");
    bed.create(&bed.children(Kind::Secret), copy_of(&admin)).await;
    bed.condition("orders", "CredentialsInSync", "True").await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.pod().await["metadata"]["uid"], pod);

    // With the StatefulSet the garbage collector takes its pod; it comes back on the same volume.
    running
        .damage(Kind::StatefulSet, "orders-g1", "deleted", Deed::Delete)
        .await;
    eventually("another pod", async || {
        let now = running.pod().await["metadata"]["uid"].clone();
        if now.is_string() && now != pod {
            Ok(())
        } else {
            Err(now.to_string())
        }
    })
    .await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.rows().await, "1000");

    // A deleted pod is its StatefulSet's to make again.
    let pod = running.pod().await["metadata"]["uid"].clone();
    bed.delete(Kind::Pod, "orders-g1-0").await;
    eventually("another pod", async || {
        let now = running.pod().await["metadata"]["uid"].clone();
        if now.is_string() && now != pod {
            Ok(())
        } else {
            Err(now.to_string())
        }
    })
    .await;
    bed.condition("orders", "Ready", "True").await;
    assert_eq!(running.rows().await, "1000");
    bed.settled(Duration::from_secs(2)).await;

    // A volume that is deleted while it is used cannot be saved by restarting: it is said, and the pod is left alone.
    let pod = running.pod().await["metadata"]["uid"].clone();
    bed.delete(Kind::PersistentVolumeClaim, volume).await;
    let leaving = bed.condition("orders", "StorageReady", "False").await;
    assert_eq!(condition(&leaving, "StorageReady")["reason"], VOLUME_LEAVING);
    bed.settled(Duration::from_secs(2)).await;
    assert_eq!(running.pod().await["metadata"]["uid"], pod);
    assert_eq!(running.rows().await, "1000");

    running.repairs.sort();
    let slowest = running.repairs.last().expect("repairs");
    println!(
        "{} repairs beside a running PostgreSQL, slowest {} ms ({})",
        running.repairs.len(),
        slowest.0.as_millis(),
        slowest.1
    );
    operator.stop().await;
}
