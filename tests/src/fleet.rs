//! A fleet of light clients: bare sockets that say hello, take what they are sent, acknowledge it, and come
//! back as the SDK does when their server is gone. Thousands of them fit into one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use switchback_core::wire::{ClientFrame, Hello, ServerFrame};
use switchback_core::{Follower, Reply, backoff_ms};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::wait::eventually;

/// Sockets that a fleet opens at the same time when it joins. Nothing holds it back when it comes again.
pub const OPENING_MAX: usize = 64;
/// How long connecting and shaking hands may take; the SDK waits as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A socket to a server.
pub type Socket = WebSocketStream<TcpStream>;

/// The library's default of 128 KiB per socket would measure the memory allocator.
pub fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(4 * 1024)
}

/// Raises the soft limit on open files to the hard one, which children inherit, and returns it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Where a client connects, and with which token.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The token.
    pub token: String,
}

impl Target {
    /// Opens a stream and says hello.
    pub async fn open(&self, hello: Hello) -> Result<Socket, Error> {
        let mut request = format!("ws://{}/api/v1/stream", self.address).into_client_request()?;
        let value = format!("Bearer {}", self.token).parse().expect("the token fits a header");
        request.headers_mut().insert("authorization", value);
        let socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        let config = Some(small_buffers());
        let opened = tokio_tungstenite::client_async_with_config(request, socket, config).await;
        let (mut socket, _) = opened?;
        say(&mut socket, &ClientFrame::Hello(hello)).await?;
        Ok(socket)
    }
}

async fn say(socket: &mut Socket, frame: &ClientFrame) -> Result<(), Error> {
    let text = serde_json::to_string(frame).expect("a frame can be written");
    socket.send(Message::text(text)).await
}

/// What happens to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This revision is in force.
    Has(u64),
    /// It has said so.
    Acked(u64),
    /// Its connection is gone, or none came about.
    Lost,
}

/// One client.
pub struct Client {
    target: Target,
    number: usize,
    follower: Follower,
    /// While it is `false`, nothing is acknowledged.
    acks: watch::Receiver<bool>,
}

impl Client {
    /// A client that has nothing yet.
    pub fn new(target: Target, number: usize, acks: watch::Receiver<bool>) -> Self {
        Self { target, number, follower: Follower::default(), acks }
    }

    /// Connects, follows, and comes back for ever, with the SDK's pauses: exponential with full jitter, short
    /// again once the server has spoken. `doors` limits the first attempt.
    pub async fn run(mut self, doors: Arc<Semaphore>, mut tell: impl FnMut(News)) {
        let mut door = doors.acquire_owned().await.ok();
        let mut attempt = 0;
        for connection in 0_u64.. {
            let mut hello = Hello {
                app: "fleet".to_owned(),
                app_version: Some("1.0".to_owned()),
                sdk: "light/1".to_owned(),
                instance: self.number.to_string(),
                ..Hello::default()
            };
            if let Some((epoch, revision)) = self.follower.position() {
                (hello.epoch, hello.revision) = (Some(epoch.to_owned()), Some(revision));
            }
            if let Ok(Ok(socket)) = timeout(CONNECT_TIMEOUT, self.target.open(hello)).await {
                door = None;
                if self.follow(socket, &mut tell).await {
                    attempt = 0;
                }
            }
            tell(News::Lost);
            let pause_ms = backoff_ms(attempt, draw(self.number as u64, connection));
            sleep(Duration::from_millis(pause_ms)).await;
            attempt += 1;
        }
        drop(door);
    }

    /// Until the connection ends; whether the server has spoken on it.
    async fn follow(&mut self, mut socket: Socket, tell: &mut impl FnMut(News)) -> bool {
        self.follower.on_connect();
        let (mut has_heard, mut owes_ack) = (false, false);
        loop {
            let may_ack = *self.acks.borrow_and_update();
            if let Some((epoch, revision)) =
                self.follower.position().filter(|_| owes_ack && may_ack)
            {
                let ack = ClientFrame::Ack { epoch: epoch.to_owned(), revision };
                if say(&mut socket, &ack).await.is_err() {
                    return has_heard;
                }
                owes_ack = false;
                tell(News::Acked(revision));
            }
            let message = tokio::select! {
                message = socket.next() => message,
                Ok(()) = self.acks.changed() => continue,
            };
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(_)) => continue,
                _ => return has_heard,
            };
            let Ok(frame) = serde_json::from_str::<ServerFrame>(&text) else { continue };
            let is_first = !std::mem::replace(&mut has_heard, true);
            if let ServerFrame::Goodbye { .. } = frame {
                return has_heard;
            }
            match self.follower.on_frame(&frame) {
                Reply::Apply => {
                    owes_ack = true;
                    tell(News::Has(self.follower.position().map_or(0, |(_, revision)| revision)));
                }
                Reply::Ask => {
                    if say(&mut socket, &ClientFrame::Ask).await.is_err() {
                        return has_heard;
                    }
                }
                Reply::Nothing => {
                    owes_ack |= is_first && frame.position() == self.follower.position();
                }
            }
        }
    }
}

/// A random number that is the same in every run: SplitMix64 (Sebastiano Vigna, public domain).
pub fn draw(client: u64, connection: u64) -> u32 {
    let mut mixed = (client << 20 | connection).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

#[derive(Default)]
struct Shared {
    has: Vec<AtomicU64>,
    acked: Vec<AtomicU64>,
    lost: AtomicUsize,
}

/// Clients that run as tasks of this process; they end when it is dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    acks: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Connects clients to targets in turn, and waits until each has acknowledged what it was sent.
    pub async fn connect(targets: &[Target], clients: usize) -> Self {
        let nothing = || (0..clients).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { has: nothing(), acked: nothing(), ..Shared::default() });
        let acks = watch::Sender::new(true);
        let doors = Arc::new(Semaphore::new(OPENING_MAX));
        let mut tasks = JoinSet::new();
        for (number, target) in (0..clients).zip(targets.iter().cycle()) {
            let client = Client::new(target.clone(), number, acks.subscribe());
            let shared = Arc::clone(&shared);
            let tell = move |news| match news {
                News::Has(revision) => shared.has[number].store(revision, Ordering::Release),
                News::Acked(revision) => shared.acked[number].store(revision, Ordering::Release),
                News::Lost => drop(shared.lost.fetch_add(1, Ordering::AcqRel)),
            };
            tasks.spawn(client.run(Arc::clone(&doors), tell));
        }
        let fleet = Self { shared, acks, _tasks: tasks };
        fleet.all_acked(1).await;
        fleet
    }

    /// From now on, what comes is put in force and not acknowledged; or acknowledged again, late.
    pub fn acknowledge(&self, acks: bool) {
        self.acks.send_replace(acks);
    }

    /// Waits until every client has this revision or a newer one in force.
    pub async fn all_have(&self, revision: u64) {
        reached("have", revision, &self.shared.has).await;
    }

    /// Waits until every client has acknowledged this revision or a newer one.
    pub async fn all_acked(&self, revision: u64) {
        reached("acknowledge", revision, &self.shared.acked).await;
    }

    /// Connections that were lost, or did not come about.
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Acquire)
    }
}

async fn reached(what: &str, revision: u64, by: &[AtomicU64]) {
    let clients = by.len();
    eventually(&format!("all {clients} clients {what} revision {revision}"), || async {
        by.iter().all(|one| one.load(Ordering::Acquire) >= revision).then_some(())
    })
    .await;
}
