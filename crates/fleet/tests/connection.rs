//! A connection whose other side cannot be heard any more, between two network namespaces: the server receives what is
//! sent, and no packet of it comes back. `kube`'s own client waits beside ours, or this would prove nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::Request;
use kube::{Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TEST: &str = "a_dead_connection_is_noticed";
/// Set for the runs inside of namespaces: `client` or `server`.
const SIDE: &str = "CONNECTION_SIDE";
const CLIENT: &str = "10.99.0.1";
const SERVER: &str = "10.99.0.2";
/// The server says this when it listens.
const LISTENS: &str = "server listens";
const BAR: Duration = Duration::from_secs(10);

#[test]
fn a_dead_connection_is_noticed() {
    match std::env::var(SIDE).as_deref() {
        Ok("server") => server(),
        Ok(_) => in_runtime(client()),
        Err(_) if !nix::unistd::geteuid().is_root() => devcluster::skip(TEST, "network namespaces need root"),
        Err(_) => {
            let status = in_namespace("client").status().expect("unshare");
            assert!(status.success());
        }
    }
}

fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("threads").block_on(work);
}

/// This test again, in a network namespace of its own.
fn in_namespace(side: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "setpriv", "--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST, "--nocapture"])
        .env(SIDE, side);
    command
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start() -> Self {
        let mut command = in_namespace("server");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        Self {
            input: process.stdin.take().expect("a pipe"),
            output: BufReader::new(process.stdout.take().expect("a pipe")),
            process,
        }
    }

    fn says(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert!(self.output.read_line(&mut line).expect("a line") > 0, "it ended");
        }
    }

    /// Runs `ip` with this.
    fn does(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("it listens");
        self.says("done");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does as it is told, and answers each request with one line of a watch, and then nothing.
fn server() {
    let commands = std::thread::spawn(|| {
        println!("in its namespace");
        for line in std::io::stdin().lines() {
            let line = line.expect("a line");
            if line == "listen" {
                std::thread::spawn(|| in_runtime(answer()));
            } else {
                ip(&line);
            }
            println!("done");
        }
    });
    commands.join().expect("no panic");
}

async fn answer() {
    let listener = TcpListener::bind((SERVER, 8080)).await.expect("its address");
    println!("{LISTENS}");
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await.expect("a request");
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
            stream.write_all(answer).await.expect("sent");
            // Until the other side ends it.
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        });
    }
}

/// Opens a watch, says that it has begun, and completes when it breaks.
async fn watch(client: &Client, begun: tokio::sync::oneshot::Sender<()>) {
    let request = Request::get("/apis/example/v1/things?watch=1").body(Vec::new());
    let answer = client
        .request_stream(request.expect("a request"))
        .await
        .expect("an answer");
    let mut lines = std::pin::pin!(answer.lines());
    lines.next().await.expect("a line").expect("no error");
    begun.send(()).expect("somebody waits");
    let end = lines.next().await;
    assert!(matches!(end, Some(Err(_))), "it breaks: {end:?}");
}

async fn client() {
    let mut server = Server::start();
    server.says("in its namespace");
    ip("link set lo up");
    ip(&format!(
        "link add client type veth peer name server netns {}",
        server.process.id()
    ));
    ip(&format!("address add {CLIENT}/24 dev client"));
    ip("link set client up");
    server.does(&format!("address add {SERVER}/24 dev server"));
    server.does("link set server up");
    server.does("listen");
    server.says(LISTENS);

    let config = Config::new(format!("http://{SERVER}:8080").parse().expect("a URL"));
    let clients = [
        fleet::connection::client(config.clone(), None, None).expect("a client"),
        Client::try_from(config).expect("a client"),
    ];
    let (mut watches, mut begun) = (Vec::new(), Vec::new());
    for client in &clients {
        let (begins, beginning) = tokio::sync::oneshot::channel();
        let client = client.clone();
        watches.push(tokio::spawn(async move { watch(&client, begins).await }));
        begun.push(beginning);
    }
    for begun in begun {
        begun.await.expect("it begins");
    }
    // Long enough for several questions that are answered.
    let lives = tokio::time::timeout(Duration::from_secs(7), &mut watches[0]).await;
    assert!(lives.is_err(), "a silent watch is no dead one");

    server.does(&format!("route add blackhole {CLIENT}/32"));
    let cut = Instant::now();
    let ours = tokio::time::timeout(BAR, &mut watches[0]).await;
    let noticed = cut.elapsed();
    assert!(ours.is_ok(), "a dead connection is not noticed in {BAR:?}");
    println!("noticed after {noticed:?}");
    let kubes = tokio::time::timeout(BAR, &mut watches[1]).await;
    assert!(kubes.is_err(), "that of kube has noticed it as well");

    server.does(&format!("route del blackhole {CLIENT}/32"));
    let (begins, beginning) = tokio::sync::oneshot::channel();
    let again = clients[0].clone();
    let again = tokio::spawn(async move { watch(&again, begins).await });
    tokio::time::timeout(BAR, beginning)
        .await
        .expect("in time")
        .expect("it is open again");
    again.abort();
}
