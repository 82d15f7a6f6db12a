//! A replica: a process of the real binary, behind a proxy of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use devcluster::Proxy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How many last lines of a log are shown.
const LINES: usize = 15;

/// The operator: that of this build, or another one, such as one that is optimised.
pub(crate) fn binary() -> OsString {
    std::env::var_os("REPLICAS_OPERATOR").unwrap_or_else(|| env!("CARGO_BIN_EXE_database-operator").into())
}

/// How replicas are run.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) shards: usize,
    /// Lease, renew deadline and retry period, in seconds.
    pub(crate) timings: [u64; 3],
    /// Of each StatefulSet.
    pub(crate) pods: u32,
}

impl Shape {
    /// The fast profile, without pods.
    pub(crate) fn fast(shards: usize) -> Self {
        let timings = [6, 4, 1];
        Self {
            shards,
            timings,
            pods: 0,
        }
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let [lease, deadline, retry] = self.timings;
        vec![
            format!("--shards={}", self.shards),
            format!("--lease-seconds={lease}"),
            format!("--renew-deadline-seconds={deadline}"),
            format!("--retry-period-seconds={retry}"),
            format!("--statefulset-replicas={}", self.pods),
        ]
    }
}

/// How long one that is to stop waits for others to take over.
pub(crate) const STOP_SECONDS: u64 = 8;

pub(crate) struct Replica {
    pub(crate) name: String,
    /// From its next start on.
    pub(crate) shape: Shape,
    pub(crate) proxy: Proxy,
    log: PathBuf,
    kubeconfig: PathBuf,
    /// By how much its wall clock is off, as libfaketime reads it; and that.
    clock: PathBuf,
    faketime: Option<PathBuf>,
    /// Where it is in this life, once its log says so, and what its log began with.
    health: Option<SocketAddr>,
    log_before: usize,
    process: Option<Child>,
    /// Of the lives that have ended, and of this one.
    reconciles: (u64, u64),
    /// Databases that waited for a worker when it was asked last.
    pub(crate) waiting: u64,
}

impl Replica {
    /// Not running yet. `kubeconfig` leads to the API server itself.
    pub(crate) fn new(name: &str, shape: Shape, kubeconfig: &Value, server: SocketAddr, folder: &Path) -> Self {
        let proxy = Proxy::start(server).expect("a free port");
        let mut kubeconfig = kubeconfig.clone();
        let cluster = &mut kubeconfig["clusters"][0]["cluster"];
        cluster["server"] = format!("https://{}", proxy.address()).into();
        cluster["tls-server-name"] = server.ip().to_string().into();
        let path = folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, kubeconfig.to_string()).expect("written");
        Self {
            name: name.to_owned(),
            shape,
            proxy,
            log: folder.join(format!("{name}.log")),
            kubeconfig: path,
            clock: folder.join(format!("{name}.clock")),
            faketime: None,
            health: None,
            log_before: 0,
            process: None,
            reconciles: (0, 0),
            waiting: 0,
        }
    }

    /// From its next start on its wall clock can be set, with this library.
    pub(crate) fn has_clock(&mut self, faketime: &Path) {
        self.faketime = Some(faketime.to_owned());
        self.set_clock(0);
    }

    /// Its wall clock is so many seconds ahead.
    pub(crate) fn set_clock(&self, seconds: i64) {
        let new = self.clock.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("written");
        // It is read at any time.
        fs::rename(&new, &self.clock).expect("renamed");
    }

    /// Must be called on a thread that stays: the kernel ends it with that, however the test ends.
    pub(crate) fn start(&mut self) {
        self.health = None;
        self.log_before = fs::read(&self.log).map_or(0, |log| log.len());
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary())
            .arg("run")
            .args(self.shape.arguments())
            .args(["--operator-namespace", "database-operator"])
            .arg(format!("--stop-seconds={STOP_SECONDS}"))
            .args([
                "--member",
                &self.name,
                "--health-address",
                "127.0.0.1:0",
                "--kubeconfig",
            ])
            .arg(&self.kubeconfig)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(faketime) = &self.faketime {
            command
                .env("LD_PRELOAD", faketime)
                .env("FAKETIME_TIMESTAMP_FILE", &self.clock)
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        self.process = Some(command.spawn().expect("it starts"));
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("sent");
    }

    /// Memory that it has in use now.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.expect("the kernel says it")
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("killed");
        let status = process.wait().expect("gone");
        assert_eq!(status.signal(), Some(9), "{} had ended before: {status}", self.name);
        self.has_ended();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().expect("a status")?;
        self.process = None;
        self.has_ended();
        Some(status)
    }

    fn has_ended(&mut self) {
        self.reconciles = (self.reconciles.0 + self.reconciles.1, 0);
    }

    /// Panics if it has ended though nobody asked it to.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended by itself, {status}: {}", self.name, self.last_lines());
        }
    }

    pub(crate) fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// All that it has done in all of its lives, as far as it could be asked.
    pub(crate) fn reconciles(&self) -> u64 {
        self.reconciles.0 + self.reconciles.1
    }

    /// It chooses its port itself: one that was free before it started may be taken by then.
    fn health_address(&self) -> Option<SocketAddr> {
        let log = fs::read(&self.log).ok()?;
        let log = String::from_utf8_lossy(log.get(self.log_before..)?).into_owned();
        let (_, rest) = log.split_once("\"health\":\"")?;
        rest.split_once('"')?.0.parse().ok()
    }

    /// Asks it how much it has done in this life.
    pub(crate) async fn count(&mut self) {
        if !self.is_up() {
            return;
        }
        if self.health.is_none() {
            self.health = self.health_address();
        }
        let Some(health) = self.health else { return };
        let page = tokio::time::timeout(Duration::from_millis(300), metrics(health)).await;
        if let Ok(Ok(page)) = page {
            let sum = |series: &str| {
                let values = page.lines().filter(|line| line.starts_with(series));
                values
                    .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
                    .sum()
            };
            self.reconciles.1 = sum("database_operator_reconciliation_total{");
            self.waiting = sum("workqueue_depth{");
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

async fn metrics(health: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(health).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {health}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
