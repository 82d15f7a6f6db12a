//! What stands between a member and the API server, and fails when it is told to: bytes are held back while connections
//! stay open, so that nobody is told of it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Nothing passes.
    cut: bool,
    /// Connections are closed, those that are open and new ones.
    away: bool,
    /// Nothing passes on connections of earlier generations.
    generation: u32,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    /// Dropped with the proxy, and all connections with it.
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("nonblocking");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (state, shown) = watch::channel(State::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, shown));
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// From now on nothing passes, or all does. What was held back is not lost.
    pub(crate) fn cut(&self, cut: bool) {
        self.state.send_modify(|state| state.cut = cut);
    }

    /// From now on it is as if the API server had been stopped, or was started again.
    pub(crate) fn away(&self, away: bool) {
        self.state.send_modify(|state| state.away = away);
    }

    /// Nothing passes any more on the connections that are open now. New ones are as good as ever.
    pub(crate) fn stall_what_is_open(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let mut state = state.clone();
        if state.borrow().away {
            continue;
        }
        connections.spawn(async move {
            let generation = state.borrow().generation;
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let up = pass(from_client, to_server, state.clone(), generation);
            let down = pass(from_server, to_client, state.clone(), generation);
            tokio::select! {
                ((), ()) = async { tokio::join!(up, down) } => {}
                _ = state.wait_for(|state| state.away) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, generation: u32) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        let passes = |state: &State| !state.cut && state.generation == generation;
        if state.wait_for(passes).await.is_err() {
            return;
        }
        if read == 0 {
            // Also the end is held back.
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
