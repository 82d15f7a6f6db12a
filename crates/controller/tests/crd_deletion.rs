//! The definition of Databases is deleted under twenty of them, and nobody loses data.
//!
//! It disturbs every other test in the same cluster, so it runs only when it is told that it may
//! (`TEST_MAY_DELETE_CRD=true`), last in `make test`, and puts the definition back at its end.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use api::names;
use controller::Settings;
use engines::catalogue::Catalogue;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};
use sharding::Epoch;
use telemetry::Telemetry;
use tokio::time::Instant;

/// Databases under which it is deleted.
const DATABASES: usize = 20;
/// How long anything may take before the test gives up.
const DEADLINE: Duration = Duration::from_mins(2);

/// Says loudly why nothing is proved here. With `CI=true` and a cluster, that is a failure.
fn skip(reason: &str) {
    let on_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !(on_ci && std::env::var_os("TEST_AUDIT_LOG").is_some()),
        "CI=true and there is a cluster, but {reason}"
    );
    // Not `eprintln!`, which is swallowed when a test passes.
    let message = format!("\n########## SKIPPED crd_deletion: {reason} ##########\n\n");
    std::io::stderr()
        .write_all(message.as_bytes())
        .expect("standard error is open");
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

/// Waits until `look` says yes, and fails with its last no.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < give_up, "never: {what}. Last seen: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn put_definition() {
    let mut child = tokio::process::Command::new("kubectl")
        .args(["apply", "--server-side", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kubectl is on the PATH");
    let mut stdin = child.stdin.take().expect("piped");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, api::crd_yaml().as_bytes())
        .await
        .expect("sent");
    drop(stdin);
    assert!(
        child.wait().await.expect("it ends").success(),
        "the definition is put back"
    );
}

/// Name, uid and data of all objects of a kind.
async fn kept(api: &Api<DynamicObject>, wanted: impl Fn(&str) -> bool) -> Vec<(String, Value, Value)> {
    let all = api.list(&ListParams::default()).await.expect("they can be listed");
    let mut kept: Vec<(String, Value, Value)> = all
        .items
        .into_iter()
        .map(|object| {
            (
                object.metadata.name.unwrap_or_default(),
                json!([object.metadata.uid, object.metadata.deletion_timestamp.is_some()]),
                object.data["data"].clone(),
            )
        })
        .filter(|(name, ..)| wanted(name))
        .collect();
    kept.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    kept
}

/// Lets go of Databases that other tests left in namespaces of their own: nobody looks after those any more, and each
/// would hold up the end of the definition.
async fn release_leftovers(admin: &Client, ours: &str) {
    let resource = resource(names::GROUP, names::KIND, names::PLURAL);
    let everywhere: Api<DynamicObject> = Api::all_with(admin.clone(), &resource);
    let all = everywhere
        .list(&ListParams::default())
        .await
        .expect("Databases can be listed");
    for database in all.items {
        let namespace = database.metadata.namespace.expect("it is in a namespace");
        if namespace != ours {
            let api: Api<DynamicObject> = Api::namespaced_with(admin.clone(), &namespace, &resource);
            let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let name = database.metadata.name.expect("it has a name");
            api.patch(&name, &PatchParams::default(), &release)
                .await
                .expect("released");
        }
    }
}

