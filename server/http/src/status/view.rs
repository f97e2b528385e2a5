//! The pages' templates, and how a board becomes what they show.

use askama::Template;
use switchback_app::config::Look;
use switchback_app::status_page::{Board, DAY_MS, DAYS, Overall};
use switchback_store::{Component, ComponentStatus, Impact, PublicIncident};

use super::bars;
use super::locale::Locale;
use super::months::{Month, began, range};
use super::place::Place;
use crate::ui::words::{duration, iso, title, word};

/// Past incidents of this many days stand on the first page, in days.
const RECENT_DAYS: i64 = 14;
/// Past incidents on the first page, at most.
const RECENT_MAX: usize = 10;

/// What all pages are made from.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// What is so.
    pub board: &'a Board,
    /// Name, colours, links.
    pub look: &'a Look,
    /// The style, as it stands in the page.
    pub style: &'a str,
    /// The content security policy, for files that no server gives one.
    pub policy: &'a str,
    /// How people reach this server.
    pub public_url: &'a str,
    /// Whether the database was not heard of for long.
    pub is_old: bool,
    /// How dates are written.
    pub locale: Locale,
    /// Where the links lead.
    pub place: Place,
}

struct Moment {
    iso: String,
    shown: String,
}

struct ComponentLine {
    name: String,
    description: String,
    word: String,
    class: &'static str,
    bars: String,
    uptime: String,
}

struct Group {
    name: String,
    description: String,
    components: Vec<ComponentLine>,
}

struct Story {
    url: String,
    name: String,
    class: &'static str,
    state: String,
    began: Moment,
    until: Option<Moment>,
    took: String,
    components: String,
    /// Where people ask for news of it, while there is some.
    news: Option<String>,
    updates: Vec<Chapter>,
    postmortem: Option<(String, Moment)>,
}

struct Chapter {
    status: String,
    body: String,
    at: Moment,
}

#[derive(Template)]
#[template(path = "status/page.html")]
struct StatusPage<'a> {
    scene: Scene<'a>,
    headline: &'static str,
    class: &'static str,
    icon: &'static str,
    groups: Vec<Group>,
    open: Vec<Story>,
    planned: Vec<Story>,
    recent: Vec<Story>,
    recent_days: i64,
    days: i64,
    history: String,
    read_at: Moment,
}

#[derive(Template)]
#[template(path = "status/history.html")]
struct HistoryPage<'a> {
    scene: Scene<'a>,
    month: String,
    stories: Vec<Story>,
    before: Option<(String, String)>,
    after: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "status/incident.html")]
struct IncidentPage<'a> {
    scene: Scene<'a>,
    story: Story,
    icon: &'static str,
}

#[derive(Template)]
#[template(path = "status/missing.html")]
struct MissingPage<'a> {
    scene: Scene<'a>,
}

#[derive(Template)]
#[template(path = "status/waiting.html")]
struct WaitingPage<'a> {
    scene: Scene<'a>,
}

impl<'a> Scene<'a> {
    /// The page with everything.
    pub fn home(self) -> String {
        let overall = self.board.overall();
        let class = class_of(overall);
        let since = self.board.read_at - RECENT_DAYS * DAY_MS;
        let recent = self.past().into_iter().filter(|one| one.resolved_at >= Some(since));
        render(&StatusPage {
            scene: self,
            headline: overall.sentence(),
            class,
            icon: icon_of(class),
            groups: self.groups(),
            open: self.board.open().map(|one| self.story(one)).collect(),
            planned: self.board.planned().into_iter().map(|one| self.story(one)).collect(),
            recent: recent.take(RECENT_MAX).map(|one| self.story(one)).collect(),
            recent_days: RECENT_DAYS,
            days: DAYS,
            history: self.place.month(&Month::of(self.board.read_at).key()),
            read_at: self.moment(self.board.read_at),
        })
    }

    /// What happened in a month; nothing for one that the history does not have.
    pub fn month(self, month: Month) -> Option<String> {
        let (first, last) = range(self.board);
        if month < first || month > last {
            return None;
        }
        let mut stories: Vec<&PublicIncident> = self.board.incidents.iter().collect();
        stories.retain(|one| Month::of(began(one)) == month);
        stories.sort_by_key(|one| std::cmp::Reverse(began(one)));
        let link = |month: Month| (self.place.month(&month.key()), month.name());
        Some(render(&HistoryPage {
            scene: self,
            month: month.name(),
            stories: stories.into_iter().map(|one| self.story(one)).collect(),
            before: (month > first).then(|| link(month.before())),
            after: (month < last).then(|| link(month.after())),
        }))
    }

