//! What stands between a client and the API server, for tests, and fails when it is told to: bytes are held back while
//! connections stay open, so that nobody is told of it.
//!
//! Nothing that was held back is lost: it arrives once it may, however late that is and whatever became of its sender.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What the server says so long after the client's last word is the event of a watch, and no answer.
const WATCH: Duration = Duration::from_secs(3);
/// A request that was held back is worked on for so long before the server is told that its client has gone: an API
/// server gives up what nobody waits for.
const GOES: Duration = Duration::from_secs(3);
/// Pieces that are on their way in one direction.
const ON_THE_WAY: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fault of its own, and all combine"
)]
struct State {
    /// Nothing passes to the server.
    no_requests: bool,
    /// Nothing passes to the client.
    no_answers: bool,
    /// No event of a watch passes.
    no_events: bool,
    /// Connections are closed, those that are open and new ones.
    away: bool,
    /// Nothing passes on connections of earlier generations.
    generation: u32,
    /// Everything takes so much longer, in each direction.
    delay: Duration,
}

/// A way to a server. Ends with all of its connections when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    answered: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Opens one on a free port of this machine. Needs a tokio runtime.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (state, shown) = watch::channel(State::default());
        let answered = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, shown, answered.clone()));
        Ok(Self {
            address,
            state,
            answered,
            _tasks: tasks,
        })
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have passed to clients.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// From now on nothing passes, or all does.
    pub fn cut(&self, cut: bool) {
        self.state.send_modify(|state| {
            state.no_requests = cut;
            state.no_answers = cut;
        });
    }

    /// From now on no request passes, or all do, those that were held back first.
    pub fn hold_requests(&self, hold: bool) {
        self.state.send_modify(|state| state.no_requests = hold);
    }

    /// From now on no answer passes, or all do.
    pub fn hold_answers(&self, hold: bool) {
        self.state.send_modify(|state| state.no_answers = hold);
    }

    /// From now on no event of a watch passes, while requests are answered; or all do.
    pub fn hold_events(&self, hold: bool) {
        self.state.send_modify(|state| state.no_events = hold);
    }

    /// From now on everything takes so much longer, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// From now on it is as if the API server had been stopped, or was started again.
    pub fn away(&self, away: bool) {
        self.state.send_modify(|state| state.away = away);
    }

    /// Nothing passes any more on the connections that are open now. New ones are as good as ever.
    pub fn stall_what_is_open(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: watch::Receiver<State>, answered: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let (mut state, answered) = (state.clone(), answered.clone());
        if state.borrow().away {
            continue;
        }
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let connection = Connection {
                generation: state.borrow().generation,
                asked: Arc::new(Mutex::new(Instant::now())),
                answered,
            };
            let up = connection.pass(Way::Up, from_client, to_server, state.clone());
            let down = connection.pass(Way::Down, from_server, to_client, state.clone());
            tokio::select! {
                ((), ()) = async { tokio::join!(up, down) } => {}
                _ = state.wait_for(|state| state.away) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

struct Connection {
    generation: u32,
    /// When the client said something last.
    asked: Arc<Mutex<Instant>>,
    answered: Arc<AtomicU64>,
}

/// When something came, and what; nothing: the end.
type Piece = (Instant, Vec<u8>);

impl Connection {
    async fn pass(&self, way: Way, from: OwnedReadHalf, to: OwnedWriteHalf, state: watch::Receiver<State>) {
        let (sender, pieces) = mpsc::channel(ON_THE_WAY);
        tokio::join!(self.read(way, from, sender), self.write(way, to, pieces, state));
    }

    async fn read(&self, way: Way, mut from: OwnedReadHalf, pieces: mpsc::Sender<Piece>) {
        loop {
            let mut bytes = vec![0; 16 * 1024];
            let read = tokio::select! {
                read = from.read(&mut bytes) => read.unwrap_or(0),
                // Nobody takes it any more.
                () = pieces.closed() => return,
            };
            if way == Way::Up && read > 0 {
                *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            bytes.truncate(read);
            if pieces.send((Instant::now(), bytes)).await.is_err() || read == 0 {
                return;
            }
        }
    }

    async fn write(
        &self,
        way: Way,
        mut to: OwnedWriteHalf,
        mut pieces: mpsc::Receiver<Piece>,
        mut state: watch::Receiver<State>,
    ) {
        let mut was_held = false;
        while let Some((came, bytes)) = pieces.recv().await {
            let delay = state.borrow().delay;
            if !delay.is_zero() {
                tokio::time::sleep_until(came + delay).await;
            }
            if !self.passes(way, came, *state.borrow()) {
                was_held = true;
                if state.wait_for(|state| self.passes(way, came, *state)).await.is_err() {
                    return;
                }
            }
            if bytes.is_empty() {
                // Also the end is held back.
                if was_held && way == Way::Up {
                    tokio::time::sleep(GOES).await;
                }
                let _ = to.shutdown().await;
                return;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            if way == Way::Down {
                let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.answered.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    fn passes(&self, way: Way, came: Instant, state: State) -> bool {
        let held = match way {
            Way::Up => state.no_requests,
            Way::Down => state.no_answers || state.no_events && self.is_event(came),
        };
        !held && state.generation == self.generation
    }

    fn is_event(&self, came: Instant) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        came.saturating_duration_since(asked) > WATCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with the next one, and tells what came.
    async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<Option<u8>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, came) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Ok(byte) = stream.read_u8().await {
                told.send(Some(byte)).unwrap();
                // Whoever asked may be gone.
                let _ = stream.write_u8(byte + 1).await;
            }
            told.send(None).unwrap();
        });
        (address, came)
    }

    #[tokio::test]
    async fn what_is_held_back_arrives_although_its_sender_has_gone() {
        let (address, mut came) = server().await;
        let proxy = Proxy::start(address).unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_u8(1).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 2);
        assert_eq!(came.recv().await, Some(Some(1)));
        proxy.hold_requests(true);
        client.write_u8(5).await.unwrap();
        drop(client);
        let early = tokio::time::timeout(Duration::from_millis(50), came.recv()).await;
        assert!(early.is_err(), "{early:?}");
        proxy.hold_requests(false);
        assert_eq!(came.recv().await, Some(Some(5)));
        let released = Instant::now();
        assert_eq!(came.recv().await, Some(None));
        assert!(released.elapsed() > GOES / 2, "its end comes later");
    }

    #[tokio::test]
    async fn an_answer_is_held_back_alone_and_a_delay_counts_once() {
        let (address, mut came) = server().await;
        let proxy = Proxy::start(address).unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.hold_answers(true);
        client.write_u8(1).await.unwrap();
        assert_eq!(came.recv().await, Some(Some(1)), "the request passes");
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_u8()).await;
        assert!(early.is_err(), "{early:?}");
        proxy.hold_answers(false);
        assert_eq!(client.read_u8().await.unwrap(), 2);
        proxy.delay(Duration::from_millis(100));
        let sent = Instant::now();
        client.write_u8(3).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 4);
        assert_eq!(proxy.answered(), 2);
        assert!(sent.elapsed() >= Duration::from_millis(200), "there and back");
    }
}
