//! `policy diff` of the real binary: from files, and about the Databases of a real API server.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use devcluster::{Identity, TestBed};
use expect_test::expect;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No more than this much storage.
const STORAGE: &str = r#"violations contains {
	"id": "limits.storage", "severity": "high", "action": "deny", "path": "spec.resources.requests.storage", "message": "no",
} if input.norm.requests.storage > 107374182400
"#;

/// No more than this much CPU in production.
const CPU: &str = r#"violations contains {
	"id": "limits.cpu", "severity": "high", "action": "deny", "path": "spec.resources.requests.cpu", "message": "no",
} if {
	input.norm.environment.name == "production"
	input.norm.requests.cpu > 2000
}
"#;

/// Cannot be asked about Databases that are called so.
const ODD: &str = r#"violations contains {
	"id": "limits.odd", "severity": "high", "action": "deny", "path": "spec", "message": "no",
} if {
	input.object.metadata.name == "odd"
	count(input.norm.requests.cpu) > 0
}
"#;

/// A rule about the very field by which it is tried whether other changes pass.
const KEEP: &str = r#"violations contains {
	"id": "limits.keep", "severity": "high", "action": "deny", "path": "spec.deletionPolicy", "message": "no",
} if input.object.spec.deletionPolicy == "Delete"
"#;

/// What these bundles own: the rest of `database` may be another one's.
const OWN: [&str; 3] = ["database/limits", "database/settings", "database/environment"];

/// Bundles in force and their successors, in a folder.
struct Bundles(TempDir);

impl Bundles {
    fn new() -> Self {
        let bundles = Self(TempDir::new().expect("a folder"));
        bundles.write("old", &[STORAGE]);
        bundles.write("new", &[CPU, ODD, KEEP]);
        bundles.write("both", &[STORAGE, CPU]);
        bundles
    }

    fn write(&self, name: &str, rules: &[&str]) {
        let folder = self.0.path().join(name).join("database");
        fs::create_dir_all(&folder).expect("a folder");
        let manifest = json!({"revision": name, "roots": OWN, "rego_version": 1}).to_string();
        fs::write(self.0.path().join(name).join(".manifest"), manifest).expect("written");
        let rules = format!("package database.limits\nimport rego.v1\n{}", rules.concat());
        fs::write(folder.join("limits.rego"), rules).expect("written");
        let settings = json!({"settings": {"default_environment": "development"}});
        fs::write(folder.join("data.json"), settings.to_string()).expect("written");
        for environment in ["production", "development"] {
            let level = folder.join("environment").join(environment);
            fs::create_dir_all(&level).expect("a folder");
            fs::write(level.join("data.json"), r#"{"settings": {}}"#).expect("written");
        }
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.path().join(name), text).expect("written");
        self.path(name)
    }
}

fn database(namespace: &str, name: &str, cpu: &str, storage: &str) -> Value {
    json!({
        "apiVersion": "intent.example.com/v1", "kind": "Database", "metadata": {"name": name, "namespace": namespace},
        "spec": {"engine": "redis", "version": "7.4", "resources": {
            "requests": {"cpu": cpu, "memory": "1Gi", "storage": storage}, "limits": {"cpu": cpu, "memory": "1Gi"},
        }},
    })
}

fn namespaces() -> [Value; 3] {
    let production = json!({"intent.example.com/environment": "production"});
    [("live", production), ("test", json!({})), ("many", json!({}))].map(
        |(name, labels)| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
    )
}

/// Of each kind of difference one, and some of none.
fn databases() -> Vec<Value> {
    let mut all = vec![
        database("live", "fine", "1", "10Gi"),
        database("live", "newly-denied", "4", "10Gi"),
        database("live", "other-rules", "4", "200Gi"),
        database("live", "newly-allowed", "1", "200Gi"),
        database("live", "odd", "1", "10Gi"),
        database("test", "not-of-production", "4", "10Gi"),
        database("test", "newly-allowed", "4", "200Gi"),
    ];
    let mut deletes = database("live", "deletes", "1", "10Gi");
    deletes["spec"]["deletionPolicy"] = json!("Delete");
    all.push(deletes);
    all.extend((0..12).map(|number| database("test", &format!("fine-{number}"), "2", "1Gi")));
    all
}

fn list(items: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()}).to_string()
}

