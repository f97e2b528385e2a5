//! Protocols that existing SDKs speak: Unleash (server and front end), OpenFeature's OFREP, flagd's HTTP sync.
//!
//! An SDK of these stops for ever when it hears 401 or 403. So those are said only when they are certain; when the token
//! cannot be checked, or the flags cannot be read, the answer is 503, and the SDK goes on with what it has.

mod flagd;
mod frontend;
pub mod inlets;
mod metrics;
mod ofrep;
mod sse;
pub mod statuspage;
mod unleash;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use actix_cors::Cors;
use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde_json::json;
use switchback_app::live::client::Protocol;
use switchback_app::live::{Feed, Poll};
use switchback_app::{App, AppError, EVERYWHERE, Who};
use switchback_core::Context;
use switchback_store::{TokenKind, TokenRow};

use super::State;
use super::auth::{client_address, state};
use super::observe::count;
use super::problem::{log_failure, status_of};

/// How long browsers may remember what they are allowed, in seconds.
const PREFLIGHT_SECONDS: usize = 86_400;
/// The largest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Every route of these protocols.
pub fn routes(config: &mut web::ServiceConfig, app: &Arc<App>) {
    let json = || {
        web::JsonConfig::default().limit(BODY_BYTES_MAX).content_type_required(false).error_handler(
            |error, _| {
                Refusal::bad("PARSE_ERROR", format!("the body cannot be read: {error}")).into()
            },
        )
    };
    config
        // What fleets ask most often stands first and alone: each scope around it would cost what it does itself.
        .route("/api/client/features", web::get().to(unleash::features))
        .service(
            web::scope("/api/client")
                .wrap(from_fn(count))
                .app_data(json())
                .configure(unleash::routes),
        )
        .service(
            web::scope("/api/frontend")
                .wrap(cors(app))
                .wrap(from_fn(count))
                .app_data(json())
                .configure(frontend::routes),
        )
        .service(
            web::scope("/api/proxy")
                .wrap(cors(app))
                .wrap(from_fn(count))
                .app_data(json())
                .configure(frontend::routes),
        )
        .service(
            web::scope("/ofrep/v1")
                .wrap(cors(app))
                .wrap(from_fn(count))
                .app_data(json())
                .configure(ofrep::routes),
        )
        .route("/flagd/v1/flags.json", web::get().to(flagd::flags))
        .service(
            web::resource("/edge/validate")
                .app_data(json())
                .route(web::post().to(unleash::validate)),
        );
}

/// Whom an API token stands for, sent in another system's way.
async fn api_caller(app: &App, key: &str) -> Result<Who, AppError> {
    let token = app.authenticate(key).await?;
    if token.kind != TokenKind::Api {
        return Err(AppError::WrongToken("this is an SDK token; an API token is needed"));
    }
    Ok(Who::from_token(&token))
}

/// Browsers ask from pages of the origins that are allowed.
fn cors(app: &App) -> Cors {
    let mut cors = Cors::default()
        .allowed_methods(["GET", "POST", "OPTIONS"])
        .allow_any_header()
        .expose_headers([header::ETAG, header::RETRY_AFTER])
        .max_age(PREFLIGHT_SECONDS);
    for origin in &app.config.compat.cors_origins {
        cors = if origin == "*" {
            cors.send_wildcard().allow_any_origin()
        } else {
            cors.allowed_origin(origin)
        };
    }
    cors
}

