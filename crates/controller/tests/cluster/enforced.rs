//! Policies as the real program enforces them: by its webhook, in its reconciles, with its log of decisions.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kube::Config;
use policy::log::{Filter, Reader};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::program::{Program, program};
use crate::support::{Bed, condition, database, eventually, postgresql, real_bed};

/// Rules that quote what they should not: one warns, one denies.
const RULES: &str = r#"
package database.loud

import rego.v1

violations contains v if {
	parameters := object.get(input, ["object", "spec", "configuration", "parameters"], {})
	count(parameters) > 0
	v := {
		"id": "loud.quoted", "severity": "low", "action": "warn", "path": "spec.configuration.parameters",
		"message": sprintf("these are not nice: %v", [parameters]),
	}
}

violations contains v if {
	input.norm.requests.storage > 5368709120
	parameters := object.get(input, ["object", "spec", "configuration", "parameters"], {})
	v := {
		"id": "loud.storage", "severity": "high", "action": "deny", "path": "spec.resources.requests.storage",
		"message": sprintf("more than 5Gi, and %v", [parameters]),
	}
}
"#;

fn policies(folder: &Path) {
    let database = folder.join("database");
    std::fs::create_dir_all(&database).expect("a folder");
    let manifest = r#"{"revision": "loud-1", "roots": ["database"], "rego_version": 1}"#;
    std::fs::write(folder.join(".manifest"), manifest).expect("written");
    std::fs::write(database.join("loud.rego"), RULES).expect("written");
}

/// Runs kubectl; whether it succeeded, and all that it said.
async fn kubectl(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl is on the PATH");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn must(arguments: &[&str], input: &str) {
    let (done, said) = kubectl(arguments, input).await;
    assert!(done, "kubectl {arguments:?}: {said}");
}

/// Where the API server reaches this network: it sends nothing to a loopback address.
fn own_address(config: &Config) -> IpAddr {
    let host = config.cluster_url.host().and_then(|host| host.parse::<IpAddr>().ok());
    host.filter(|address| !address.is_loopback()).unwrap_or_else(|| {
        // Sends nothing: it only chooses the address from which something would be sent.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("192.0.2.1:9").expect("a network");
        socket.local_addr().expect("an address").ip()
    })
}