const DIFFERENCES: [&str; 6] = [
    "live/deletes\tnewly denied\t+limits.keep spec.deletionPolicy\tother changes pass",
    "live/newly-allowed\tnewly allowed\t-limits.storage spec.resources.requests.storage",
    "live/newly-denied\tnewly denied\t+limits.cpu spec.resources.requests.cpu\tother changes pass",
    "live/odd\tnewly denied\t+PolicyError\tno change passes",
    "live/other-rules\tother rules\t+limits.cpu spec.resources.requests.cpu, -limits.storage spec.resources.requests.storage\t\
     other changes pass",
    "test/newly-allowed\tnewly allowed\t-limits.storage spec.resources.requests.storage",
];

struct Said {
    code: Option<i32>,
    printed: String,
    errors: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            printed: text(output.stdout),
            errors: text(output.stderr),
        }
    }

    /// Lines about Databases in order, and the last one.
    fn lines(&self) -> (Vec<&str>, &str) {
        let mut lines: Vec<&str> = self.printed.lines().collect();
        let last = lines
            .pop()
            .unwrap_or_else(|| panic!("nothing is printed: {}", self.errors));
        lines.sort_unstable();
        (lines, last)
    }
}

fn diff(arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_database-operator"));
    command.args(["policy", "diff"]).args(arguments).env_clear();
    Said::of(command.output().expect("it starts"))
}

#[test]
fn from_files() {
    let bundles = Bundles::new();
    let (old, new) = (bundles.path("old"), bundles.path("new"));
    let databases = bundles.file("databases.json", &list(databases()));
    let places = bundles.file("namespaces.json", &list(namespaces()));
    let said = diff(&[&old, &new, "--databases", &databases, &places]);
    assert_eq!((said.code, said.errors.as_str()), (Some(1), ""));
    let (lines, last) = said.lines();
    assert_eq!(lines, DIFFERENCES);
    expect!["20 Databases: 3 newly denied, 2 newly allowed, 1 denied by other rules, 14 as before; 1 could not be changed at all"]
        .assert_eq(last);

    // The other way round, two of them are denied again.
    let said = diff(&[&new, &old, "--databases", &databases, &places]);
    assert_eq!((said.code, said.lines().0.len()), (Some(1), 6));
    let said = diff(&[&old, &old, "--databases", &databases, &places]);
    assert_eq!((said.code, said.lines().0.len()), (Some(0), 0), "{}", said.errors);
    // Without labels nothing is production, and no Database is denied for its CPU.
    let said = diff(&[&old, &new, "--databases", &databases, "-o", "json"]);
    let report: Value = serde_json::from_str(&said.printed).expect("JSON");
    let counts = json!({"databases": 20, "newlyDenied": 2, "newlyAllowed": 3, "otherRules": 0, "stuck": 1});
    assert_eq!((said.code, &report["counts"]), (Some(1), &counts));
    assert_eq!(report["old"]["old"]["revision"], "old");
    let expected = json!({
        "namespace": "live", "name": "odd", "change": "newlyDenied", "newly": [{"id": "PolicyError", "path": ""}],
        "notAnyMore": [], "error": true, "unrelatedChangePasses": false,
    });
    assert!(
        report["databases"].as_array().expect("some").contains(&expected),
        "{report:#}"
    );
}

