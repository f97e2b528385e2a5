//! Parts that follow the news by themselves.

use actix_web::web::Path;
use askama::Template;
use switchback_app::live::Convergence;
use switchback_app::live::convergence::BUCKETS_MS;

use super::fields::Fields;
use super::frame::Frame;
use super::overview::Pulse;
use super::visit::Visit;
use super::words::{self, Words};
use super::{Answer, ok};
use switchback_store::Role;

/// How far a revision has come, ready to be shown.
pub struct Converged {
    pub revision: u64,
    pub connected: u64,
    pub acked: u64,
    /// The meter's length, 0 to 100.
    pub share: f64,
    pub share_text: String,
    pub p50: String,
    pub p99: String,
    pub slowest: String,
    pub waiting: u64,
}

#[derive(Template)]
#[template(path = "parts/convergence.html")]
struct ConvergencePart {
    converged: Converged,
    source: String,
}

#[derive(Template)]
#[template(path = "parts/pulse.html")]
struct PulsePart {
    frame: Frame,
    pulse: Pulse,
}

impl Converged {
    /// From what the hub counted.
    pub fn of(found: &Convergence) -> Self {
        let delay = |ms: Option<i64>| ms.map_or_else(|| "–".to_owned(), words::duration);
        Self {
            revision: found.revision,
            connected: found.connected,
            acked: found.acked,
            share: if found.connected == 0 { 0.0 } else { (found.share() * 1000.0).floor() / 10.0 },
            share_text: words::share_percent(found.acked, found.connected),
            p50: delay(found.p50_ms),
            p99: delay(found.p99_ms),
            slowest: delay(found.max_ms),
            waiting: found.connected.saturating_sub(found.acked),
        }
    }

    /// As a sentence.
    pub fn words(&self) -> Words {
        match (self.connected, self.waiting) {
            (0, _) => Words::say("No client is connected."),
            (1, 0) => Words::say("The one connected client has it."),
            (all, 0) => Words::say(&format!("All {} clients have it.", words::number(all))),
            (all, _) => Words::default()
                .strong(&format!("{} of {}", words::number(self.acked), words::number(all)))
                .and(" clients have it."),
        }
    }

    /// A count, as text.
    pub fn number(&self, count: &u64) -> String {
        words::number(*count)
    }

    /// Whether all have it, for the meter's colour.
    pub fn class(&self) -> &'static str {
        if self.waiting == 0 && self.connected > 0 { "good" } else { "" }
    }
}

/// One bar of the delay histogram.
pub struct Delay {
    pub x: f64,
    pub y: f64,
    pub height: f64,
    pub count: u64,
    pub label: String,
}

/// The delay histogram's bars, on a field 40 high.
pub fn delays(found: &Convergence) -> Vec<Delay> {
    let top = found.histogram.iter().copied().max().unwrap_or(0).max(1);
    let bar = |(index, count): (usize, &u64)| {
        let height = *count as f64 / top as f64 * 80.0;
        let label = match BUCKETS_MS.get(index) {
            Some(bound) => words::duration(*bound).replace(".0 s", " s"),
            None => "more".to_owned(),
        };
        Delay { x: index as f64 * 28.0, y: 80.0 - height, height, count: *count, label }
    };
    found.histogram.iter().enumerate().map(bar).collect()
}

/// `GET /ui/parts/{environment}/convergence?revision=`.
pub async fn convergence(visit: Visit, path: Path<String>, query: Fields) -> Answer {
    visit.who.must(Role::Viewer, &path, "look at clients")?;
    let revision = query.text("revision").parse().ok();
    let found = visit.convergence(&visit.who, &path, revision).await?;
    let source = match revision {
        Some(revision) => format!("/ui/parts/{path}/convergence?revision={revision}"),
        None => format!("/ui/parts/{path}/convergence"),
    };
    ok(&ConvergencePart { converged: Converged::of(&found), source })
}

/// `GET /ui/parts/{environment}/pulse`: the overview's sentence and tiles.
pub async fn pulse(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame(&path, "overview", "Overview").await?;
    let pulse = Pulse::of(&visit, &frame).await?;
    ok(&PulsePart { frame, pulse })
}