/// Newer than the epochs of whatever map there is: those follow Unix time.
const NEWEST: Epoch = Epoch(u32::MAX as u64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
async fn the_definition_deleted_under_twenty_databases_loses_no_volume_and_no_password() {
    if std::env::var("TEST_MAY_DELETE_CRD").as_deref() != Ok("true") {
        return skip("TEST_MAY_DELETE_CRD is not true");
    }
    let Ok(operator) = std::env::var("TEST_OPERATOR_KUBECONFIG") else {
        return skip("there is no test cluster (TEST_OPERATOR_KUBECONFIG is not set); run `make test`");
    };
    let admin =
        Client::try_from(Config::infer().await.expect("KUBECONFIG leads to the test cluster")).expect("a client");
    let kubeconfig = Kubeconfig::read_from(&operator).expect("the operator's kubeconfig can be read");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a configuration");

    let namespace = format!("crd-deletion-{}", std::process::id());
    let namespaces: Api<DynamicObject> = Api::all_with(admin.clone(), &resource("", "Namespace", "namespaces"));
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    namespaces
        .create(
            &PostParams::default(),
            &serde_json::from_value(object).expect("a namespace"),
        )
        .await
        .expect("made");
    let api = |group: &str, kind: &str, plural: &str| -> Api<DynamicObject> {
        Api::namespaced_with(admin.clone(), &namespace, &resource(group, kind, plural))
    };
    let databases = api(names::GROUP, names::KIND, names::PLURAL);
    let (volumes, secrets) = (
        api("", "PersistentVolumeClaim", "persistentvolumeclaims"),
        api("", "Secret", "secrets"),
    );
    let is_admin = |name: &str| name.ends_with("-admin");

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let settings = Settings {
        namespaces: vec![namespace.clone()],
        workers: 16,
        member: "test".to_owned(),
        catalogue: Arc::new(Catalogue::builtin()),
        max_restarting: 10,
        replicas: 0,
        queue: workqueue::Limits::default(),
        deadline: Duration::from_mins(1),
        desk: None,
        patience: Duration::from_secs(30),
    };
    let telemetry = Telemetry::new("test", Duration::from_mins(1)).expect("series can be registered");
    let client = Client::try_from(config).expect("a client for the operator");
    let operator = tokio::spawn(controller::run(
        client,
        settings,
        fleet::alone(NEWEST),
        telemetry,
        stopped,
    ));

    for number in 0..DATABASES {
        // Even a Database whose end would take its data with it ends so only when it is itself deleted by its owner.
        let (engine, version) = if number % 2 == 0 {
            ("postgresql", "15")
        } else {
            ("redis", "7.2")
        };
        let policy = if number % 4 < 2 { "Retain" } else { "Delete" };
        let manifest = json!({
            "apiVersion": names::API_VERSION, "kind": names::KIND, "metadata": {"name": format!("db{number}")},
            "spec": {"engine": engine, "version": version, "deletionPolicy": policy, "resources": {"requests": {"storage": "1Gi"}}},
        });
        databases
            .create(
                &PostParams::default(),
                &serde_json::from_value(manifest).expect("a Database"),
            )
            .await
            .expect("declared");
    }
    eventually("all are applied", async || {
        let all = databases
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let applied = |database: &&DynamicObject| {
            let conditions = database.data["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions
                .iter()
                .any(|condition| condition["type"] == "Applied" && condition["status"] == "True")
        };
        let count = all.items.iter().filter(applied).count();
        if count == DATABASES {
            Ok(())
        } else {
            Err(format!("{count} of {DATABASES}"))
        }
    })
    .await;
    let before = (kept(&volumes, |_| true).await, kept(&secrets, is_admin).await);
    assert_eq!((before.0.len(), before.1.len()), (DATABASES, DATABASES));

    release_leftovers(&admin, &namespace).await;
    let definitions: Api<DynamicObject> = Api::all_with(
        admin.clone(),
        &resource(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        ),
    );
    let since = Instant::now();
    definitions
        .delete(names::CRD_NAME, &DeleteParams::default())
        .await
        .expect("deleted");
    eventually(
        "every finalizer lets go, and the definition goes",
        async || match definitions.get_opt(names::CRD_NAME).await.expect("it can be read") {
            None => Ok(()),
            Some(definition) => Err(definition.data["status"]["conditions"].to_string()),
        },
    )
    .await;
    println!(
        "the definition and {DATABASES} Databases were gone after {} ms",
        since.elapsed().as_millis()
    );
    // The garbage collector has seen that their owners are gone when what they own goes.
    let sets = api("apps", "StatefulSet", "statefulsets");
    eventually("what is owned goes with its owner", async || {
        let left = sets
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?
            .items
            .len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} StatefulSets"))
        }
    })
    .await;
    let after = (kept(&volumes, |_| true).await, kept(&secrets, is_admin).await);
    assert_eq!(
        after, before,
        "no volume and no administrator's Secret is lost, whatever the policy"
    );

    // The definition is put back, and the same running operator finds the same data again.
    put_definition().await;
    eventually("a Database can be declared again", async || {
        let manifest = json!({
            "apiVersion": names::API_VERSION, "kind": names::KIND, "metadata": {"name": "db0"},
            "spec": {"engine": "postgresql", "version": "15", "resources": {"requests": {"storage": "1Gi"}}},
        });
        let object = serde_json::from_value(manifest).expect("a Database");
        databases
            .create(&PostParams::default(), &object)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .await;
    let since = Instant::now();
    eventually("it is applied again", async || {
        let database = databases
            .get_opt("db0")
            .await
            .map_err(|error| error.to_string())?
            .map(|database| database.data)
            .unwrap_or_default();
        let conditions = database["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let applied = conditions
            .iter()
            .any(|condition| condition["type"] == "Applied" && condition["status"] == "True");
        if applied { Ok(()) } else { Err(database.to_string()) }
    })
    .await;
    println!(
        "the running operator took the first one up again after {} ms",
        since.elapsed().as_millis()
    );
    let after = (kept(&volumes, |_| true).await, kept(&secrets, is_admin).await);
    assert_eq!(after, before, "it is the same volume and the same password");

    databases
        .delete("db0", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("it is gone", async || {
        let left = databases.get_opt("db0").await.map_err(|error| error.to_string())?;
        if left.is_none() {
            Ok(())
        } else {
            Err("still there".to_owned())
        }
    })
    .await;
    stop.send_replace(true);
    operator.await.expect("the operator ends without a panic");
    namespaces
        .delete(&namespace, &DeleteParams::default())
        .await
        .expect("deleted");
}