/// Why a request is not answered with flags. One body for all: Unleash reads `message`, OFREP `errorCode` and
/// `errorDetails`.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    key: Option<String>,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), key: None, retry_after_seconds: None }
    }

    /// The request is wrong.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Come back after so many seconds.
    pub fn later(status: StatusCode, seconds: u64, message: impl Into<String>) -> Self {
        let refusal = Self::new(status, "GENERAL", message);
        Self { retry_after_seconds: Some(seconds), ..refusal }
    }

    /// About one flag.
    #[must_use]
    pub fn about(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

impl From<AppError> for Refusal {
    fn from(error: AppError) -> Self {
        log_failure(&error);
        let status = status_of(&error);
        let refusal = Self::new(status, "GENERAL", error.to_string());
        match error {
            AppError::Unavailable(_) => Self { retry_after_seconds: Some(2), ..refusal },
            AppError::TooMany { seconds } => Self { retry_after_seconds: Some(seconds), ..refusal },
            _ => refusal,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = json!({
            "message": self.message, "errorCode": self.code, "errorDetails": self.message,
        });
        if let (Some(key), Some(body)) = (&self.key, body.as_object_mut()) {
            body.insert("key".to_owned(), json!(key));
        }
        let mut answer = HttpResponse::build(self.status);
        answer.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        answer.json(body)
    }
}

/// A request's token, and the flags that it opens.
pub struct Guest {
    app: web::Data<State>,
    token: Arc<TokenRow>,
    feed: Arc<Feed>,
}

/// A token that this thread checked lately: fleets ask with the same one again and again.
struct Pass {
    token: Arc<TokenRow>,
    feed: Arc<Feed>,
    checked_at: i64,
    /// Any token that is revoked ends all passes.
    revocations: u64,
}

/// How long a pass is good for, in milliseconds; a revocation that this node hears of ends it at once.
const PASS_MS: i64 = 1_000;
/// Passes that a thread keeps.
const PASSES_MAX: usize = 1_000;

thread_local! {
    static PASSES: RefCell<HashMap<Box<str>, Pass>> = RefCell::default();
}

impl Guest {
    /// Checks the token in `Authorization` (with or without `Bearer`) or `X-API-Key`.
    pub async fn of(request: &HttpRequest, wanted: &[TokenKind]) -> Result<Self, Refusal> {
        let app = state(request)?;
        let text =
            header_text(request, "authorization").or_else(|| header_text(request, "x-api-key"));
        let text = text.ok_or_else(|| {
            let message = "the token is missing: send it in `Authorization`";
            Refusal::new(StatusCode::UNAUTHORIZED, "GENERAL", message)
        })?;
        let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
        let (now, revocations) = (app.clock.now(), app.token_revocations());
        let known = PASSES.with_borrow(|passes| {
            let is_good =
                |pass: &&Pass| now - pass.checked_at < PASS_MS && pass.revocations == revocations;
            let pass = passes.get(text).filter(is_good)?;
            Some((Arc::clone(&pass.token), Arc::clone(&pass.feed)))
        });
        if let Some((token, feed)) = known {
            is_wanted(&token, wanted)?;
            return Ok(Self { app, token, feed });
        }
        let token = app.authenticate(text).await?;
        let guest = Self::with(app, token, wanted).await?;
        PASSES.with_borrow_mut(|passes| {
            if passes.len() >= PASSES_MAX {
                passes.clear();
            }
            let (token, feed) = (Arc::clone(&guest.token), Arc::clone(&guest.feed));
            passes.insert(text.into(), Pass { token, feed, checked_at: now, revocations });
        });
        Ok(guest)
    }

    /// With a token that was checked already.
    async fn with(
        app: web::Data<State>,
        token: TokenRow,
        wanted: &[TokenKind],
    ) -> Result<Self, Refusal> {
        is_wanted(&token, wanted)?;
        let project = (token.project != EVERYWHERE).then_some(token.project.as_str());
        let feed = app.hub.feed(&token.environment, project).await.map_err(AppError::from)?;
        Ok(Self { app, token: Arc::new(token), feed })
    }

    /// Slows down a browser that asks far too often.
    fn slow_down(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let per_second = self.app.config.compat.browser_requests_per_second;
        if self.token.kind != TokenKind::Browser || per_second == 0 {
            return Ok(());
        }
        let address = client_address(request, &self.app.config.trusted_proxies);
        if self.app.brake_of_browsers.admits(
            &self.token.id,
            &address,
            self.app.clock.now(),
            per_second,
        ) {
            return Ok(());
        }
        let message = format!("more than {per_second} requests a second from one address");
        Err(Refusal::later(StatusCode::TOO_MANY_REQUESTS, 1, message))
    }

    /// Keeps whom it asked for, for trying changes on.
    fn see(&self, context: &Context<'_>) {
        self.app.contexts.note(&self.token.environment, context);
    }

    /// Notes that the client asked, for the page of clients. `has`: what it was answered.
    fn note(&self, request: &HttpRequest, protocol: Protocol, has: Option<u64>) {
        let caller = SdkHeaders::of(request);
        let connection = match caller.connection.as_ref().or(caller.instance.as_ref()) {
            Some(id) => Cow::Borrowed(&**id),
            None => Cow::Owned(client_address(request, &self.app.config.trusted_proxies)),
        };
        let default_ms = match protocol {
            Protocol::UnleashFrontend | Protocol::Ofrep => 30_000,
            Protocol::Flagd => 5_000,
            _ => switchback_app::live::pollers::INTERVAL_MS,
        };
        let sdk = match &caller.sdk {
            Some(sdk) => sdk.clone(),
            None => Cow::Borrowed(header_text(request, "user-agent").unwrap_or_default()),
        };
        let poll = Poll {
            token_id: &self.token.id,
            kind: if self.token.kind == TokenKind::Browser { "browser" } else { "server" },
            connection: &connection,
            app: caller.app.as_deref().unwrap_or_default(),
            sdk: &sdk,
            instance: caller.instance.as_deref().unwrap_or_default(),
            protocol,
            interval_ms: caller.interval_ms.unwrap_or(default_ms),
            has,
        };
        let hub = &self.app.hub;
        let clients_max = hub.limits().clients_max;
        hub.pollers
            .on_poll(&self.feed, &poll, self.app.clock.now(), clients_max, || hub.next_client_id());
    }
}

/// What Unleash's SDKs say about themselves.
struct SdkHeaders<'r> {
    app: Option<Cow<'r, str>>,
    instance: Option<Cow<'r, str>>,
    connection: Option<Cow<'r, str>>,
    sdk: Option<Cow<'r, str>>,
    interval_ms: Option<u64>,
}

impl<'r> SdkHeaders<'r> {
    fn of(request: &'r HttpRequest) -> Self {
        let text = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            (!value.is_empty()).then_some(Cow::Borrowed(value))
        };
        Self {
            app: text("unleash-appname"),
            instance: text("unleash-instanceid"),
            connection: text("unleash-connection-id").or_else(|| text("x-unleash-connection-id")),
            sdk: text("unleash-sdk").or_else(|| text("x-unleash-sdk")),
            interval_ms: text("unleash-interval")
                .and_then(|text| text.parse().ok())
                .filter(|ms| (100..=3_600_000).contains(ms)),
        }
    }
}

fn is_wanted(token: &TokenRow, wanted: &[TokenKind]) -> Result<(), Refusal> {
    if wanted.contains(&token.kind) {
        return Ok(());
    }
    let message = "invalid token: expected a different token type for this endpoint";
    Err(Refusal::new(StatusCode::FORBIDDEN, "GENERAL", message))
}

fn header_text<'r>(request: &'r HttpRequest, name: &str) -> Option<&'r str> {
    let text = request.headers().get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then_some(text)
}

/// Whether the client has this already.
fn is_known(request: &HttpRequest, etag: &str) -> bool {
    request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == etag.as_bytes())
}

fn not_modified(etag: &str) -> HttpResponse {
    HttpResponse::NotModified()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .finish()
}

/// JSON that was rendered already.
fn json_bytes(etag: &str, body: impl Into<actix_web::web::Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .content_type("application/json")
        .body(body.into())
}

/// Tells answers apart. The same on every node of a release: the hash has a fixed seed.
fn digest(bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}
