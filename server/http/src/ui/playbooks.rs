//! Playbooks: what there is, what one would do, and starting it.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::forecast::Forecast;
use switchback_app::playbooks::RunDraft;
use switchback_app::undo::UndoDraft;
use switchback_playbook::Preview;
use switchback_playbook::format::Playbook;
use switchback_playbook::inputs::{Input, InputType};
use switchback_playbook::invert::Which;
use switchback_playbook::plan::Plan;
use switchback_playbook::triggers::Confirm;
use switchback_store::{Review, RunFilter, RunRow};

use super::confirm::{confirmed, others};
use super::drills::Drills;
use super::fields::{Faults, Fields};
use super::frame::{Frame, ROLLBACK};
use super::playbook_lines::{Fit, StepLine, expected, fits_of, known, requires_of, steps_of};
use super::visit::{Toast, Visit, go};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

/// Runs that a page lists.
const RUNS_MAX: i64 = 50;

/// A card.
struct Card {
    name: String,
    title: String,
    description: String,
    owner: String,
    steps: usize,
    deadline: String,
    danger: bool,
    last: Option<RunLine>,
    typical: String,
}

/// One run, as lists show it.
pub struct RunLine {
    pub id: String,
    pub title: String,
    pub state: String,
    pub tone: &'static str,
    pub at: i64,
    pub by: String,
    pub reason: String,
    pub took: String,
    pub trigger: String,
}

#[derive(Template)]
#[template(path = "pages/playbooks.html")]
struct PlaybooksPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    cards: Vec<Card>,
    runs: Vec<RunLine>,
    refused: Vec<(String, String)>,
    /// Uses of break-glass that nobody has looked at, each with whether the reader did it.
    reviews: Vec<(Review, bool)>,
}

impl PlaybooksPage {
    fn who(&self, name: &str) -> String {
        words::actor(name)
    }
}

#[derive(Template)]
#[template(path = "pages/playbook.html")]
struct PlaybookPage {
    frame: Frame,
    playbook: Playbook,
    /// Where the form goes.
    action: String,
    /// The run that it takes back.
    undoes: Option<String>,
    /// What taking it back cannot take back.
    left: Vec<String>,
    drills: Drills,
    /// Who starts it, where the reader may not: the roles.
    others: String,
    deadline: String,
    steps: Vec<StepLine>,
    /// How the plan's SHA-256 begins.
    plan: String,
    /// What speaks for running it: the text, how it stands now, and what was seen.
    fits: Vec<Fit>,
    requires: Vec<(String, &'static str, String)>,
    clients: String,
    rehearsed: bool,
    form: Fields,
    faults: Faults,
    runs: Vec<RunLine>,
    typical: String,
    /// How long earlier runs let one expect it to take.
    expected: String,
    /// Whether that would be too long.
    too_long: bool,
}

impl PlaybookPage {
    fn value_of(&self, input: &Input) -> String {
        let sent = self.form.text(&format!("inputs.{}", input.name));
        match (&input.default, sent) {
            (Some(Value::String(text)), "") => text.clone(),
            (Some(other), "") => other.to_string(),
            (_, sent) => sent.to_owned(),
        }
    }

    fn is_bool(&self, input: &Input) -> bool {
        input.kind == InputType::Bool
    }

    fn fault_of(&self, input: &Input) -> String {
        self.faults.on(&format!("inputs.{}", input.name))
    }

    fn other_faults(&self) -> Vec<String> {
        let shown: Vec<String> =
            self.playbook.inputs.iter().map(|input| format!("inputs.{}", input.name)).collect();
        let mut shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        shown.extend(["reason", "confirm"]);
        self.faults.beside(&shown)
    }

    /// Whether the name is to be typed.
    fn asks_name(&self) -> bool {
        self.playbook.triggers.manual.confirm == Confirm::TypeName
    }

    /// Whether a button is to be held rather than pressed.
    fn holds(&self) -> bool {
        self.playbook.triggers.manual.confirm != Confirm::None
    }