/// Registers the program's webhook, for this namespace only, as an installer would.
async fn register(bed: &Bed, address: SocketAddr) {
    let printed = Command::new(program())
        .arg("webhook")
        .output()
        .await
        .expect("it starts");
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    let mut documents: Vec<Value> = serde_yaml::from_multiple(&printed).expect("YAML");
    let mut registration = documents.pop().expect("the registration");
    let mut service = documents.pop().expect("the Service");
    registration["webhooks"][0]["namespaceSelector"] =
        json!({"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}});
    // The program is no pod here.
    service["spec"].as_object_mut().expect("an object").remove("selector");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "database-operator-tests", "namespace": "database-operator",
            "labels": {"kubernetes.io/service-name": "database-operator"},
        },
        "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    });
    for object in [service, slice, registration] {
        must(&["apply", "--server-side", "-f", "-"], &object.to_string()).await;
    }
}

async fn unregister() {
    let all = [
        "delete",
        "--ignore-not-found",
        "-n",
        "database-operator",
        "validatingwebhookconfiguration/database-operator",
        "service/database-operator",
        "endpointslice/database-operator-tests",
    ];
    must(&all, "").await;
}

/// The address of the webhook, from the log.
async fn webhook(program: &Program, ip: IpAddr) -> SocketAddr {
    let port = eventually("the webhook says where it listens", async || {
        let said = program.said();
        let line = said.lines().find(|line| line.contains("\"webhook\""));
        let line: Option<Value> = line.and_then(|line| serde_json::from_str(line).ok());
        let address = line.as_ref().and_then(|line| {
            let text = line["address"].as_str().or(line["fields"]["address"].as_str());
            text?.parse::<SocketAddr>().ok()
        });
        address.map(|address| address.port()).ok_or(said)
    })
    .await;
    SocketAddr::new(ip, port)
}

fn declared(name: &str, storage: &str, secret: &str) -> Value {
    let mut spec = postgresql();
    spec["resources"]["requests"]["storage"] = storage.into();
    spec["configuration"]["parameters"] = json!({"shop.note": secret});
    database(name, spec)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "it is one story: what is declared, refused, recorded, and looked for"
)]
async fn what_policies_refuse_is_refused_told_and_recorded_without_what_they_quote() {
    let Some(bed) = real_bed("enforced").await else { return };
    let folder = std::env::temp_dir().join(&bed.namespace);
    policies(&folder.join("loud"));
    let store = folder.join("decisions.db");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let further = [
        "--policies",
        &path(&folder.join("loud")),
        "--decision-log",
        &path(&store),
        "--https-address",
        "0.0.0.0:0",
    ];
    let mut program = Program::start_with(&bed, 0, &further);
    let config = Config::infer().await.expect("KUBECONFIG leads to the test cluster");
    let address = webhook(&program, own_address(&config)).await;
    register(&bed, address).await;
    let secret = format!("planted-{}", std::process::id());
    let apply = ["apply", "-n", &bed.namespace, "-f", "-"];

    // The API server learns of the webhook and its authority a moment later.
    let big = declared("big", "6Gi", &secret).to_string();
    let dry = ["apply", "-n", &bed.namespace, "--dry-run=server", "-f", "-"];
    let refused = eventually("the webhook refuses", async || match kubectl(&dry, &big).await {
        (false, said) if said.contains("loud.storage") => Ok(said),
        (_, said) => Err(said),
    })
    .await;
    assert!(
        refused.contains("spec.resources.requests.storage: more than 5Gi") && !refused.contains(&secret),
        "{refused}"
    );
    let (done, said) = kubectl(&apply, &big).await;
    assert!(
        !done && said.contains("loud.storage") && !said.contains(&secret),
        "{said}"
    );
    let (done, said) = kubectl(&apply, &declared("small", "1Gi", &secret).to_string()).await;
    assert!(
        done && said.contains("Warning: ") && said.contains("loud.quoted") && !said.contains(&secret),
        "{said}"
    );
    bed.condition("small", "Applied", "True").await;
    let small = bed.condition("small", "PolicyAllowed", "True").await;
    let told = condition(&small, "PolicyAllowed")["message"]
        .as_str()
        .expect("words")
        .to_owned();
    assert!(told.contains("loud.quoted") && told.contains("[masked]"), "{told}");

    // Without the webhook the reconcile refuses.
    unregister().await;
    eventually("the API server asks no more", async || {
        match kubectl(
            &["apply", "-n", &bed.namespace, "-f", "-"],
            &declared("big", "6Gi", &secret).to_string(),
        )
        .await
        {
            (true, _) => Ok(()),
            (false, said) => Err(said),
        }
    })
    .await;
    let big = bed.condition("big", "PolicyAllowed", "False").await;
    let told = condition(&big, "PolicyAllowed")["message"]
        .as_str()
        .expect("words")
        .to_owned();
    assert!(told.contains("loud.storage"), "{told}");

    let mut reader = Reader::of_file(&store);
    let records = eventually("all decisions are kept", async || {
        let page = reader.page(&Filter::default()).map_err(|error| error.to_string())?;
        let records: Vec<Value> = page.entries.iter().map(|entry| json!(entry.record)).collect();
        let of = |source: &str, name: &str, verdict: &str| {
            records.iter().any(|record| {
                record["source"] == source && record["resource"]["name"] == name && record["verdict"] == verdict
            })
        };
        let all = of("admission", "big", "deny")
            && of("admission", "small", "warn")
            && of("reconcile", "small", "warn")
            && of("reconcile", "big", "deny");
        if all {
            Ok(records)
        } else {
            Err(json!(records).to_string())
        }
    })
    .await;
    assert!(records.iter().any(|record| record["dryRun"] == true));
    // The first question may have come before there were policies.
    let mut decided = records.iter().filter(|record| record["verdict"] != "error");
    assert!(decided.all(|record| record["bundles"]["loud"]["revision"] == "loud-1"));
    let events = bed.api("events.k8s.io", "v1", "Event", "events");
    let events = events
        .list(&kube::api::ListParams::default())
        .await
        .expect("they can be listed");
    for (place, text) in [
        ("the records", json!(records).to_string()),
        ("the log", program.said()),
        ("the metrics", program.metrics().await),
        ("a status", small["status"].to_string()),
        ("a status", big["status"].to_string()),
        ("the events", json!(events).to_string()),
    ] {
        assert!(!text.contains(&secret), "{place}: {text}");
    }
    assert!(
        program.said().contains("\"decided\""),
        "each decision is a line of the log"
    );
    let metrics = program.metrics().await;
    let value = |series: &str| {
        let found = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let found = found.unwrap_or_else(|| panic!("no {series}: {metrics}"));
        found.parse::<u64>().expect("a whole number")
    };
    for (series, is_zero) in [
        ("policy_decisions_total{source=\"admission\",verdict=\"deny\"}", false),
        ("webhook_answers_total{outcome=\"denied\"}", false),
        ("webhook_answers_total{outcome=\"warned\"}", false),
        ("webhook_answers_total{outcome=\"odd\"}", true),
        ("webhook_answer_duration_seconds_count", false),
        ("webhook_shed_total{reason=\"policies\"}", true),
        ("https_connections_total{outcome=\"accepted\"}", false),
        ("https_connections_total{outcome=\"refused\"}", true),
        ("https_certificate_trouble{trouble=\"missing\"}", true),
        ("https_certificate_trouble{trouble=\"not_accepted\"}", true),
        ("https_certificate_trouble{trouble=\"failing\"}", true),
        ("decision_queries_total{result=\"ok\"}", true),
    ] {
        assert_eq!(
            value(&format!("database_operator_{series}")) == 0,
            is_zero,
            "{series}: {metrics}"
        );
    }
    let now = u64::try_from(jiff::Timestamp::now().as_second()).expect("it is later than 1970");
    let ends = |name: &str| {
        value(&format!(
            "database_operator_https_certificate_end_timestamp_seconds{{certificate=\"{name}\"}}"
        ))
    };
    assert!(now < ends("shown") && ends("shown") < ends("authority"), "{metrics}");

    ends_in_order(&mut program, address).await;
    std::fs::remove_dir_all(&folder).expect("it goes");
}

/// Its Lease is given back at once; the webhook goes on for a while and ends after that, and the process last.
async fn ends_in_order(program: &mut Program, address: SocketAddr) {
    program.terminate().await;
    let opened = async {
        let mut opened = 0_u32;
        while TcpStream::connect(address).await.is_ok() {
            opened += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        opened
    };
    let (opened, well) = tokio::join!(opened, program.ended());
    let said = program.said();
    assert!(well && opened > 0, "{opened} times: {said}");
    let place = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    let places = [
        "stopping: finishing what is in flight",
        "leaving the fleet",
        "the webhook is served no more",
        "\"stopped\"",
    ]
    .map(place);
    assert!(places.is_sorted(), "{said}");
}
