//! Incidents as feeds: Atom (RFC 4287) and RSS 2.0, one entry for each incident.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use switchback_store::PublicIncident;

use super::bars::escape;
use super::shelf::{Rendered, host_of};
use super::view::Scene;
use crate::ui::assets;
use crate::ui::words::{format_at, iso, title, word};

/// Entries of a feed, at most.
const ENTRIES_MAX: usize = 50;

/// The incidents as Atom.
pub fn atom(scene: &Scene<'_>) -> Rendered {
    let (incidents, updated) = entries(scene);
    let base = base_of(scene);
    let host = host_of(scene.public_url);
    let name = escape(&scene.look.title);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\" xml:lang=\"en\">\n\
         <id>{0}/feed.atom</id>\n<title>{name}</title>\n<updated>{1}</updated>\n<author><name>{name}</name></author>\n\
         <link rel=\"self\" type=\"application/atom+xml\" href=\"{0}/feed.atom\"/>\n\
         <link rel=\"alternate\" type=\"text/html\" href=\"{0}\"/>\n",
        escape(&base),
        iso(updated),
    );
    for incident in incidents {
        let id = escape(&incident.id);
        let date = format_at(incident.created_at, "%Y-%m-%d");
        let _ = write!(
            text,
            "<entry>\n<id>tag:{host},{date}:incident/{id}</id>\n<title>{}</title>\n<published>{}</published>\n\
             <updated>{}</updated>\n<link rel=\"alternate\" type=\"text/html\" href=\"{}\"/>\n\
             <content type=\"html\">{}</content>\n</entry>\n",
            escape(&incident.name),
            iso(incident.created_at),
            iso(changed_at(incident)),
            escape(&link(scene, &incident.id)),
            escape(&story(incident)),
        ); // writing to a text cannot fail
    }
    text.push_str("</feed>\n");
    Rendered { kind: "application/atom+xml; charset=utf-8", text, modified: updated }
}

/// The incidents as RSS. An entry's id changes with each update, so that readers show it again.
pub fn rss(scene: &Scene<'_>) -> Rendered {
    let (incidents, updated) = entries(scene);
    let base = escape(&base_of(scene));
    let name = escape(&scene.look.title);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<rss version=\"2.0\" xmlns:atom=\"http://www.w3.org/2005/Atom\">\n\
         <channel>\n<title>{name}</title>\n<link>{base}</link>\n<description>{name}: incidents and planned work</description>\n\
         <language>en</language>\n<lastBuildDate>{}</lastBuildDate>\n\
         <atom:link rel=\"self\" type=\"application/rss+xml\" href=\"{base}/feed.rss\"/>\n",
        rfc_822(updated),
    );
    for incident in incidents {
        let newest = incident.updates.first().map_or("", |update| update.id.as_str());
        let hash = Sha256::digest(format!("{}/{newest}", incident.id).as_bytes());
        let _ = write!(
            text,
            "<item>\n<guid isPermaLink=\"false\">{}</guid>\n<title>{}</title>\n<link>{}</link>\n<pubDate>{}</pubDate>\n\
             <description>{}</description>\n</item>\n",
            assets::hex(hash.get(..16).unwrap_or_default()),
            escape(&incident.name),
            escape(&link(scene, &incident.id)),
            rfc_822(changed_at(incident)),
            escape(&story(incident)),
        ); // writing to a text cannot fail
    }
    text.push_str("</channel>\n</rss>\n");
    Rendered { kind: "application/rss+xml; charset=utf-8", text, modified: updated }
}

/// The newest incidents, and when the newest of their changes was.
fn entries<'a>(scene: &Scene<'a>) -> (Vec<&'a PublicIncident>, i64) {
    let mut found: Vec<&PublicIncident> = scene.board.incidents.iter().collect();
    found.sort_by_key(|incident| std::cmp::Reverse((changed_at(incident), &incident.id)));
    found.truncate(ENTRIES_MAX);
    let newest = found.first().map(|incident| changed_at(incident));
    let made = scene.board.components.iter().map(|component| component.created_at).min();
    (found, newest.or(made).unwrap_or_default())
}

fn changed_at(incident: &PublicIncident) -> i64 {
    let said = incident.updates.first().map_or(incident.created_at, |update| update.created_at);
    incident.postmortem.as_ref().map_or(said, |(_, at)| said.max(*at))
}

/// Where the page is for those who read the feed elsewhere.
fn base_of(scene: &Scene<'_>) -> String {
    let url = scene.public_url.trim_end_matches('/');
    if scene.place.is_files() { url.to_owned() } else { format!("{url}/status") }
}

fn link(scene: &Scene<'_>, id: &str) -> String {
    let ending = if scene.place.is_files() { ".html" } else { "" };
    format!("{}/incidents/{id}{ending}", base_of(scene))
}

/// What was said, newest first, as HTML.
fn story(incident: &PublicIncident) -> String {
    let mut text = String::new();
    if let Some((learned, _)) = &incident.postmortem {
        let _ = write!(text, "<p><strong>What we learned</strong><br>{}</p>", lines(learned));
    }
    for update in &incident.updates {
        let _ = write!(
            text,
            "<p><strong>{}</strong> <small>{}</small><br>{}</p>",
            title(&word(&update.status)),
            format_at(update.created_at, "%Y-%m-%d %H:%M UTC"),
            lines(&update.body),
        ); // writing to a text cannot fail
    }
    text
}

fn lines(text: &str) -> String {
    escape(text).replace('\n', "<br>")
}

fn rfc_822(at: i64) -> String {
    format_at(at, "%a, %d %b %Y %H:%M:%S +0000")
}
