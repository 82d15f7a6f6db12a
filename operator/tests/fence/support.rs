//! A control plane with the fence on it, and the two who write: the replica, and everybody else.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use planner::child::Kind;
use serde_json::{Value, json};

/// The user that all replicas are: the service account of `--service-account ops:database-operator`.
const REPLICA: [&str; 1] = ["--as=system:serviceaccount:ops:database-operator"];
/// Another user, who may do everything.
const SOMEBODY: [&str; 2] = ["--as=alice", "--as-group=system:masters"];
/// Namespace of all objects.
pub(crate) const NAMESPACE: &str = "shop";
/// Bucket of all objects.
pub(crate) const BUCKET: &str = "7";

const FENCE: &str = "intent.example.com/fence";
/// Label of a bucket.
pub(crate) const LABEL: &str = "intent.example.com/bucket";

/// What the API server said: what it printed, or why not.
pub(crate) type Answer = Result<String, String>;

/// What the binary prints.
pub(crate) fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_database-operator"));
    let output = command.args(arguments).env_clear().output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Tries until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// The control plane that this runs inside of, with those who write to it.
pub(crate) struct Server {
    kubeconfig: OsString,
}

impl Server {
    pub(crate) fn of_this_run() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG").expect("it leads to the test cluster"),
        }
    }

    fn kubectl(&self, user: &[&str], arguments: &[&str], input: &str) -> Answer {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(user)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        // One that was refused early has not read it all.
        let _ = pipe.write_all(input.as_bytes());
        drop(pipe);
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if status.success() {
            Ok(text(&stdout) + &text(&stderr))
        } else {
            Err(text(&stderr))
        }
    }

    /// As the administrator, who is not asked about.
    #[track_caller]
    pub(crate) fn must(&self, arguments: &[&str], input: &str) -> String {
        self.admin(arguments, input)
            .unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    pub(crate) fn admin(&self, arguments: &[&str], input: &str) -> Answer {
        self.kubectl(&[], arguments, input)
    }

    pub(crate) fn replica(&self) -> By<'_> {
        By(self, REPLICA.to_vec())
    }

    pub(crate) fn somebody(&self) -> By<'_> {
        By(self, SOMEBODY.to_vec())
    }
}

/// Somebody who writes.
pub(crate) struct By<'a>(&'a Server, Vec<&'static str>);

impl By<'_> {
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> Answer {
        self.0.kubectl(&self.1, arguments, input)
    }

    /// A POST.
    pub(crate) fn create(&self, object: &Value) -> Answer {
        self.kubectl(&["create", "-f", "-"], &object.to_string())
    }

    /// A POST that leaves nothing.
    pub(crate) fn try_create(&self, object: &Value) -> Answer {
        self.kubectl(&["create", "--dry-run=server", "-f", "-"], &object.to_string())
    }

    /// A server-side apply, as the operator makes it: by force to an object that it knows.
    pub(crate) fn apply(&self, object: &Value, known: bool) -> Answer {
        let force = format!("--force-conflicts={known}");
        let arguments = [
            "apply",
            "--server-side",
            "--field-manager=database-operator",
            &force,
            "-f",
            "-",
        ];
        self.kubectl(&arguments, &object.to_string())
    }

    /// A merge patch of `resource/name`.
    pub(crate) fn merge(&self, object: &str, change: &Value) -> Answer {
        let change = change.to_string();
        self.kubectl(&["patch", "-n", NAMESPACE, object, "--type=merge", "-p", &change], "")
    }

    /// A merge patch of the fence alone.
    pub(crate) fn stamp(&self, object: &str, fence: Option<&str>) -> Answer {
        self.merge(object, &json!({"metadata": {"annotations": {FENCE: fence}}}))
    }

    /// A merge patch of a status.
    pub(crate) fn status(&self, database: &str, status: &Value) -> Answer {
        let change = json!({"status": status}).to_string();
        let arguments = [
            "patch",
            "-n",
            NAMESPACE,
            "databases",
            database,
            "--subresource=status",
            "--type=merge",
            "-p",
            &change,
        ];
        self.kubectl(&arguments, "")
    }

    /// A DELETE of an object of this kind with these preconditions.
    pub(crate) fn delete(&self, kind: Kind, name: &str, preconditions: &Value) -> Answer {
        let (group, version, plural) = kind.resource();
        let root = if group.is_empty() {
            "api".to_owned()
        } else {
            format!("apis/{group}")
        };
        let path = format!("/{root}/{version}/namespaces/{NAMESPACE}/{plural}/{name}");
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": preconditions,
        });
        self.kubectl(&["delete", "--raw", &path, "-f", "-"], &options.to_string())
    }
}

/// The smallest object of a kind that the API server takes, with the bucket's label and a fence.
pub(crate) fn child(kind: Kind, name: &str, fence: Option<&str>) -> Value {
    let mut object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {LABEL: BUCKET}},
    });
    if let Some(fence) = fence {
        object["metadata"]["annotations"] = json!({FENCE: fence});
    }
    let pod = json!({"containers": [{"name": "database", "image": "none.invalid/none"}]});
    match kind {
        Kind::ServiceAccount | Kind::Secret | Kind::ConfigMap => {}
        Kind::ControllerRevision => {
            object["revision"] = json!(1);
            object["data"] = json!({"spec": {}});
        }
        Kind::Service => object["spec"] = json!({"ports": [{"port": 80}]}),
        Kind::PersistentVolumeClaim => {
            object["spec"] = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        }
        Kind::Pod => object["spec"] = pod,
        Kind::StatefulSet => {
            let labels = json!({"app": name, LABEL: BUCKET});
            object["spec"] = json!({
                "serviceName": name,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            });
        }
    }
    object
}

/// `resource/name`, as `kubectl` takes it.
pub(crate) fn named(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.resource().2)
}

#[track_caller]
pub(crate) fn accepted(answer: &Answer) {
    assert!(answer.is_ok(), "refused: {answer:?}");
}

/// Why, if there is no map. The API server has no other answer for it than 422.
pub(crate) const NO_MAP: &str = "no params found";

/// It must be the policy that refuses, not a missing permission or a malformed request. Where several policies refuse,
/// any of them may be the one that is named.
#[track_caller]
pub(crate) fn refused(answer: &Answer, why: &str) {
    match answer {
        Ok(printed) => panic!("accepted, though {why:?}: {printed}"),
        Err(said) => assert!(
            said.contains("ValidatingAdmissionPolicy 'database-operator-fence-")
                && said.contains(why)
                && (said.contains("forbidden") || why == NO_MAP),
            "{why:?} is missing in: {said}"
        ),
    }
}
