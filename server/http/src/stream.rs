//! The stream: one WebSocket per client, one small task each. The task only ever wants the newest:
//! what a slow socket missed is folded into the next frame.
//!
//! There are as many of these tasks as clients, so what each holds and does is kept small: rare parts
//! are boxed, frames are shared bytes, a timer is set only for a socket that does not take one at once.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session,
};
use bytestring::ByteString;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use switchback_app::live::client::read_ack;
use switchback_app::live::feed::{Membership, Next, Wake, render};
use switchback_app::live::{Client, Feed, Snapshot};
use switchback_app::{App, EVERYWHERE};
use switchback_core::Context;
use switchback_core::model::{Document, Millis, Revision};
use switchback_core::wire::{ClientFrame, EVENTS_MAX, Hello, ServerFrame};
use switchback_store::{TokenKind, TokenRow};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::State;
use super::auth::Sdk;

const FRAME_BYTES_MAX: usize = 64 * 1024;
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A client that says nothing for this many heartbeats is gone.
const SILENT_HEARTBEATS_MAX: u32 = 3;
/// How soon a client may come back after a shutdown, in milliseconds; it adds jitter.
const COME_BACK_MS: u64 = 500;

/// `GET /api/v1/stream`: opens the stream of an SDK token.
pub async fn open_stream(
    request: HttpRequest,
    body: web::Payload,
    app: web::Data<State>,
    sdk: Sdk,
) -> Result<HttpResponse, actix_web::Error> {
    if app.hub.connected() >= app.hub.limits().clients_max {
        let mut answer = HttpResponse::ServiceUnavailable();
        answer.insert_header((header::RETRY_AFTER, "10"));
        return Ok(answer.body("this node holds as many clients as it may; try another"));
    }
    let (mut response, session, messages) = actix_ws::handle(&request, body)?;
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    if offered.and_then(|value| value.to_str().ok()).is_some_and(|o| o.contains("switchback.v1")) {
        let chosen = header::HeaderValue::from_static("switchback.v1");
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    let messages = messages
        .max_frame_size(FRAME_BYTES_MAX)
        .aggregate_continuations()
        .max_continuation_size(MESSAGE_BYTES_MAX);
    let stream = Box::new(Opened { app: Arc::clone(&app.0), token: sdk.0, session, messages });
    actix_web::rt::spawn(serve(stream));
    Ok(response)
}

/// Why a stream ends.
enum End {
    /// The client left, or its socket broke.
    Gone,
    /// It did not take a frame in time, or said nothing for too long.
    TooSlow,
    /// It is told why, and when to come back.
    Goodbye(&'static str, Option<u64>),
}

/// A stream before its hello.
struct Opened {
    app: Arc<App>,
    token: TokenRow,
    session: Session,
    messages: AggregatedMessageStream,
}

/// What is to be written next.
enum Out {
    Frame(ByteString),
    Ping,
    Pong(Bytes),
}

struct Stream {
    app: Arc<App>,
    session: Session,
    messages: AggregatedMessageStream,
    member: Membership,
    /// The epoch and revision last sent.
    sent: Option<(String, Revision)>,
    sent_at: Millis,
    notices_seen: u64,
    /// A browser's context; values are evaluated for it.
    context: Option<Box<switchback_core::ContextBody>>,
    /// Filled by what happens, emptied before anything else may happen: it never holds more than a
    /// frame, a ping and the notices of one wake.
    out: VecDeque<Out>,
}

async fn serve(opened: Box<Opened>) {
    // Joining may read the database; its large future is gone before the long life begins.
    let Some(mut stream) = Box::pin(join(opened)).await else { return };
    stream.member.feed.on_client_moved();
    let end = stream.follow().await;
    Box::pin(leave(stream, end)).await;
}

async fn leave(stream: Box<Stream>, end: End) {
    let Stream { app, session, member, .. } = *stream;
    let feed = Arc::clone(&member.feed);
    drop(member);
    feed.on_client_moved();
    say_goodbye(&app, session, end).await;
}

async fn say_goodbye(app: &App, mut session: Session, end: End) {
    if let End::TooSlow = end {
        app.metrics.sockets_dropped.inc();
    }
    if let End::Goodbye(reason, reconnect_after_ms) = end {
        let frame = ServerFrame::Goodbye { reason: reason.to_owned(), reconnect_after_ms };
        let _ = timeout(Duration::from_secs(1), session.text(render(&frame))).await;
    }
    let close = CloseReason { code: CloseCode::Normal, description: None };
    let _ = timeout(Duration::from_secs(1), session.close(Some(close))).await;
}

/// Waits for the hello and takes a place in the feed. Whoever cannot be given one is told so.
async fn join(opened: Box<Opened>) -> Option<Box<Stream>> {
    let Opened { app, token, session, mut messages } = *opened;
    let joined = match timeout(HELLO_WITHIN, hello(&mut messages)).await {
        Ok(Ok(hello)) => take_place(&app, &token, hello).await,
        Ok(Err(end)) => Err(end),
        Err(_) => Err(End::Goodbye("bad_request", Some(COME_BACK_MS))),
    };
    match joined {
        Ok(Place { member, sent, context, now }) => Some(Box::new(Stream {
            app,
            session,
            messages,
            member,
            sent,
            sent_at: now,
            notices_seen: 0,
            context,
            out: VecDeque::new(),
        })),
        Err(end) => {
            say_goodbye(&app, session, end).await;
            None
        }
    }
}

async fn hello(messages: &mut AggregatedMessageStream) -> Result<Hello, End> {
    loop {
        match messages.next().await {
            Some(Ok(AggregatedMessage::Text(text))) => {
                return match serde_json::from_str(&text) {
                    Ok(ClientFrame::Hello(hello)) => Ok(hello),
                    _ => Err(End::Goodbye("bad_request", None)),
                };
            }
            Some(Ok(AggregatedMessage::Ping(_) | AggregatedMessage::Pong(_))) => {}
            _ => return Err(End::Gone),
        }
    }
}

/// What a hello leads to.
struct Place {
    member: Membership,
    sent: Option<(String, Revision)>,
    context: Option<Box<switchback_core::ContextBody>>,
    now: Millis,
}

async fn take_place(app: &App, token: &TokenRow, hello: Hello) -> Result<Place, End> {
    let project = (token.project != EVERYWHERE).then_some(token.project.as_str());
    let feed: Arc<Feed> = match app.hub.feed(&token.environment, project).await {
        Ok(feed) => feed,
        Err(error) => {
            tracing::warn!(error = %error, "a client cannot be served yet");
            return Err(End::Goodbye("unavailable", Some(4 * COME_BACK_MS)));
        }
    };
    let now = app.clock.now();
    let is_browser = token.kind == TokenKind::Browser;
    let kind = if is_browser { "browser" } else { "server" };
    let id = app.hub.next_client_id();
    let member = feed.join(Client::new(id, token.id.clone(), kind, &hello, now));
    if app.is_revoked(&token.id) {
        return Err(End::Goodbye("revoked", None));
    }
    let context = is_browser.then(|| Box::new(hello.context.unwrap_or_default()));
    if let Some(context) = &context {
        app.contexts.note(&token.environment, &Context::from(&**context));
    }
    Ok(Place {
        member,
        sent: hello.epoch.zip(hello.revision).filter(|_| !is_browser),
        context,
        now,
    })
}

impl Stream {
    async fn follow(&mut self) -> End {
        let heartbeat = Duration::from_millis(self.app.hub.limits().heartbeat_ms);
        let mut tick = interval_at(Instant::now() + heartbeat, heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let client = Arc::clone(&self.member.client);
        let mut closed = pin!(client.closed());
        let mut wake = self.member.feed.subscribe();
        wake.mark_changed();
        loop {
            let waiting = self.until_wake(&mut wake, closed.as_mut(), &mut tick);
            if let Err(end) = waiting.await {
                return end;
            }
            let seen = *wake.borrow_and_update();
            self.on_wake(seen);
            if let Err(end) = self.write().await {
                return end;
            }
        }
    }

    /// Deals with what the client says and with heartbeats until the feed wakes. Acknowledgements are
    /// most of it, and none of them costs a new place in the feed's queue.
    async fn until_wake(
        &mut self,
        wake: &mut watch::Receiver<Wake>,
        mut closed: Pin<&mut impl Future<Output = ()>>,
        tick: &mut Interval,
    ) -> Result<(), End> {
        let mut changed = pin!(wake.changed());
        loop {
            tokio::select! {
                biased;
                () = &mut closed => return Err(self.closing()),
                changed = &mut changed => return changed.map_err(|_| End::Gone),
                message = self.messages.next() => self.on_message(message)?,
                _ = tick.tick() => self.on_heartbeat(tick.period())?,
            }
            self.write().await?;
        }
    }

    /// Why it is asked to close.
    fn closing(&self) -> End {
        if self.app.stopping.load(Ordering::Relaxed) {
            End::Goodbye("shutdown", Some(COME_BACK_MS))
        } else {
            End::Goodbye("revoked", None)
        }
    }

    fn on_wake(&mut self, wake: Wake) {
        let snapshot = self.member.feed.current();
        let document = &snapshot.document;
        if self.context.is_some() {
            let is_new = self.sent.as_ref().is_none_or(|(epoch, revision)| {
                *epoch != document.epoch || *revision != document.revision
            });
            if is_new {
                let frame = self.values(&snapshot);
                self.on_sending(document, document.revision);
                self.out.push_back(Out::Frame(frame));
            }
        } else {
            let has = self.sent.as_ref().map(|(epoch, revision)| (epoch.as_str(), *revision));
            match snapshot.next_for(has) {
                Next::Frame(frame, revision) => {
                    self.on_sending(document, revision);
                    self.out.push_back(Out::Frame(frame));
                }
                // A client that comes back with the newest hears so, and can acknowledge it.
                Next::Nothing if self.member.client.acked() == 0 => {
                    self.out.push_back(Out::Frame(snapshot.heartbeat()));
                }
                Next::Nothing => {}
            }
        }
        if wake.notices > self.notices_seen {
            let now = self.app.clock.now();
            let (frames, newest) = self.member.feed.notices_after(self.notices_seen, now);
            self.notices_seen = newest;
            self.out.extend(frames.into_iter().map(Out::Frame));
        }
    }

    /// Notes what the client will have.
    fn on_sending(&mut self, document: &Document, to: Revision) {
        match &mut self.sent {
            Some((epoch, revision)) if *epoch == document.epoch => *revision = to,
            other => *other = Some((document.epoch.clone(), to)),
        }
    }

    /// What a browser may see: one decision per flag, for its context.
    fn values(&self, snapshot: &Snapshot) -> ByteString {
        let body = self.context.as_deref().cloned().unwrap_or_default();
        snapshot.values(&body.to_context(self.app.clock.now(), self.draw()))
    }

    /// A draw that stays the same for the life of the connection.
    fn draw(&self) -> u32 {
        (self.member.client.id as u32).wrapping_mul(0x9E37_79B9)
    }

    fn on_heartbeat(&mut self, every: Duration) -> Result<(), End> {
        let silent_ms = self.app.clock.now() - self.member.client.last_seen_at();
        let limit_ms = every.as_millis() as i64 * i64::from(SILENT_HEARTBEATS_MAX);
        if silent_ms > limit_ms {
            return Err(End::TooSlow);
        }
        let snapshot = self.member.feed.current();
        if self.context.is_some() && snapshot.expires_between(self.sent_at, self.app.clock.now()) {
            self.out.push_back(Out::Frame(self.values(&snapshot))); // a browser cannot see it by itself
        }
        self.out.extend([Out::Frame(snapshot.heartbeat()), Out::Ping]);
        Ok(())
    }

    fn on_message(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>,
    ) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::Gone) };
        let now = self.app.clock.now();
        self.member.client.on_sign_of_life(now);
        match message {
            AggregatedMessage::Text(text) => {
                if let Some((epoch, revision)) = read_ack(&text) {
                    self.on_ack(epoch, revision, now);
                } else if let Ok(frame) = serde_json::from_str(&text) {
                    self.on_frame(frame, now);
                } // else a frame of a later SDK; what it does not know it does not need
            }
            AggregatedMessage::Ping(bytes) => self.out.push_back(Out::Pong(bytes)),
            AggregatedMessage::Close(_) => return Err(End::Gone),
            AggregatedMessage::Binary(_) | AggregatedMessage::Pong(_) => {}
        }
        Ok(())
    }

    fn on_ack(&self, epoch: &str, revision: Revision, now: Millis) {
        let Membership { feed, client } = &self.member;
        let snapshot = feed.current();
        let document = &snapshot.document;
        if epoch != document.epoch || revision > document.revision {
            return;
        }
        let since = if revision == document.revision {
            snapshot.known_at.max(client.connected_at)
        } else {
            self.sent_at
        };
        let delay_ms = (now - since).max(0);
        client.on_ack(revision, delay_ms);
        self.app.metrics.ack_seconds.observe(delay_ms as f64 / 1000.0);
        feed.on_client_moved();
    }

    fn on_frame(&mut self, frame: ClientFrame, now: Millis) {
        match frame {
            ClientFrame::Ack { epoch, revision } => self.on_ack(&epoch, revision, now),
            ClientFrame::Ask => self.start_over(),
            ClientFrame::Report { counts } => {
                let snapshot = self.member.feed.current();
                let known = |key: &str| snapshot.document.flags.contains_key(key);
                let total = self.app.on_report(&self.member.feed.environment, &counts, known);
                self.member.client.on_evaluations(total);
            }
            ClientFrame::Events { events } => self.on_events(events),
            ClientFrame::Hello(hello) => {
                if let Some(context) = &mut self.context {
                    **context = hello.context.unwrap_or_default(); // the user signed in or out
                    self.start_over();
                }
            }
        }
    }

    /// Hands auth events on. The client has let go of them: they are tried again here, for a while.
    fn on_events(&self, events: Vec<Value>) {
        if self.context.is_none() && events.len() <= EVENTS_MAX {
            let (app, environment) = (Arc::clone(&self.app), self.member.feed.environment.clone());
            let source = format!("sdk:{}", self.member.client.app);
            tokio::spawn(async move { app.keep_auth_events(&environment, &source, events).await });
        }
    }

    /// Sends everything again.
    fn start_over(&mut self) {
        self.sent = None;
        self.on_wake(Wake { notices: self.notices_seen, ..Wake::default() });
    }

    /// Writes what is due. Nearly always the socket takes it at once.
    async fn write(&mut self) -> Result<(), End> {
        while let Some(out) = self.out.pop_front() {
            if matches!(out, Out::Frame(_)) {
                self.sent_at = self.app.clock.now();
            }
            match hand_over(&mut self.session, &out).now_or_never() {
                Some(taken) => taken.map_err(|_| End::Gone)?,
                None => Box::pin(self.write_slowly(&out)).await?,
            }
            if matches!(out, Out::Frame(_)) {
                self.app.metrics.frames_sent.inc();
            }
        }
        Ok(())
    }

    /// Waits for a socket whose queue is full, but not for ever.
    async fn write_slowly(&mut self, out: &Out) -> Result<(), End> {
        let limit = Duration::from_millis(self.app.hub.limits().write_timeout_ms);
        let taken = timeout(limit, hand_over(&mut self.session, out)).await;
        taken.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)
    }
}

/// Puts one message into the socket's queue.
async fn hand_over(session: &mut Session, out: &Out) -> Result<(), Closed> {
    match out {
        Out::Frame(frame) => session.text(frame.clone()).await,
        Out::Ping => session.ping(b"").await,
        Out::Pong(bytes) => session.pong(bytes).await,
    }
}
