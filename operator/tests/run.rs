//! `run` of the real binary, against an API server that can say its version and nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Everything here takes milliseconds; a machine that is busy with other things gets this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves `/version` and refuses the rest; hands over the head of each request for a version.
fn api_server(minor: &str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (sender, requests) = channel();
    let version = serde_json::json!({
        "major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0"), "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
            while let Some(Ok(line)) = lines
                .next()
                .filter(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
            {
                head.push_str(&line);
                head.push('\n');
            }
            let (status, body) = if head.starts_with("GET /version ") {
                ("200 OK", version.to_string())
            } else {
                ("403 Forbidden", String::new())
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            // Whoever asked may be gone already, which is its own affair.
            if stream.write_all(answer.as_bytes()).is_ok() && status == "200 OK" && sender.send(head).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

fn kubeconfig(folder: &Path, server: SocketAddr) -> String {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: 'http://{server}'}}}}]\n\
         users: [{{name: test, user: {{}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    );
    fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// A running operator. Ends with the test.
struct Operator {
    child: Child,
    lines: Receiver<String>,
}

impl Operator {
    fn start(kubeconfig: &str) -> Self {
        Self::start_with(&[
            "--kubeconfig",
            kubeconfig,
            "--health-address",
            "127.0.0.1:0",
            "--member",
            "tester-0",
        ])
    }

    fn start_with(settings: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_database-operator"))
            .arg("run")
            .args(settings)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The first line from now on that holds `word`.
    #[track_caller]
    fn line_with(&self, word: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(word) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}: no line with {word:?} in {seen:#?}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already, as most tests make it do.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("killed");
            self.child.wait().expect("gone");
        }
    }
}

fn health_address(operator: &Operator) -> String {
    let line: serde_json::Value = serde_json::from_str(&operator.line_with("\"starting\"")).expect("JSON");
    line["health"].as_str().expect("the address").to_owned()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn it_connects_as_itself_serves_health_and_stops_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, requests) = api_server("36+");
        let mut operator = Operator::start(&kubeconfig(folder.path(), server));
        let health = health_address(&operator);
        let request = requests.recv_timeout(PATIENCE).expect("a request").to_lowercase();
        let expected = format!(
            "user-agent: database-operator/{} (tester-0)\n",
            env!("CARGO_PKG_VERSION")
        );
        assert!(request.contains(&expected), "{request}");
        operator.line_with("connected");
        assert!(get(&health, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(
            get(&health, "/readyz").starts_with("HTTP/1.1 503 "),
            "its caches cannot be complete"
        );
        let metrics = get(&health, "/metrics");
        assert!(metrics.contains("\nworkqueue_depth{name=\"database\",priority=\"user_change\"} 0\n"));
        operator.signal(signal);
        operator.line_with("stopping");
        operator.line_with("stopped");
        assert_eq!(operator.ended().code(), Some(0));
    }
}

#[test]
fn an_api_server_that_is_too_old_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _requests) = api_server("32");
    let mut operator = Operator::start(&kubeconfig(folder.path(), server));
    let line = operator.line_with("error: ");
    assert_eq!(
        line,
        "error: the API server is Kubernetes v1.32.0, the operator needs 1.33 or newer; upgrade the cluster"
    );
    assert_eq!(operator.ended().code(), Some(2));
}

#[test]
fn while_the_api_server_does_not_answer_it_is_alive_not_ready_and_can_be_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    // A port that nobody listens on: taken and given back.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("an address");
    let mut operator = Operator::start(&kubeconfig(folder.path(), nobody));
    let health = health_address(&operator);
    assert!(operator.line_with("trying again").contains(&nobody.to_string()));
    assert!(get(&health, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(&health, "/readyz").ends_with("\r\n\r\nwaiting for the API server\n"));
    operator.signal(Signal::SIGTERM);
    operator.line_with("stopped");
    assert_eq!(operator.ended().code(), Some(0));
}

#[test]
fn what_cannot_be_used_is_named_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _requests) = api_server("36");
    let kubeconfig = kubeconfig(folder.path(), server);
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let busy_address = busy.local_addr().expect("an address").to_string();
    let catalogue = folder.path().join("catalogue.yaml");
    fs::write(&catalogue, "oracle: []\n").expect("written");
    let catalogue = catalogue.to_str().expect("UTF-8");
    let free = "127.0.0.1:0";
    for (kubeconfig, health, more, words) in [
        (
            "/does/not/exist",
            free,
            &[][..],
            &["kubeconfig cannot be used", "/does/not/exist"][..],
        ),
        (
            &kubeconfig,
            free,
            &["--context", "other"],
            &["kubeconfig cannot be used", "other"],
        ),
        (
            &kubeconfig,
            free,
            &["--catalogue", "/does/not/exist"],
            &["catalogue /does/not/exist: cannot be read"],
        ),
        (&kubeconfig, free, &["--catalogue", catalogue], &[catalogue, "oracle"]),
        (&kubeconfig, &busy_address, &[], &[&busy_address, "--health-address"]),
    ] {
        let settings = [&["--kubeconfig", kubeconfig, "--health-address", health], more].concat();
        let mut operator = Operator::start_with(&settings);
        let line = operator.line_with("error: ");
        for word in words {
            assert!(line.contains(word), "{settings:?}: {word:?} is missing in: {line}");
        }
        assert_eq!(operator.ended().code(), Some(2), "{settings:?}");
    }
    drop(busy);
}
