//! The real program, as it is installed, with its real log.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Bed, eventually};

/// The program, which `make test` builds before the tests: it lies beside the folder of this one.
pub(crate) fn program() -> PathBuf {
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
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    catalogue: PathBuf,
}

impl Program {
    pub(crate) fn start(bed: &Bed, replicas: u32) -> Self {
        Self::start_with(bed, replicas, &[])
    }

    /// With further arguments.
    pub(crate) fn start_with(bed: &Bed, replicas: u32, further: &[&str]) -> Self {
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
            .args(further)
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

    pub(crate) fn said(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop, as a kubelet does.
    pub(crate) async fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await;
        assert!(sent.expect("there is kill").success());
    }

    /// Completes when it has ended; whether it did well.
    pub(crate) async fn ended(&mut self) -> bool {
        self.child.wait().await.expect("it can be waited for").success()
    }

    /// The text of its metrics.
    pub(crate) async fn metrics(&self) -> String {
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
    pub(crate) async fn plan(&self, bed: &Bed, manifest: &Value, format: &str) -> String {
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

pub(crate) fn kubeconfig() -> String {
    std::env::var("TEST_OPERATOR_KUBECONFIG").expect("there is a cluster")
}