    fn asks_reason(&self) -> bool {
        !self.playbook.inputs.iter().any(|input| input.name == "reason")
    }
}

impl RunLine {
    /// From a run's row.
    pub fn of(run: &RunRow) -> Self {
        let (state, tone) = super::run_view::state_words(&run.state);
        Self {
            id: run.id.clone(),
            title: run.title.clone(),
            state,
            tone,
            at: run.created_at,
            by: words::actor(&run.requested_by),
            reason: run.reason.clone(),
            took: run
                .finished_at
                .map(|at| words::duration(at - run.created_at))
                .unwrap_or_default(),
            trigger: run.trigger.clone(),
        }
    }
}

/// `GET /ui/{environment}/playbooks`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    let frame = visit.frame(&path, "playbooks", "Playbooks").await?;
    let runs = runs_of(&visit, &path, None).await?;
    let catalogue = visit.catalogue.load();
    let card = |playbook: &Playbook| {
        let own: Vec<&RunRow> = runs.iter().filter(|run| run.playbook == playbook.name).collect();
        Card {
            name: playbook.name.clone(),
            title: playbook.title.clone(),
            description: playbook.description.clone(),
            owner: playbook.owner.clone(),
            steps: playbook.steps.len(),
            deadline: words::duration(playbook.deadline_ms.cast_signed()),
            danger: playbook.steps.iter().any(|step| step.danger),
            last: own.first().map(|run| RunLine::of(run)),
            typical: typical(&own),
        }
    };
    let cards: Vec<Card> = catalogue.playbooks.values().map(card).collect();
    let active = runs.iter().filter(|run| run.finished_at.is_none()).count() as u64;
    let sentence = match (active, runs.first()) {
        (0, None) => Words::say(&format!(
            "No playbook ever ran in {}. A dry run changes nothing.",
            frame.name
        )),
        (0, Some(last)) => {
            Words::say(&format!("Nothing is running in {}. The last run, ", frame.name))
                .link(&frame.url(&format!("runs/{}", last.id)), &last.title)
                .and(&format!(", {} ", super::run_view::state_words(&last.state).0.to_lowercase()))
                .when(last.finished_at.unwrap_or(last.created_at), frame.now)
                .and(".")
        }
        (count, _) => {
            let verb = if count == 1 { "is" } else { "are" };
            Words::default()
                .strong(&format!("{} {verb} on the way", words::count(count, "run")))
                .and(" in ")
                .and(&frame.name)
                .and(".")
        }
    };
    let refused = catalogue.refused.iter().map(|(file, problems)| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        (file.clone(), first)
    });
    let reviews = visit.list_reviews(&visit.who, Some(&path), true).await?;
    let own = |review: Review| {
        let is_own = review.actor == visit.who.name;
        (review, is_own)
    };
    let page = PlaybooksPage {
        reviews: reviews.into_iter().map(own).collect(),
        sentence,
        tone: if active > 0 { "attention" } else { "" },
        cards,
        refused: refused.collect(),
        runs: runs.iter().take(20).map(RunLine::of).collect(),
        frame,
    };
    ok(&page)
}

/// The newest runs in an environment, of one playbook or of all.
pub async fn runs_of(
    visit: &Visit,
    environment: &str,
    playbook: Option<&str>,
) -> Result<Vec<RunRow>, AppError> {
    let filter = RunFilter {
        environment: Some(environment.to_owned()),
        playbook: playbook.map(str::to_owned),
        limit: RUNS_MAX,
        ..RunFilter::default()
    };
    visit.list_runs(&visit.who, &filter).await
}

/// The middle of how long the good runs took; empty without any.
fn typical(runs: &[&RunRow]) -> String {
    let good = runs.iter().filter(|run| run.state == "succeeded");
    let mut times: Vec<i64> =
        good.filter_map(|run| Some(run.finished_at? - run.created_at)).collect();
    times.sort_unstable();
    times.get(times.len() / 2).map(|ms| words::duration(*ms)).unwrap_or_default()
}

