//! Connected clients: how far the newest revision has come, and who is missing.

use actix_web::web::Path;
use askama::Template;

use super::fields::Fields;
use super::frame::Frame;
use super::live::{Converged, Delay, delays};
use super::visit::Visit;
use super::words::{self, Words};
use super::{Answer, ok};
use crate::live::convergence::AppShare;
use crate::live::{ClientView, Convergence};

/// Clients that are listed.
const LISTED_MAX: usize = 200;

#[derive(Template)]
#[template(path = "pages/clients.html")]
struct ClientsPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    converged: Converged,
    source: String,
    delays: Vec<Delay>,
    apps: Vec<AppShare>,
    clients: Vec<ClientView>,
    hidden: usize,
    text: String,
    stragglers: bool,
}

impl ClientsPage {
    fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    #[expect(clippy::ref_option, reason = "templates pass references")]
    fn delay(&self, ms: &Option<i64>) -> String {
        ms.map_or_else(|| "–".to_owned(), words::duration)
    }

    /// How far behind it may be.
    fn staleness(&self, client: &ClientView) -> String {
        match i64::try_from(client.interval_ms) {
            Ok(0) | Err(_) => "told at once".to_owned(),
            Ok(ms) => format!("asks every {}", words::duration(ms)),
        }
    }

    fn or_dash<'a>(&self, text: &'a str) -> &'a str {
        if text.is_empty() { "–" } else { text }
    }
}

/// `GET /ui/{environment}/clients?text=&stragglers=`.
pub async fn page(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    let frame = visit.frame(&path, "clients", "Clients").await?;
    let found = visit.convergence(&visit.who, &path, None).await?;
    let stragglers = query.is("stragglers");
    let text = query.text("text").to_owned();
    let mut clients = visit.list_clients(&visit.who, &path, Some(&text), stragglers).await?;
    let hidden = clients.len().saturating_sub(LISTED_MAX);
    clients.truncate(LISTED_MAX);
    let (sentence, tone) = sentence(&frame, &found);
    let page = ClientsPage {
        sentence,
        tone,
        converged: Converged::of(&found),
        source: format!("/ui/parts/{path}/convergence"),
        delays: delays(&found),
        apps: found.apps,
        clients,
        hidden,
        text,
        stragglers,
        frame,
    };
    ok(&page)
}

fn sentence(frame: &Frame, found: &Convergence) -> (Words, &'static str) {
    let name = &frame.name;
    if found.connected == 0 {
        let words = Words::say(&format!("No client of {name} is connected. "));
        return (
            words.and("Apps that were connected before go on from their last known state."),
            "",
        );
    }
    let waiting = found.connected - found.acked;
    let slowest = found.p99_ms.map(words::duration);
    let within = slowest.map(|text| format!(", 99 % of them within {text}")).unwrap_or_default();
    if waiting == 0 {
        let all = words::count(found.connected, "client");
        let words = Words::default().strong(&format!("{all} connected to {name}"));
        let words = words.and(&format!(", and all have revision {}{within}.", found.revision));
        return (words, "");
    }
    let who = words::count(waiting, "client");
    let words = Words::default().strong(&format!("{who} of {}", words::number(found.connected)));
    let verb = if waiting == 1 { "has" } else { "have" };
    (words.and(&format!(" {verb} not confirmed revision {} yet.", found.revision)), "attention")
}
