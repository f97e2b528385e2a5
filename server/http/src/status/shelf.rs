//! Everything that was rendered from one state of the board, as bytes: a request costs a look-up.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, uri};
use actix_web::web::{Bytes, Data};
use arc_swap::ArcSwap;
use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use switchback_app::config::Look;
use switchback_app::ids::Clock;
use switchback_app::status_page::{Board, Snapshot, StatusBoard};
use switchback_core::model::Millis;

use super::locale::Locale;
use super::months::Month;
use super::place::Place;
use super::public_api::Part;
use super::view::Scene;
use super::{badge, feeds, public_api};
use crate::State;
use crate::observe::class_of;
use crate::ui::assets;
use crate::ui::words::format_at;

/// Rendered pages that are kept at most; further ones are made for each request.
const KEPT_MAX: usize = 4_000;
/// How long others may keep an answer.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=5");

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Everything.
    Home,
    /// What happened in a month.
    Month(Month),
    /// One incident.
    Incident(String),
    /// The state as JSON.
    Json,
    /// The incidents as Atom.
    Atom,
    /// The incidents as RSS.
    Rss,
    /// A small image: of everything, or of one component.
    Badge(Option<String>),
    /// A part of Statuspage's public API.
    Api(Part),
    /// Everything that the pages are made from.
    Board,
}

/// The pages of one board.
pub struct StatusPages {
    board: Arc<StatusBoard>,
    clock: Arc<dyn Clock>,
    style: Style,
    shelf: ArcSwap<Shelf>,
}

/// The style travels inside the page, so that the page is one request; its hash lets it pass the content security policy.
pub struct Style {
    /// The text.
    pub text: String,
    /// The policy that lets it pass, and nothing else.
    pub policy: String,
}

/// What was rendered from one state.
struct Shelf {
    generation: u64,
    is_old: bool,
    board: Arc<Board>,
    kept: RwLock<HashMap<(Page, Locale), Arc<Kept>>>,
}

/// Something rendered.
struct Kept {
    status: StatusCode,
    kind: HeaderValue,
    body: Bytes,
    gzip: Option<Bytes>,
    tag: HeaderValue,
    gzip_tag: HeaderValue,
    modified: HeaderValue,
    /// For other sites' scripts and pages.
    is_shared: bool,
}

/// Something to be kept.
pub struct Rendered {
    /// Its media type.
    pub kind: &'static str,
    /// Its text.
    pub text: String,
    /// When what it says changed last, in UTC milliseconds.
    pub modified: Millis,
}

impl Style {
    /// The style with a page's own colours.
    pub fn of(look: &Look) -> Self {
        let Look { accent, accent_dark, .. } = look;
        let own = format!(":root{{--accent:light-dark({accent},{accent_dark})}}");
        let text = format!("{}{own}", assets::text("status.css"));
        let hash =
            base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
             form-action 'none'"
        );
        Self { text, policy }
    }
}

impl Page {
    /// Renders it; nothing when there is no such page.
    pub fn render(&self, scene: Scene<'_>) -> Option<Rendered> {
        let modified = scene.board.read_at;
        let html = |text| Rendered { kind: "text/html; charset=utf-8", text, modified };
        Some(match self {
            Self::Home => html(scene.home()),
            Self::Month(month) => html(scene.month(*month)?),
            Self::Incident(id) => html(scene.incident(id)?),
            Self::Json => public_api::short(&scene),
            Self::Atom => feeds::atom(&scene),
            Self::Rss => feeds::rss(&scene),
            Self::Badge(component) => badge::draw(&scene, component.as_deref())?,
            Self::Api(part) => part.render(&scene),
            Self::Board => {
                let snapshot = Snapshot::new(scene.look.clone(), scene.board.clone());
                let text = serde_json::to_string(&snapshot).ok()?;
                Rendered { kind: "application/json; charset=utf-8", text, modified }
            }
        })
    }