/// `GET /ui/{environment}/playbooks/{playbook}`.
pub async fn one(visit: Visit, path: Path<(String, String)>, query: Fields) -> Answer {
    let (environment, name) = path.into_inner();
    let page = page_of(&visit, &environment, &name, query, None, Faults::default()).await?;
    ok(&page)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    name: &str,
    form: Fields,
    rehearsal: Option<(Plan, Preview)>,
    faults: Faults,
) -> Result<PlaybookPage, UiError> {
    let playbook = visit.catalogue.load().get(name)?.clone();
    let rehearsed = rehearsal.is_some();
    // Without values from a person the steps are shown for the playbook's own samples.
    let rehearsal = if let Some(both) = rehearsal {
        Some(both)
    } else {
        let samples =
            playbook.inputs.iter().map(|input| (input.name.clone(), sample(input))).collect();
        let draft = RunDraft {
            playbook: name.to_owned(),
            environment: environment.to_owned(),
            reason: "dry run".to_owned(),
            inputs: samples,
            trigger: "ui",
            break_glass: false,
        };
        visit.preview_run(&visit.who, &draft).await.ok()
    };
    let shown = Shown { playbook, rehearsal, rehearsed, form, faults };
    shown.page(visit, environment).await
}

/// What a playbook's page is made of, whether it is of the catalogue or takes a run back.
struct Shown {
    playbook: Playbook,
    rehearsal: Option<(Plan, Preview)>,
    rehearsed: bool,
    form: Fields,
    faults: Faults,
}

impl Shown {
    async fn page(self, visit: &Visit, environment: &str) -> Result<PlaybookPage, UiError> {
        let Self { playbook, rehearsal, rehearsed, form, faults } = self;
        let frame = visit.frame(environment, "playbooks", playbook.title.as_str()).await?;
        let name = playbook.name.clone();
        let forecast = match &rehearsal {
            Some((plan, _)) => visit.forecast(&visit.who, plan, None).await?,
            None => Forecast::default(),
        };
        let plan = rehearsal.as_ref().filter(|_| rehearsed);
        let plan = plan.map(|(_, preview)| super::run_view::short(&preview.plan_sha256));
        let (steps, requires, clients) = match &rehearsal {
            Some((plan, preview)) => (
                steps_of(preview, &forecast),
                requires_of(plan, preview),
                known(&preview.clients, |n| words::number(*n)),
            ),
            None => (Vec::new(), Vec::new(), "–".to_owned()),
        };
        let criteria = match &rehearsal {
            Some((plan, _)) => visit.criteria(&playbook, plan).await,
            None => Vec::new(),
        };
        let runs = runs_of(visit, environment, Some(&name)).await?;
        Ok(PlaybookPage {
            fits: fits_of(&playbook, &criteria),
            action: format!("{}/{name}", frame.url("playbooks")),
            undoes: None,
            left: Vec::new(),
            drills: Drills::of(visit, &playbook).await?,
            others: others(visit, &playbook, environment),
            deadline: words::duration(playbook.deadline_ms.cast_signed()),
            typical: typical(&runs.iter().collect::<Vec<_>>()),
            expected: expected(forecast.p50_ms, forecast.p95_ms, forecast.from_runs),
            too_long: forecast.exceeds_deadline,
            runs: runs.iter().map(RunLine::of).collect(),
            steps,
            plan: plan.unwrap_or_default(),
            requires,
            clients,
            rehearsed,
            form,
            faults,
            playbook,
            frame,
        })
    }
}

/// A value that the steps can be shown with before anybody gave one.
fn sample(input: &Input) -> Value {
    let words = json!("the reason that you give");
    let free =
        input.kind == InputType::String && input.choices.is_empty() && input.default.is_none();
    if free && input.accept(&words).is_ok() { words } else { input.sample() }
}

/// `POST /ui/{environment}/playbooks/{playbook}`: `do=dry` or `do=run`.
pub async fn start(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, name) = path.into_inner();
    let draft = draft_of(&visit, &environment, &name, &form)?;
    if form.text("do") == "dry" {
        return match visit.preview_run(&visit.who, &draft).await {
            Ok(both) => {
                ok(&page_of(&visit, &environment, &name, form, Some(both), Faults::default())
                    .await?)
            }
            Err(error) => {
                let faults = Faults::of(error)?;
                unprocessable(&page_of(&visit, &environment, &name, form, None, faults).await?)
            }
        };
    }
    let asked_at = visit.clock.now();
    let started = match confirmed(&visit, &name, form.text("confirm")) {
        Ok(()) => visit.start_run(&visit.who, draft).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(run) => {
            let to = format!("/ui/{environment}/runs/{}", run.id);
            let is_joined = run.created_at < asked_at;
            let joined = || {
                Toast::say(format!("{} started it already. This is that run.", run.requested_by))
            };
            Ok(if is_joined { Visit::done(&to, &joined()) } else { go(&to) })
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&page_of(&visit, &environment, &name, form, None, faults).await?)
        }
    }
}

