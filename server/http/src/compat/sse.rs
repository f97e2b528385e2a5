//! Server-sent events for protocols that have them: one small state per client, shared bytes, nothing queued. A slow
//! connection is asked for its next event only when it took the last, so it skips what it missed.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpResponse, http::header};
use futures_util::stream::unfold;
use switchback_app::App;
use switchback_app::live::Snapshot;
use switchback_app::live::feed::{Membership, Wake};
use switchback_core::model::Revision;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// Proxies cut connections that are silent for a minute, SDKs sooner.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Changes that turn nothing off are spread over up to this long, so that a fleet of browsers does not ask all at once. In ms.
const SPREAD_MS_MAX: u64 = 250;
/// So many clients ask again in a millisecond.
const CLIENTS_PER_MS: u64 = 4;

/// How long a whole document waits for the others before it.
const PERMIT_WITHIN: Duration = Duration::from_secs(2);

/// What an event says.
pub struct Event {
    /// The bytes, ending in a blank line.
    pub bytes: Bytes,
    /// Whether it carries a whole document: only so many of those go out at once.
    pub is_whole: bool,
}

/// What a protocol says to its clients.
pub trait Protocol: 'static {
    /// The next event for a client, if there is one.
    fn next(&mut self, snapshot: &Snapshot) -> Option<Event>;
    /// Whether events make clients ask again, so that they had better not all come at once.
    const SPREADS: bool;
}

struct Session<P> {
    app: Arc<App>,
    member: Membership,
    protocol: P,
    wake: watch::Receiver<Wake>,
    keep_alive: Interval,
    /// The connection took this revision when it asks for more.
    handed_over: Option<Revision>,
    permit: Option<OwnedSemaphorePermit>,
    is_fresh: bool,
}

/// Answers with a stream of events until the client leaves, its token is revoked, or the server ends.
pub fn stream<P: Protocol>(app: Arc<App>, member: Membership, protocol: P) -> HttpResponse {
    let mut keep_alive = interval(KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive.reset();
    let wake = member.feed.subscribe();
    member.feed.on_client_moved();
    let session = Session {
        app,
        member,
        protocol,
        wake,
        keep_alive,
        handed_over: None,
        permit: None,
        is_fresh: true,
    };
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(unfold(session, |session| async {
            let (bytes, session) = Box::pin(session.next()).await?;
            Some((Ok::<_, actix_web::Error>(bytes), session))
        }))
}

impl<P: Protocol> Session<P> {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        self.on_taken();
        loop {
            if !std::mem::take(&mut self.is_fresh) {
                let is_news = tokio::select! {
                    biased;
                    () = self.member.client.closed() => return None,
                    changed = self.wake.changed() => { changed.ok()?; true }
                    _ = self.keep_alive.tick() => false,
                };
                if !is_news {
                    let now = self.app.clock.now();
                    self.member.client.on_sign_of_life(now);
                    return Some((Bytes::from_static(b": keep-alive\n\n"), self));
                }
                self.spread().await;
            }
            self.wake.mark_unchanged();
            let snapshot = self.member.feed.current();
            let Some(event) = self.protocol.next(&snapshot) else { continue };
            if event.is_whole {
                // A client that does not read keeps its permit, so the others wait for it, but not for ever.
                let permit = Arc::clone(&self.app.hydrations).acquire_owned();
                self.permit = timeout(PERMIT_WITHIN, permit).await.ok().and_then(Result::ok);
            }
            self.handed_over = Some(snapshot.document.revision);
            self.app.metrics.frames_sent.inc();
            return Some((event.bytes, self));
        }
    }

    /// The connection wants more, so it took what it was given.
    fn on_taken(&mut self) {
        self.permit = None;
        let Some(revision) = self.handed_over.take() else { return };
        let Membership { feed, client } = &self.member;
        let now = self.app.clock.now();
        client.on_sign_of_life(now);
        let since = feed.current().known_at.max(client.connected_at);
        client.on_ack(revision, (now - since).max(0));
        feed.on_client_moved();
    }

    /// A change that turns something off goes out at once.
    async fn spread(&self) {
        if P::SPREADS && !self.member.feed.current().is_urgent() {
            let clients = self.member.feed.clients().len() as u64;
            let spread_ms = (clients / CLIENTS_PER_MS).min(SPREAD_MS_MAX);
            let share_ms = self.member.client.id.wrapping_mul(0x9E37_79B9) % (spread_ms + 1);
            tokio::time::sleep(Duration::from_millis(share_ms)).await;
        }
    }
}

impl<P> Drop for Session<P> {
    fn drop(&mut self) {
        self.member.feed.on_client_moved();
    }
}

/// An event's text.
pub fn event(name: &str, id: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {id}\ndata: {data}\n\n"))
}
