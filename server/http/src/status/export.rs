//! The page as plain files, for any host that serves files.

use std::path::Path;

use switchback_app::status_page::Snapshot;

use super::locale::Locale;
use super::months::range;
use super::place::Place;
use super::public_api::PARTS;
use super::shelf::{Page, Style};
use super::view::Scene;

/// A file of the page: its name below the folder, and its text.
pub type File = (String, String);

/// Every file of the page, in an order in which none leads to one that is not there yet: the first page last.
///
/// `public_url` is where the folder will be served, for the feeds; ids that are no file names are left out.
pub fn files(snapshot: &Snapshot, public_url: &str) -> Vec<File> {
    let style = Style::of(&snapshot.look);
    let scene = |up: &'static str| Scene {
        board: &snapshot.board,
        look: &snapshot.look,
        style: &style.text,
        policy: &style.policy,
        public_url,
        is_old: false,
        locale: Locale::Iso,
        place: Place::Files(up),
    };
    let mut wanted: Vec<(String, Page, &'static str)> = Vec::new();
    for incident in snapshot.board.incidents.iter().filter(|incident| is_plain(&incident.id)) {
        let name = format!("incidents/{}.html", incident.id);
        wanted.push((name, Page::Incident(incident.id.clone()), "../"));
    }
    let (first, last) = range(&snapshot.board);
    let mut month = last;
    while month >= first {
        wanted.push((format!("history/{}.html", month.key()), Page::Month(month), "../"));
        month = month.before();
    }
    for component in snapshot.board.components.iter().filter(|component| is_plain(&component.key)) {
        let name = format!("badges/{}.svg", component.key);
        wanted.push((name, Page::Badge(Some(component.key.clone())), "../"));
    }
    wanted.push(("badge.svg".to_owned(), Page::Badge(None), ""));
    wanted.push(("feed.atom".to_owned(), Page::Atom, ""));
    wanted.push(("feed.rss".to_owned(), Page::Rss, ""));
    wanted.push(("status.json".to_owned(), Page::Json, ""));
    wanted.extend(PARTS.map(|(name, part)| (format!("api/v2/{name}"), Page::Api(part), "")));
    wanted.push(("index.html".to_owned(), Page::Home, ""));
    let rendered = wanted
        .into_iter()
        .filter_map(|(name, page, up)| Some((name, page.render(scene(up))?.text)));
    rendered.collect()
}

/// Whether a text can be a file's name and nothing else.
fn is_plain(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= 100 && text.bytes().all(is_letter)
}

/// Whether a name from a list of files stays below the folder.
pub fn is_inside(name: &str) -> bool {
    let is_normal = |part| matches!(part, std::path::Component::Normal(_));
    !name.is_empty() && Path::new(name).components().all(is_normal)
}
