//! The stream: one WebSocket per client, one small task each. The task only ever wants the newest:
//! what a slow socket missed is folded into the next frame.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use bytestring::ByteString;
use futures_util::StreamExt as _;
use switchback_core::model::{Millis, Revision};
use switchback_core::wire::{ClientFrame, FlagValue, Hello, ServerFrame, Values};
use switchback_store::{TokenKind, TokenRow};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::State;
use super::auth::Sdk;
use crate::app::{App, EVERYWHERE};
use crate::live::feed::{Membership, Next, Wake, render};
use crate::live::{Client, Feed};

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
    let app = Arc::clone(&app.0);
    actix_web::rt::spawn(async move { serve(app, sdk.0, session, messages).await });
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

struct Stream {
    app: Arc<App>,
    session: Session,
    member: Membership,
    /// The epoch and revision last sent.
    sent: Option<(String, Revision)>,
    sent_at: Millis,
    notices_seen: u64,
    /// A browser's context; values are evaluated for it.
    context: Option<Box<switchback_core::ContextBody>>,
}

async fn serve(
    app: Arc<App>,
    token: TokenRow,
    mut session: Session,
    mut messages: AggregatedMessageStream,
) {
    let end = match timeout(HELLO_WITHIN, hello(&mut messages)).await {
        Ok(Ok(hello)) => match join(&app, &token, hello, session.clone()).await {
            Ok(mut stream) => {
                let environment = stream.member.feed.environment.clone();
                app.hub.on_client_moved(&environment);
                let end = stream.follow(&mut messages).await;
                drop(stream);
                app.hub.on_client_moved(&environment);
                end
            }
            Err(end) => end,
        },
        Ok(Err(end)) => end,
        Err(_) => End::Goodbye("bad_request", Some(COME_BACK_MS)),
    };
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

async fn join(
    app: &Arc<App>,
    token: &TokenRow,
    hello: Hello,
    session: Session,
) -> Result<Stream, End> {
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
    Ok(Stream {
        app: Arc::clone(app),
        session,
        member,
        sent: hello.epoch.zip(hello.revision).filter(|_| !is_browser),
        sent_at: now,
        notices_seen: 0,
        context: is_browser.then(|| Box::new(hello.context.unwrap_or_default())),
    })
}

impl Stream {
    async fn follow(&mut self, messages: &mut AggregatedMessageStream) -> End {
        let heartbeat = Duration::from_millis(self.app.hub.limits().heartbeat_ms);
        let mut wake = self.member.feed.subscribe();
        let mut tick = interval_at(Instant::now() + heartbeat, heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        wake.mark_changed();
        loop {
            let client = &self.member.client;
            let result = tokio::select! {
                biased;
                () = client.closed() => {
                    return if self.app.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                        End::Goodbye("shutdown", Some(COME_BACK_MS))
                    } else {
                        End::Goodbye("revoked", None)
                    };
                }
                changed = wake.changed() => match changed {
                    Ok(()) => { let seen = *wake.borrow_and_update(); self.on_wake(seen).await }
                    Err(_) => Err(End::Gone),
                },
                message = messages.next() => self.on_message(message).await,
                _ = tick.tick() => self.on_heartbeat(heartbeat).await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn on_wake(&mut self, wake: Wake) -> Result<(), End> {
        let snapshot = self.member.feed.current();
        if self.context.is_some() {
            let document = &snapshot.document;
            let is_new = self.sent.as_ref().is_none_or(|(epoch, revision)| {
                *epoch != document.epoch || *revision != document.revision
            });
            if is_new {
                let frame = self.values(&snapshot);
                self.sent = Some((document.epoch.clone(), document.revision));
                self.send(frame).await?;
            }
        } else {
            let has = self.sent.as_ref().map(|(epoch, revision)| (epoch.as_str(), *revision));
            match snapshot.next_for(has) {
                Next::Frame(frame, revision) => {
                    match &mut self.sent {
                        Some((epoch, sent)) if *epoch == snapshot.document.epoch => {
                            *sent = revision;
                        }
                        other => *other = Some((snapshot.document.epoch.clone(), revision)),
                    }
                    self.send(frame).await?;
                }
                // A client that comes back with the newest hears so, and can acknowledge it.
                Next::Nothing if self.member.client.acked() == 0 => {
                    self.send(snapshot.heartbeat()).await?;
                }
                Next::Nothing => {}
            }
        }
        if wake.notices > self.notices_seen {
            let now = self.app.clock.now();
            let (frames, newest) = self.member.feed.notices_after(self.notices_seen, now);
            self.notices_seen = newest;
            for frame in frames {
                self.send(frame).await?;
            }
        }
        Ok(())
    }

    /// What a browser may see: one decision per flag, for its context.
    fn values(&self, snapshot: &crate::live::Snapshot) -> ByteString {
        let body = self.context.as_deref().cloned().unwrap_or_default();
        let context = body.to_context(self.app.clock.now(), self.draw());
        let mut values = Values {
            epoch: snapshot.document.epoch.clone(),
            revision: snapshot.document.revision,
            values: Vec::with_capacity(snapshot.document.flags.len()),
        };
        snapshot.ruleset.evaluate_all(&context, |key, decision| {
            values.values.push(FlagValue {
                key: key.to_owned(),
                enabled: decision.enabled,
                variant: decision.variant.map(str::to_owned),
                value: decision.value.clone(),
                reason: decision.reason.to_string(),
            });
        });
        render(&ServerFrame::Values(values))
    }

    /// A draw that stays the same for the life of the connection.
    fn draw(&self) -> u32 {
        (self.member.client.id as u32).wrapping_mul(0x9E37_79B9)
    }

    async fn on_heartbeat(&mut self, every: Duration) -> Result<(), End> {
        let silent_ms = self.app.clock.now() - self.member.client.last_seen_at();
        let limit_ms = every.as_millis() as i64 * i64::from(SILENT_HEARTBEATS_MAX);
        if silent_ms > limit_ms {
            return Err(End::TooSlow);
        }
        let frame = self.member.feed.current().heartbeat();
        self.send(frame).await?;
        let limit = self.write_timeout();
        let ping = self.session.ping(b"");
        timeout(limit, ping).await.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)
    }

    async fn on_message(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>,
    ) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::Gone) };
        let now = self.app.clock.now();
        self.member.client.on_sign_of_life(now);
        match message {
            AggregatedMessage::Text(text) => match serde_json::from_str(&text) {
                Ok(frame) => self.on_frame(frame, now).await,
                Err(_) => Ok(()), // a frame of a later SDK; what it does not know it does not need
            },
            AggregatedMessage::Ping(bytes) => {
                self.session.pong(&bytes).await.map_err(|_| End::Gone)
            }
            AggregatedMessage::Close(_) => Err(End::Gone),
            AggregatedMessage::Binary(_) | AggregatedMessage::Pong(_) => Ok(()),
        }
    }

    async fn on_frame(&mut self, frame: ClientFrame, now: Millis) -> Result<(), End> {
        match frame {
            ClientFrame::Ack { epoch, revision } => {
                let snapshot = self.member.feed.current();
                if epoch == snapshot.document.epoch && revision <= snapshot.document.revision {
                    let since = if revision == snapshot.document.revision {
                        snapshot.known_at.max(self.member.client.connected_at)
                    } else {
                        self.sent_at
                    };
                    let delay_ms = (now - since).max(0);
                    self.member.client.on_ack(revision, delay_ms);
                    self.app.metrics.ack_seconds.observe(delay_ms as f64 / 1000.0);
                    self.app.hub.on_client_moved(&self.member.feed.environment);
                }
                Ok(())
            }
            ClientFrame::Ask => {
                self.sent = None;
                self.on_wake(Wake { notices: self.notices_seen, ..Wake::default() }).await
            }
            ClientFrame::Report { counts } => {
                let snapshot = self.member.feed.current();
                let known = |key: &str| snapshot.document.flags.contains_key(key);
                let total = self.app.on_report(&self.member.feed.environment, &counts, known);
                self.member.client.on_evaluations(total);
                Ok(())
            }
            ClientFrame::Hello(hello) => {
                if let Some(context) = &mut self.context {
                    **context = hello.context.unwrap_or_default(); // the user signed in or out
                    self.sent = None;
                    let wake = Wake { notices: self.notices_seen, ..Wake::default() };
                    return self.on_wake(wake).await;
                }
                Ok(())
            }
        }
    }

    async fn send(&mut self, frame: ByteString) -> Result<(), End> {
        self.sent_at = self.app.clock.now();
        let limit = self.write_timeout();
        let sending = self.session.text(frame);
        timeout(limit, sending).await.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)?;
        self.app.metrics.frames_sent.inc();
        Ok(())
    }

    fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.app.hub.limits().write_timeout_ms)
    }
}
