//! The task that follows the server: connect, hello, apply, acknowledge, report; and come back.

mod apply;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use switchback_core::wire::{ClientFrame, Hello, ServerFrame};
use switchback_core::{Follower, Reply, backoff_ms};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::builder::BuildError;
use crate::counts::Pending;
use crate::saver::Wanted;
use crate::shared::{Shared, State};
use crate::transport::{ConnectError, Endpoint, Socket};

/// How long one frame may take to be written.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// After the server has refused the token: somebody may give it its rights back.
const REFUSED_RETRY: Duration = Duration::from_mins(1);
/// After a goodbye for ever.
const REVOKED_RETRY: Duration = Duration::from_mins(5);
/// The longest time that a server may send its clients away for, in milliseconds.
const GOODBYE_MS_MAX: u64 = 60 * 60 * 1000;
/// How often auth events are sent.
const EVENTS_EVERY: Duration = Duration::from_secs(1);
/// How often the time of the last word from the server is noted on disk.
const CONFIRM_EVERY: Duration = Duration::from_mins(1);

/// The rhythm of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) report_every: Duration,
    pub(crate) silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { report_every: Duration::from_secs(10), silence: Duration::from_secs(45) }
    }
}

pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) hello: Hello,
    pub(crate) timing: Timing,
    pub(crate) follower: Follower,
    pub(crate) saver: watch::Sender<Wanted>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// How a connection ended, and so when to come back.
enum End {
    Lost(String),
    Refused(String),
    Goodbye { reason: String, reconnect_after_ms: Option<u64> },
    Stopped,
}

/// Follows the server until the client is shut down or dropped.
pub(crate) async fn run(connection: Connection, writing: Option<JoinHandle<()>>) {
    let shared = Arc::clone(&connection.shared);
    let mut stop = connection.stop.clone();
    let mut task = Task {
        connection,
        pending: Pending::default(),
        retired: Vec::new(),
        confirmed_at: Instant::now(),
        has_heard: false,
        has_acked: false,
    };
    let mut attempt = 0;
    loop {
        let end = match task.connect().await {
            Ok(socket) => task.follow(socket).await,
            Err(end) => end,
        };
        if task.has_heard {
            attempt = 0;
            task.has_heard = false;
        }
        let draw = shared.clock.draw();
        let jitter = Duration::from_millis(backoff_ms(attempt, draw));
        attempt = attempt.saturating_add(1);
        let is_refused = matches!(end, End::Refused(_));
        let (wait, error) = match end {
            End::Stopped => break,
            End::Lost(error) => (jitter, error),
            End::Refused(error) => (REFUSED_RETRY + jitter, error),
            End::Goodbye { reason, reconnect_after_ms: Some(ms) } => {
                // Spread over as long as the server wants to be left alone.
                let ms = ms.min(GOODBYE_MS_MAX);
                let spread = Duration::from_millis((u64::from(draw) * (ms + 1)) >> 32);
                (Duration::from_millis(ms) + spread, format!("the server said goodbye: {reason}"))
            }
            End::Goodbye { reason, reconnect_after_ms: None } => {
                (REVOKED_RETRY + jitter, format!("the server said goodbye for good: {reason}"))
            }
        };
        tracing::warn!("flag server: {error}; next attempt in {} ms", wait.as_millis());
        task.on_away(&error, is_refused);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopped(&mut stop) => break, // also when the last handle is gone
        }
    }
    drop(task); // and with it the saver's sender: the saver ends when all is written
    if let Some(writing) = writing {
        writing.await.ok();
    }
    shared.progress.send_modify(|progress| {
        progress.status.live = false;
        progress.is_stopped = true;
    });
}

struct Task {
    connection: Connection,
    pending: Pending,
    /// States that a decision may still be counting in.
    retired: Vec<Arc<State>>,
    confirmed_at: Instant,
    /// The server has spoken on this connection.
    has_heard: bool,
    /// The client has said on this connection what it has.
    has_acked: bool,
}

impl Task {
    async fn connect(&mut self) -> Result<Socket, End> {
        let connection = &mut self.connection;
        let connected = tokio::select! {
            connected = connection.endpoint.connect() => connected,
            () = stopped(&mut connection.stop) => return Err(End::Stopped),
        };
        connected.map_err(|error| match error {
            ConnectError::Refused(_) => End::Refused(error.to_string()),
            _ => End::Lost(error.to_string()),
        })
    }