#[test]
fn several_bundles_together_and_an_exception() {
    let bundles = Bundles::new();
    let (old, both) = (bundles.path("old"), bundles.path("both"));
    let more = bundles.0.path().join("more/database/team/ours");
    fs::create_dir_all(&more).expect("a folder");
    let manifest = json!({"revision": "1", "roots": ["database/team/ours"], "rego_version": 1}).to_string();
    fs::write(bundles.0.path().join("more/.manifest"), manifest).expect("written");
    fs::write(more.join("data.json"), r#"{"settings": {}}"#).expect("written");
    let old = format!("{old},{}", bundles.path("more"));
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let exception = json!({
        "apiVersion": "intent.example.com/v1", "kind": "PolicyException", "metadata": {"name": "for-a-while"},
        "spec": {"rules": ["limits.cpu"], "selector": {"namespaces": ["live"]}, "reason": "r", "approver": "a",
            "expires": soon.to_string()},
    });
    let all = list(databases().into_iter().chain(namespaces()));
    let file = bundles.file("all.json", &all);
    let said = diff(&[&old, &both, "--databases", &file]);
    assert_eq!(said.code, Some(1), "{}", said.errors);
    let lines = said.lines().0;
    let expected = [
        "live/newly-denied\tnewly denied\t+limits.cpu spec.resources.requests.cpu\tother changes pass",
        "live/other-rules\tother rules\t+limits.cpu spec.resources.requests.cpu\tother changes pass",
    ];
    assert_eq!(lines, expected);
    let excepted = bundles.file("exceptions.json", &exception.to_string());
    let said = diff(&[&old, &both, "--databases", &file, &excepted]);
    assert_eq!((said.code, said.lines().0.len()), (Some(0), 0), "{}", said.printed);
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let bundles = Bundles::new();
    let (old, new) = (bundles.path("old"), bundles.path("new"));
    bundles.write("bad", &["violations contains"]);
    let (bad, empty) = (
        bundles.path("bad"),
        bundles.file("empty.yaml", "kind: Pod\n---\n- 1\n---\ntext\n"),
    );
    let good = bundles.file("good.json", &databases()[0].to_string());
    for (arguments, words) in [
        (&[old.as_str(), &bad, "--databases", &good][..], "limits.rego"),
        (&[&bad, &new, "--databases", &good], "limits.rego"),
        (&[&old, "not/there", "--databases", &good], "not/there: cannot be read"),
        (
            &[&old, &new, "--databases", "not/there.yaml"],
            "not/there.yaml: cannot be read",
        ),
        (&[&old, &new, "--databases", &empty], "there is no Database in"),
        (&[&old, &new], "--against-cluster|--databases"),
        (
            &[&old, &new, "--against-cluster", "--databases", &good],
            "cannot be used with",
        ),
        (
            &[&old, &new, "--databases", &good, "--namespace", "a"],
            "--against-cluster",
        ),
        (&[&old, ",", "--databases", &good], "PATH,PATH"),
    ] {
        let said = diff(arguments);
        assert_eq!((said.code, said.printed.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(said.errors.contains(words), "{words:?} is missing in: {}", said.errors);
    }
    // Odd ones are asked about, as they would be refused.
    let odd = bundles.file(
        "odd.yaml",
        "kind: Database\nspec: 7\n---\nkind: Database\nmetadata: {name: a}\n",
    );
    let said = diff(&[&old, &new, "--databases", &odd]);
    assert_eq!((said.code, said.lines().0.len()), (Some(0), 0), "{}", said.errors);
}

struct Server(TestBed);

impl Server {
    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.0.command("kubectl").expect("kubectl");
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        // One that was refused early has not read it all.
        let _ = pipe.write_all(input.as_bytes());
        drop(pipe);
        let Said { code, printed, errors } = Said::of(child.wait_with_output().expect("it ends"));
        if code == Some(0) { Ok(printed) } else { Err(errors) }
    }

    #[track_caller]
    fn must(&self, arguments: &[&str], input: &str) -> String {
        self.kubectl(arguments, input)
            .unwrap_or_else(|errors| panic!("kubectl {arguments:?}: {errors}"))
    }

    /// The definition of a resource of ours.
    fn define(&self, name: &str) {
        let definitions: Vec<Value> = api::crds();
        let found = definitions.iter().find(|crd| crd["metadata"]["name"] == name);
        self.must(
            &["apply", "--server-side", "-f", "-"],
            &found.expect("defined").to_string(),
        );
        let deadline = Instant::now() + Duration::from_mins(1);
        while let Err(errors) = self.kubectl(&["get", name], "") {
            assert!(Instant::now() < deadline, "{name} are not served: {errors}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn diff_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Said {
        let mut command = self
            .0
            .command(env!("CARGO_BIN_EXE_database-operator"))
            .expect("a command");
        command.args(["policy", "diff"]).args(arguments);
        command.arg("--against-cluster").env("KUBECONFIG", kubeconfig);
        Said::of(command.output().expect("it starts"))
    }
}

#[test]
fn against_a_real_cluster() {
    let Some(server) = TestBed::up("policydiff").map(Server) else {
        return;
    };
    let bundles = Bundles::new();
    let (old, new) = (bundles.path("old"), bundles.path("new"));
    let reader = server
        .0
        .kubeconfig_for(&Identity::new("reader", &[]))
        .expect("a kubeconfig");
    let said = server.diff_as(&server.0.kubeconfig(), &[&old, &new]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.errors.contains("databases.intent.example.com are not defined"),
        "{}",
        said.errors
    );
    server.define("databases.intent.example.com");
    server.must(&["create", "-f", "-"], &list(namespaces()));
    server.must(&["create", "-f", "-"], &list(databases()));

    whoever_may_not_read_is_told_what_to_ask_for(&server, &reader, [&old, &new]);
    let said = server.diff_as(&reader, &[&old, &new]);
    assert_eq!((said.code, said.errors.as_str()), (Some(1), ""));
    let (lines, last) = said.lines();
    assert_eq!((lines, last.starts_with("20 Databases: ")), (DIFFERENCES.into(), true));
    let said = server.diff_as(&reader, &[&old, &new, "--namespace", "test", "many"]);
    assert_eq!(
        (said.code, said.lines().0),
        (Some(0), DIFFERENCES[5..].into()),
        "{}",
        said.errors
    );

    the_same_from_what_kubectl_prints(&server, &bundles);
    more_than_one_page(&server, &reader, [&old, &new]);
    exceptions_count(&server, &reader, [&old, &bundles.path("both")]);
}

fn whoever_may_not_read_is_told_what_to_ask_for(server: &Server, reader: &Path, [old, new]: [&str; 2]) {
    for (verb, resource, group) in [
        ("list", "policyexceptions", "intent.example.com"),
        ("list", "databases", "intent.example.com"),
        ("get", "namespaces", ""),
    ] {
        let words = format!("{verb} {}", [resource, group].join(".").trim_end_matches('.'));
        let is_told = |said: &Said| said.errors.contains(&words) && said.errors.contains("forbidden");
        let said = server.diff_as(reader, &[old, new]);
        assert_eq!((said.code, said.printed.as_str()), (Some(2), ""), "{}", said.errors);
        assert!(is_told(&said), "{words:?}: {}", said.errors);
        let name = format!("reader-{resource}");
        let rbac = "rbac.authorization.k8s.io";
        let role = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}],
        });
        let binding = json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "reader"}],
        });
        server.must(&["create", "-f", "-"], &list([role, binding]));
        // The API server takes a moment to know.
        let deadline = Instant::now() + Duration::from_mins(1);
        while is_told(&server.diff_as(reader, &[old, new])) {
            assert!(Instant::now() < deadline, "{words:?} is still not permitted");
        }
    }
}