    /// One incident, if everybody may see it.
    pub fn incident(self, id: &str) -> Option<String> {
        let found = self.board.incidents.iter().find(|incident| incident.id == id)?;
        let story = self.story(found);
        Some(render(&IncidentPage { scene: self, icon: icon_of(story.class), story }))
    }

    /// There is no such page.
    pub fn missing(self) -> String {
        render(&MissingPage { scene: self })
    }

    /// Only the status page is there.
    pub fn waiting(self) -> String {
        render(&WaitingPage { scene: self })
    }

    /// Incidents that are over, the last that ended first.
    fn past(self) -> Vec<&'a PublicIncident> {
        let mut found: Vec<_> =
            self.board.incidents.iter().filter(|one| one.resolved_at.is_some()).collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.resolved_at));
        found
    }

    fn moment(self, at: i64) -> Moment {
        Moment { iso: iso(at), shown: self.locale.stamp(at) }
    }

    /// Components in their groups; those in none stand first.
    fn groups(self) -> Vec<Group> {
        let own = |key: Option<&str>| -> Vec<ComponentLine> {
            let known = |group: &String| self.board.groups.iter().any(|one| one.key == *group);
            let inside = |one: &&Component| {
                one.group.as_ref().filter(|group| known(group)).map(String::as_str) == key
            };
            self.board.shown().filter(inside).map(|one| self.component(one)).collect()
        };
        let alone =
            Group { name: String::new(), description: String::new(), components: own(None) };
        let named = self.board.groups.iter().map(|group| Group {
            name: group.name.clone(),
            description: group.description.clone(),
            components: own(Some(&group.key)),
        });
        std::iter::once(alone).chain(named).filter(|group| !group.components.is_empty()).collect()
    }

    fn component(self, component: &Component) -> ComponentLine {
        let days = self.board.days.get(&component.key).map_or(&[][..], Vec::as_slice);
        let bars = bars::draw(&component.name, days, self.locale);
        ComponentLine {
            name: component.name.clone(),
            description: component.description.clone(),
            word: title(&word(&component.status)),
            class: component_class(component.status),
            bars: bars.svg,
            uptime: bars.uptime,
        }
    }

    fn story(self, incident: &PublicIncident) -> Story {
        let name = |key: &String| {
            let known = self.board.components.iter().find(|component| component.key == *key);
            known.map_or_else(|| key.clone(), |component| component.name.clone())
        };
        let is_planned = incident.status.is_planned();
        let from = began(incident);
        let chapter = |update: &switchback_store::PublicUpdate| Chapter {
            status: title(&word(&update.status)),
            body: update.body.clone(),
            at: self.moment(update.created_at),
        };
        let until = incident.resolved_at.or(incident.scheduled_until.filter(|_| is_planned));
        Story {
            url: self.place.incident(&incident.id),
            name: incident.name.clone(),
            class: match (incident.resolved_at, incident.impact) {
                (Some(_), _) => "good",
                (None, _) if is_planned => "work",
                (None, Impact::Major | Impact::Critical) => "down",
                (None, Impact::Maintenance) => "work",
                (None, _) => "slow",
            },
            state: title(&word(&incident.status)),
            began: self.moment(from),
            took: incident
                .resolved_at
                .filter(|at| *at > from)
                .map_or_else(String::new, |at| duration(at - from)),
            until: until.filter(|at| *at > from).map(|at| self.moment(at)),
            components: incident.components.keys().map(name).collect::<Vec<_>>().join(", "),
            news: self
                .place
                .subscribe()
                .filter(|_| incident.resolved_at.is_none())
                .map(|url| format!("{url}?incident={}", incident.id)),
            updates: incident.updates.iter().map(chapter).collect(),
            postmortem: incident
                .postmortem
                .as_ref()
                .map(|(text, at)| (text.clone(), self.moment(*at))),
        }
    }
}

fn render(page: &impl Template) -> String {
    page.render().unwrap_or_default() // writing to a text cannot fail
}

fn component_class(status: ComponentStatus) -> &'static str {
    match status {
        ComponentStatus::PartialOutage => "part",
        other => class_of(Overall::of(other)),
    }
}

fn class_of(overall: Overall) -> &'static str {
    match overall {
        Overall::Operational => "good",
        Overall::Maintenance => "work",
        Overall::Degraded => "slow",
        Overall::Partial | Overall::Major => "down",
    }
}

/// The path of a 24 by 24 picture that says the same as the colour.
fn icon_of(class: &str) -> &'static str {
    match class {
        "good" => "M5 12.5l4.5 4.5L19 7.5",
        "work" => "M12 7v5l3.5 2",
        _ => "M12 6.5v7m0 3.6v.1",
    }
}
