//! That no secret is anywhere but in Secrets.
//!
//! The operator is the real program with its real log, at its most talkative that is meant for people. Values are planted
//! and looked for, as they are and as base64, in everything that somebody without access to Secrets may read.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::api::{DeleteParams, ListParams};
use planner::child::Kind;
use planner::status::ENGINE_REFUSES;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Bed, condition, database, eventually, postgresql, real_bed, real_bed_with_node, redis};

/// The program, which `make test` builds before the tests: it lies beside the folder of this one.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let program = this
        .parent()
        .and_then(|folder| folder.parent())
        .expect("a folder")
        .join("database-operator");
    assert!(
        program.exists(),
        "{} is not there: cargo build -p database-operator",
        program.display()
    );
    program
}

/// The real operator, and everything that it has said so far.
struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    catalogue: PathBuf,
}

impl Program {
    fn start(bed: &Bed, replicas: u32) -> Self {
        let catalogue = std::env::temp_dir().join(format!("{}-catalogue.yaml", bed.namespace));
        let mut file = std::fs::File::create(&catalogue).expect("a file can be made");
        file.write_all(crate::support::catalogue().as_bytes()).expect("written");
        let mut child = Command::new(program())
            .args([
                "run",
                "--health-address",
                "127.0.0.1:0",
                "--log-filter",
                "debug",
                "--log-format",
                "json",
            ])
            .args([
                "--namespaces",
                &bed.namespace,
                "--statefulset-replicas",
                &replicas.to_string(),
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig())
            .args(["--member", &bed.namespace])
            // The one before did not hand over.
            .args([
                "--lease-seconds",
                "6",
                "--renew-deadline-seconds",
                "4",
                "--retry-period-seconds",
                "1",
            ])
            .arg("--catalogue")
            .arg(&catalogue)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (into, stderr) = (log.clone(), child.stderr.take().expect("piped"));
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = into.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, catalogue }
    }

    fn said(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of its metrics.
    async fn metrics(&self) -> String {
        let address = eventually("the operator says where it listens", async || {
            let said = self.said();
            let starting = said
                .lines()
                .find(|line| line.contains("\"starting\""))
                .map(str::to_owned);
            let line: Option<Value> = starting.and_then(|line| serde_json::from_str(&line).ok());
            let find = |line: &Value| {
                line["health"]
                    .as_str()
                    .or(line["fields"]["health"].as_str())
                    .map(str::to_owned)
            };
            line.as_ref().and_then(find).ok_or(said)
        })
        .await;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answered");
        text
    }

    /// What `plan --against-cluster` prints about a manifest, on both of its outputs.
    async fn plan(&self, bed: &Bed, manifest: &Value, format: &str) -> String {
        let mut child = Command::new(program())
            .args([
                "plan",
                "-f",
                "-",
                "--against-cluster",
                "-n",
                &bed.namespace,
                "-o",
                format,
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig())
            .arg("--catalogue")
            .arg(&self.catalogue)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(manifest.to_string().as_bytes()).await.expect("sent");
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        assert_ne!(
            output.status.code(),
            Some(2),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        let _ = self.child.start_kill();
        let _ = std::fs::remove_file(&self.catalogue);
    }
}

fn kubeconfig() -> String {
    std::env::var("TEST_OPERATOR_KUBECONFIG").expect("there is a cluster")
}

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