fn draft_of(
    visit: &Visit,
    environment: &str,
    name: &str,
    form: &Fields,
) -> Result<RunDraft, AppError> {
    let catalogue = visit.catalogue.load();
    let playbook = catalogue.get(name)?;
    let mut inputs: BTreeMap<String, Value> = BTreeMap::new();
    for input in &playbook.inputs {
        let field = format!("inputs.{}", input.name);
        if input.kind == InputType::Bool {
            inputs.insert(input.name.clone(), json!(form.is(&field)));
        } else if let Some(text) = form.some(&field) {
            inputs.insert(input.name.clone(), json!(text));
        }
    }
    let reason = form.some("reason").or_else(|| form.some("inputs.reason"));
    Ok(RunDraft {
        playbook: name.to_owned(),
        environment: environment.to_owned(),
        reason: reason.unwrap_or_default(),
        inputs,
        trigger: "ui",
        break_glass: form.is("break_glass"),
    })
}

async fn undo_page(
    visit: &Visit,
    environment: &str,
    id: &str,
    form: Fields,
    faults: Faults,
) -> Result<PlaybookPage, UiError> {
    let draft = undo_draft(&form);
    let (playbook, plan, preview, inverted) = visit.preview_undo(&visit.who, id, &draft).await?;
    let shown = Shown { playbook, rehearsal: Some((plan, preview)), rehearsed: true, form, faults };
    let page = shown.page(visit, environment).await?;
    let action = format!("{}/{id}/undo", page.frame.url("runs"));
    Ok(PlaybookPage { action, undoes: Some(id.to_owned()), left: inverted.left, ..page })
}

fn undo_draft(form: &Fields) -> UndoDraft {
    let reason = form.text("reason").to_owned();
    UndoDraft { reason, force: form.is("inputs.force"), which: Which::All, trigger: "ui" }
}

/// `GET /ui/{environment}/runs/{run}/undo`: what taking it back would do.
pub async fn undo(visit: Visit, path: Path<(String, String)>, query: Fields) -> Answer {
    ok(&undo_page(&visit, &path.0, &path.1, query, Faults::default()).await?)
}

/// `POST /ui/{environment}/runs/{run}/undo`: `do=dry` or `do=run`.
pub async fn start_undo(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    if form.text("do") == "dry" {
        return ok(&undo_page(&visit, &environment, &id, form, Faults::default()).await?);
    }
    match visit.undo_run(&visit.who, &id, undo_draft(&form)).await {
        Ok(run) => Ok(go(&format!("/ui/{environment}/runs/{}", run.id))),
        Err(error) => {
            let faults = Faults::of(error)?;
            unprocessable(&undo_page(&visit, &environment, &id, form, faults).await?)
        }
    }
}

/// `POST /ui/{environment}/rollback`: the button at the top.
pub async fn roll_back(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let reason = form.text("reason").to_owned();
    let mut inputs = BTreeMap::from([("reason".to_owned(), json!(reason))]);
    if let Some(eta) = form.some("eta") {
        inputs.insert("eta".to_owned(), json!(eta));
    }
    let draft = RunDraft {
        playbook: ROLLBACK.to_owned(),
        environment: path.into_inner(),
        reason,
        inputs,
        trigger: "ui",
        break_glass: false,
    };
    let environment = draft.environment.clone();
    let started = match confirmed(&visit, ROLLBACK, form.text("confirm")) {
        Ok(()) => visit.start_run(&visit.who, draft).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(run) => Ok(go(&format!("/ui/{environment}/runs/{}", run.id))),
        Err(error) => {
            let faults = Faults::of(error)?;
            let page =
                page_of(&visit, &environment, ROLLBACK, Fields::default(), None, faults).await?;
            unprocessable(&page)
        }
    }
}