    async fn follow(&mut self, mut socket: Socket) -> End {
        self.connection.follower.on_connect();
        self.has_acked = false;
        let mut hello = self.connection.hello.clone();
        if let Some((epoch, revision)) = self.connection.follower.position() {
            hello.epoch = Some(epoch.to_owned());
            hello.revision = Some(revision);
        }
        if let Err(end) = send(&mut socket, &ClientFrame::Hello(hello)).await {
            return end;
        }
        let Timing { report_every, silence } = self.connection.timing;
        let mut reports = interval(report_every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = interval(EVENTS_EVERY);
        events.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.connection.stop.clone();
        let mut deadline = Instant::now() + silence;
        loop {
            let answer = tokio::select! {
                message = tokio::time::timeout_at(deadline, socket.next()) => match message {
                    Err(_) => Err(End::Lost("the server is silent".to_owned())),
                    Ok(None) => Err(End::Lost("the connection was closed".to_owned())),
                    Ok(Some(Err(error))) => Err(End::Lost(error.to_string())),
                    Ok(Some(Ok(message))) => {
                        deadline = Instant::now() + silence;
                        self.on_message(&mut socket, message).await
                    }
                },
                _ = reports.tick() => self.report(&mut socket).await,
                _ = events.tick() => self.send_events(&mut socket).await,
                () = stopped(&mut stop) => Err(End::Stopped),
            };
            if let Err(end) = answer {
                if matches!(end, End::Stopped) {
                    self.send_events(&mut socket).await.ok(); // the last ones, if the server is there
                    self.report(&mut socket).await.ok();
                }
                timeout(SEND_TIMEOUT / 10, socket.close(None)).await.ok();
                return end;
            }
        }
    }

    async fn on_message(&mut self, socket: &mut Socket, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(_) => {
                // The answer is queued already; without this it would wait for the next write.
                return flush(socket).await;
            }
            Message::Close(_) => return Err(End::Lost("the server closed the connection".into())),
            _ => return Ok(()),
        };
        let frame: ServerFrame = match ServerFrame::read(&text) {
            Ok(frame) => frame,
            Err(error) => {
                self.on_unreadable(&error);
                return Ok(());
            }
        };
        self.has_heard = true;
        if let ServerFrame::Goodbye { reason, reconnect_after_ms } = frame {
            return Err(End::Goodbye { reason, reconnect_after_ms });
        }
        if let ServerFrame::Values(_) = frame {
            self.connection.shared.progress.send_modify(|progress| progress.is_browser = true);
            return Err(End::Refused(BuildError::BrowserToken.to_string()));
        }
        if let ServerFrame::Notice(notice) = frame {
            self.connection.shared.notices.send(Arc::new(notice)).ok(); // nobody may be listening
            return Ok(());
        }
        let reply = self.connection.follower.on_frame(&frame);
        let is_confirmed = frame.position() == self.connection.follower.position();
        match reply {
            Reply::Apply => {
                if self.apply(frame).await.is_err() {
                    self.connection.follower.on_lost();
                    return send(socket, &ClientFrame::Ask).await;
                }
                self.on_confirmed();
                self.acknowledge(socket).await
            }
            Reply::Ask => send(socket, &ClientFrame::Ask).await,
            Reply::Nothing => {
                // Old news from a lagging relay says nothing about what is in force here.
                if is_confirmed {
                    self.on_confirmed();
                    // A server that was started anew does not know what this client has had all along.
                    if !self.has_acked {
                        return self.acknowledge(socket).await;
                    }
                }
                Ok(())
            }
        }
    }

    async fn acknowledge(&mut self, socket: &mut Socket) -> Result<(), End> {
        let Some((epoch, revision)) = self.connection.follower.position() else { return Ok(()) };
        self.has_acked = true;
        send(socket, &ClientFrame::Ack { epoch: epoch.to_owned(), revision }).await
    }

    /// Sends the auth events that wait.
    async fn send_events(&mut self, socket: &mut Socket) -> Result<(), End> {
        loop {
            let waiting = &self.connection.shared.auth_events;
            let batch = waiting.take_batch();
            if batch.is_empty() {
                return Ok(());
            }
            let frame = ClientFrame::Events { events: batch };
            let sent = send(socket, &frame).await;
            if let (Err(_), ClientFrame::Events { events }) = (&sent, frame) {
                waiting.put_back(events);
            }
            sent?;
        }
    }

    /// Sends what was counted since the last report.
    async fn report(&mut self, socket: &mut Socket) -> Result<(), End> {
        self.gather();
        loop {
            let batch = self.pending.take_batch();
            if batch.is_empty() {
                return Ok(());
            }
            let frame = ClientFrame::Report { counts: batch };
            let sent = send(socket, &frame).await;
            if let (Err(_), ClientFrame::Report { counts }) = (&sent, frame) {
                self.pending.put_back(counts);
            }
            sent?;
        }
    }
}

/// Shut down, or no handle is left.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

async fn send(socket: &mut Socket, frame: &ClientFrame) -> Result<(), End> {
    let text = serde_json::to_string(frame).map_err(|error| End::Lost(error.to_string()))?;
    match timeout(SEND_TIMEOUT, socket.send(Message::text(text))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(error.to_string())),
        Err(_) => Err(End::Lost("the server takes nothing more".to_owned())),
    }
}

async fn flush(socket: &mut Socket) -> Result<(), End> {
    match timeout(SEND_TIMEOUT, socket.flush()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(error.to_string())),
        Err(_) => Err(End::Lost("the server takes nothing more".to_owned())),
    }
}
