//! A control plane of its own for each test, which runs itself again inside, where the API server is reachable.

use std::path::PathBuf;
use std::process::Command;

use devcluster::{BODIES_GROUP, Identity, TestBed};

use crate::place::USER;

/// Set for the run inside of the cluster: the audit log's path.
const INSIDE: &str = "REPLICAS_INSIDE";

/// What the run inside is told.
pub(crate) struct Setting {
    /// Of the replicas.
    pub(crate) kubeconfig: PathBuf,
    /// The same user; the audit log keeps nothing of what it sends.
    pub(crate) quiet_kubeconfig: PathBuf,
    pub(crate) audit_log: PathBuf,
    /// The API server's process.
    pub(crate) api_server: i32,
    /// For logs and what else the test writes.
    pub(crate) folder: PathBuf,
}

/// Runs `inside` in a cluster with so many simulated nodes. `again` is what to tell people how to repeat it.
pub(crate) fn in_a_cluster<F: Future<Output = ()>>(
    simulated_nodes: Option<u32>,
    again: &str,
    inside: impl FnOnce(Setting) -> F,
) {
    if let Some(log) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        return runtime.block_on(inside(Setting {
            kubeconfig: variable("REPLICAS_KUBECONFIG").into(),
            quiet_kubeconfig: variable("REPLICAS_QUIET_KUBECONFIG").into(),
            audit_log: log.into(),
            api_server: variable("REPLICAS_API_SERVER").parse().expect("a process id"),
            folder: variable("REPLICAS_FOLDER").into(),
        }));
    }
    // The test's full name.
    let thread = std::thread::current();
    let test = thread.name().expect("tests have threads of their names").to_owned();
    let short = test.rsplit("::").next().expect("a name");
    // Names of clusters are short.
    let initials: String = short.split('_').filter_map(|word| word.chars().next()).collect();
    let Some(bed) = TestBed::with_simulated_nodes(&initials, simulated_nodes) else {
        return;
    };
    let kubeconfig = |groups| bed.kubeconfig_for(&Identity::new(USER, groups)).expect("a kubeconfig");
    let quiet = kubeconfig(&[]);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{short}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    // Both may have the same path.
    let quiet_copy = folder.join("quiet.kubeconfig");
    std::fs::copy(quiet, &quiet_copy).expect("copied");
    let status = devcluster::status(bed.name()).expect("a status").expect("it runs");
    let server = status
        .components
        .iter()
        .find(|component| component.name == "kube-apiserver");
    // The run inside, and with it the replicas, ends with this thread.
    let mut command = bed.command("setpriv").expect("a command");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", &test, "--nocapture", "--include-ignored"])
        .env(INSIDE, bed.audit_log())
        .env("REPLICAS_KUBECONFIG", kubeconfig(&[BODIES_GROUP]))
        .env("REPLICAS_QUIET_KUBECONFIG", quiet_copy)
        .env("REPLICAS_API_SERVER", server.expect("an API server").pid.to_string())
        .env("REPLICAS_FOLDER", &folder);
    let status = command.status().expect("it can be run");
    if !status.success() {
        std::fs::copy(bed.audit_log(), folder.join("audit.log")).expect("copied");
    }
    assert!(status.success(), "failed; logs in {}; again: {again}", folder.display());
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// The library that sets the wall clock of one process, from the distribution's package: nothing is installed. To be
/// fetched before the run inside of the cluster, which reaches nothing else.
pub(crate) fn faketime() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libfaketime");
    std::fs::create_dir_all(&folder).expect("a folder");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(&folder).output().expect(program);
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let find = || run("find", &[".", "-name", "libfaketimeMT.so.1"]);
    if find().is_empty() {
        run("apt-get", &["download", "libfaketime"]);
        run("sh", &["-c", "dpkg-deb -x libfaketime_*.deb ."]);
    }
    folder.join(find().trim_end())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the run outside"))
}
