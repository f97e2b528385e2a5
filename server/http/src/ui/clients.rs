//! Connected clients: how far the newest revision has come, and who is missing.

use actix_web::http::StatusCode;
use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::live::convergence::AppShare;
use switchback_app::live::{ClientView, Convergence};
use switchback_store::ChangeFilter;

use super::fields::Fields;
use super::frame::Frame;
use super::live::{Converged, Delay, delays};
use super::timeline::Event;
use super::visit::Visit;
use super::words::{self, Words};
use super::{Answer, html, ok};

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

    fn staleness(&self, client: &ClientView) -> String {
        staleness(client)
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

/// What a client has not confirmed yet is listed up to here.
const MISSING_MAX: usize = 20;

#[derive(Template)]
#[template(path = "pages/client.html")]
struct ClientPage {
    frame: Frame,
    id: String,
    sentence: Words,
    tone: &'static str,
    /// `None`: it is gone.
    client: Option<ClientView>,
    facts: Vec<(&'static str, Words)>,
    /// Changes that it has not confirmed, newest first.
    missing: Vec<Event>,
}

/// `GET /ui/{environment}/clients/{client}`.
pub async fn one(visit: Visit, path: Path<(String, String)>) -> Answer {
    let (environment, id) = path.into_inner();
    let frame = visit.frame(&environment, "clients", "A client").await?;
    let Some(client) = visit.find_client(&visit.who, &environment, &id).await? else {
        let sentence = Words::say("This client is not connected here any more. ")
            .and("It may have come back under another number, or be at another node.");
        let (facts, missing) = (Vec::new(), Vec::new());
        let page = ClientPage { frame, id, sentence, tone: "", client: None, facts, missing };
        return html(StatusCode::NOT_FOUND, &page);
    };
    let newest = visit.hub.convergence_here(&environment, None).revision;
    let lags = client.acked_revision < newest;
    let missing =
        if lags { missing(&visit, &frame, client.acked_revision).await? } else { Vec::new() };
    let (sentence, tone) = state_of(&frame, &client, newest);
    let token = match visit.list_tokens(&visit.who).await {
        Ok(tokens) => tokens.into_iter().find(|token| token.id == client.token_id),
        Err(AppError::Forbidden { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let text = |text: &str| Words::say(if text.is_empty() { "–" } else { text });
    let mut facts = vec![
        ("App", text(&format!("{} {}", client.app, client.app_version))),
        ("Instance", Words::default().code(&client.instance)),
        ("Platform", text(&client.platform)),
        ("SDK", text(&client.sdk)),
        (
            "How it hears",
            Words::say(client.protocol.label()).and(&format!(", {}", staleness(&client))),
        ),
        ("Sees", text(if client.kind == "browser" { "evaluated values only" } else { "rules" })),
        ("Connected", Words::default().when(client.connected_at, frame.now)),
        ("Last heard", Words::default().when(client.last_seen_at, frame.now)),
        ("Evaluations", text(&words::number(client.evaluations))),
        ("Node", Words::default().code(client.id.rsplit_once('.').map_or("", |(node, _)| node))),
    ];
    if let Some(token) = token {
        facts.push(("Token", Words::default().link("/ui/settings/tokens", &token.name)));
    }
    ok(&ClientPage { frame, id, sentence, tone, client: Some(client), facts, missing })
}

/// Changes after the revision that a client confirmed.
async fn missing(visit: &Visit, frame: &Frame, has: u64) -> Result<Vec<Event>, AppError> {
    let filter = ChangeFilter {
        environment: Some(frame.environment.clone()),
        limit: MISSING_MAX as i64,
        ..ChangeFilter::default()
    };
    let changes = visit.list_changes(&visit.who, &filter).await?.into_iter().map(|row| row.change);
    let newer = changes.filter(|change| change.revision.is_some_and(|revision| revision > has));
    Ok(newer.map(|change| Event::of_change(&change, &frame.url(""))).collect())
}

fn state_of(frame: &Frame, client: &ClientView, newest: u64) -> (Words, &'static str) {
    let name = [client.app.as_str(), "A client"].into_iter().find(|name| !name.is_empty());
    let name = format!("{} of {}", name.unwrap_or_default(), frame.name);
    if client.acked_revision >= newest {
        let took = client.ack_delay_ms.map(words::duration);
        let took =
            took.map(|text| format!(", and said so {text} after it was made")).unwrap_or_default();
        let words = Words::default().strong(&name);
        return (words.and(&format!(" has the newest revision, r{newest}{took}.")), "");
    }
    let words = Words::default().strong(&format!("{name} lags:"));
    let has = match client.acked_revision {
        0 => "it has not confirmed any revision yet".to_owned(),
        has => format!("it last confirmed r{has}"),
    };
    (words.and(&format!(" {has}; the newest is r{newest}.")), "attention")
}

/// How far behind it may be.
fn staleness(client: &ClientView) -> String {
    match i64::try_from(client.interval_ms) {
        Ok(0) | Err(_) => "told at once".to_owned(),
        Ok(ms) => format!("asks every {}", words::duration(ms)),
    }
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