    fn is_html(&self) -> bool {
        matches!(self, Self::Home | Self::Month(_) | Self::Incident(_))
    }
}

impl StatusPages {
    /// The pages of a board.
    pub fn new(board: Arc<StatusBoard>, clock: Arc<dyn Clock>) -> Self {
        let style = Style::of(&board.look);
        let shelf = Shelf::new(0, false, Arc::default());
        Self { board, clock, style, shelf: ArcSwap::from_pointee(shelf) }
    }

    /// The month of the newest state.
    pub fn this_month(&self) -> Month {
        Month::of(self.board.current().read_at)
    }

    /// Answers a request for a page.
    pub fn answer(&self, request: &HttpRequest, page: Page) -> HttpResponse {
        let headers = request.headers();
        let locale = if page.is_html() {
            Locale::wanted(text(headers, &header::ACCEPT_LANGUAGE))
        } else {
            Locale::Iso
        };
        let kept = self.kept(page, locale);
        let takes_gzip = text(headers, &header::ACCEPT_ENCODING).is_some_and(takes_gzip);
        let (body, tag, is_short) = match &kept.gzip {
            Some(gzip) if takes_gzip => (gzip, &kept.gzip_tag, true),
            _ => (&kept.body, &kept.tag, false),
        };
        let known = text(headers, &header::IF_NONE_MATCH).is_some_and(|seen| matches(seen, tag));
        let is_known = known && kept.status == StatusCode::OK;
        let status = if is_known { StatusCode::NOT_MODIFIED } else { kept.status };
        if let Some(app) = request.app_data::<Data<State>>() {
            app.metrics.http.get_or_create(&class_of(status.as_u16())).inc();
        }
        let mut answer = HttpResponse::build(status);
        answer
            .insert_header((header::CACHE_CONTROL, CACHE))
            .insert_header((header::ETAG, tag.clone()))
            .insert_header((header::LAST_MODIFIED, kept.modified.clone()))
            .insert_header((
                header::VARY,
                HeaderValue::from_static("accept-encoding, accept-language"),
            ))
            .insert_header((header::CONTENT_SECURITY_POLICY, self.style.policy.as_str()))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
            .insert_header((header::REFERRER_POLICY, HeaderValue::from_static("same-origin")));
        if kept.is_shared {
            answer.insert_header((
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            ));
        } else {
            answer.insert_header((header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")));
        }
        if is_known {
            return answer.finish();
        }
        if is_short {
            answer.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        answer.insert_header((header::CONTENT_TYPE, kept.kind.clone())).body(body.clone())
    }

    fn kept(&self, page: Page, locale: Locale) -> Arc<Kept> {
        let shelf = self.shelf();
        let key = (page, locale);
        if let Some(kept) = shelf.kept.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(kept);
        }
        let scene = self.scene(&shelf, locale);
        let Some(rendered) = key.0.render(scene) else {
            // Not kept: anybody can ask for any number of things that are not there.
            return Arc::new(Kept::missing(scene, key.0.is_html()));
        };
        let kept = Arc::new(Kept::new(rendered, !key.0.is_html(), StatusCode::OK));
        let mut all = shelf.kept.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < KEPT_MAX {
            all.insert(key, Arc::clone(&kept));
        }
        kept
    }

    fn scene<'a>(&'a self, shelf: &'a Shelf, locale: Locale) -> Scene<'a> {
        Scene {
            board: &shelf.board,
            look: &self.board.look,
            style: &self.style.text,
            policy: &self.style.policy,
            public_url: &self.board.public_url,
            is_old: shelf.is_old,
            locale,
            place: Place::Server,
        }
    }

    /// A page that says that only the status page is there, and its policy.
    pub fn waiting(&self) -> (String, &str) {
        let shelf = self.shelf();
        (self.scene(&shelf, Locale::Iso).waiting(), &self.style.policy)
    }

    /// Draws something that is not kept, with the policy that lets its forms be sent here.
    pub fn draw<T>(&self, draw: impl FnOnce(Scene<'_>) -> T) -> (T, String) {
        let shelf = self.shelf();
        let policy = self.style.policy.replace("form-action 'none'", "form-action 'self'");
        (draw(self.scene(&shelf, Locale::Iso)), policy)
    }

    /// What belongs to the newest state; an empty one when that is new.
    fn shelf(&self) -> Arc<Shelf> {
        let (generation, is_old) = (self.board.generation(), self.board.is_old(self.clock.now()));
        let shelf = self.shelf.load();
        if shelf.generation == generation && shelf.is_old == is_old {
            return Arc::clone(&shelf);
        }
        let new = Arc::new(Shelf::new(generation, is_old, self.board.current()));
        self.shelf.store(Arc::clone(&new));
        new
    }
}

impl Shelf {
    fn new(generation: u64, is_old: bool, board: Arc<Board>) -> Self {
        Self { generation, is_old, board, kept: RwLock::default() }
    }
}

impl Kept {
    /// Only what is kept is packed: what is missing is made for each request, and must cost little.
    fn new(rendered: Rendered, is_shared: bool, status: StatusCode) -> Self {
        let Rendered { kind, text, modified } = rendered;
        let hash = assets::hex(Sha256::digest(text.as_bytes()).get(..12).unwrap_or_default());
        let tag = |ending: &str| {
            HeaderValue::from_str(&format!("\"{hash}{ending}\""))
                .unwrap_or(HeaderValue::from_static("\"\""))
        };
        let modified = HeaderValue::from_str(&format_at(modified, "%a, %d %b %Y %H:%M:%S GMT"));
        Self {
            status,
            kind: HeaderValue::from_static(kind),
            gzip: (status == StatusCode::OK)
                .then(|| gzip(text.as_bytes()))
                .flatten()
                .filter(|short| short.len() < text.len()),
            tag: tag(""),
            gzip_tag: tag("-gz"),
            modified: modified.unwrap_or(HeaderValue::from_static("")),
            body: text.into(),
            is_shared,
        }
    }

    fn missing(scene: Scene<'_>, is_html: bool) -> Self {
        let modified = scene.board.read_at;
        let rendered = if is_html {
            Rendered { kind: "text/html; charset=utf-8", text: scene.missing(), modified }
        } else {
            let detail = "the status page has nothing of that name";
            let problem = crate::problem::problem(StatusCode::NOT_FOUND, "not_found", detail);
            Rendered { kind: "application/problem+json", text: problem.to_string(), modified }
        };
        Self::new(rendered, !is_html, StatusCode::NOT_FOUND)
    }
}

fn gzip(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::best());
    encoder.write_all(text).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an `Accept-Encoding` header allows gzip.
fn takes_gzip(header: &str) -> bool {
    header.split(',').any(|part| {
        let (name, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = weight.trim().strip_prefix("q=").map(str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight, Some(Ok(0.0)))
    })
}

/// Whether an `If-None-Match` header names a tag. A proxy may have made it a weak one.
fn matches(seen: &str, tag: &HeaderValue) -> bool {
    let same = |one: &str| one.trim_start_matches("W/").as_bytes() == tag.as_bytes();
    seen.split(',').map(str::trim).any(|one| one == "*" || same(one))
}

/// The host of an address, for names that must last.
pub fn host_of(address: &str) -> String {
    let parsed = address.parse::<uri::Uri>().ok();
    parsed.and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_and_a_tag_are_read_as_browsers_write_them() {
        assert!(takes_gzip("deflate, gzip;q=0.5, br") && takes_gzip("GZIP"));
        assert!(!takes_gzip("br, gzip;q=0") && !takes_gzip("identity"));
        let tag = HeaderValue::from_static("\"abc\"");
        assert!(matches("\"x\", W/\"abc\"", &tag) && matches("*", &tag));
        assert!(!matches("\"abcd\", abc", &tag));
    }
}