fn the_same_from_what_kubectl_prints(server: &Server, bundles: &Bundles) {
    let (old, new) = (bundles.path("old"), bundles.path("new"));
    let admin = server.0.kubeconfig();
    let of_cluster = server.diff_as(&admin, &[&old, &new, "-o", "json"]);
    let printed = server.must(&["get", "databases,namespaces", "-A", "-o", "yaml"], "");
    let file = bundles.file("all.yaml", &printed);
    let of_file = diff(&[&old, &new, "--databases", &file, "-o", "json"]);
    assert_eq!(
        (of_cluster.code, of_cluster.printed),
        (of_file.code, of_file.printed),
        "{}",
        of_file.errors
    );
}

/// A page holds 500.
fn more_than_one_page(server: &Server, reader: &Path, [old, new]: [&str; 2]) {
    let many = (0..1010).map(|number| database("many", &format!("fine-{number}"), "1", "1Gi"));
    server.must(&["create", "-f", "-"], &list(many));
    let said = server.diff_as(reader, &[old, new]);
    let (lines, last) = said.lines();
    assert_eq!(lines, DIFFERENCES);
    assert!(last.starts_with("1030 Databases: 3 newly denied"), "{last}");
}

fn exceptions_count(server: &Server, reader: &Path, [old, both]: [&str; 2]) {
    server.define("policyexceptions.intent.example.com");
    let said = server.diff_as(reader, &[old, both, "--namespace", "live"]);
    assert_eq!((said.code, said.lines().0.len()), (Some(1), 2), "{}", said.errors);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let exception = json!({
        "apiVersion": "intent.example.com/v1", "kind": "PolicyException", "metadata": {"name": "for-a-while"},
        "spec": {"rules": ["limits.cpu"], "selector": {"namespaces": ["live"], "databases": ["newly-denied"]},
            "reason": "it moves", "approver": "head of platform", "expires": soon.to_string()},
    });
    server.must(&["create", "-f", "-"], &exception.to_string());
    let said = server.diff_as(reader, &[old, both, "--namespace", "live"]);
    assert_eq!((said.code, said.lines().0.len()), (Some(0), 1), "{}", said.printed);
}
