//! A guard's evidence, and steering guards and rollouts from forms.

use actix_web::web::Path;
use askama::Template;
use serde_json::{Value, json};
use switchback_app::AppError;
use switchback_app::watch::guards::{GuardRehearsal, GuardSettings, GuardView};
use switchback_app::watch::rollouts::RolloutDraft;
use switchback_watch::rollout::Command;

use super::Answer;
use super::charts::{Axis, Chart};
use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Toast, Visit};
use super::watch::{GuardLine, Note, guard_line};
use super::words::{self, Words};
use super::{UiError, ok};

#[derive(Template)]
#[template(path = "pages/guard.html")]
struct GuardPage {
    frame: Frame,
    sentence: Words,
    tone: &'static str,
    guard: GuardView,
    line: GuardLine,
    chart: Option<Chart>,
    ticks: Vec<(f64, String)>,
    facts: Vec<(&'static str, String)>,
    tried: Option<GuardRehearsal>,
}

impl GuardPage {
    /// A guard's line stands alone: what was changed is on the watch's own charts.
    fn notes(&self) -> &'static [Note] {
        &[]
    }
}

/// `GET /ui/{environment}/guards/{guard}`.
pub async fn page(visit: Visit, path: Path<(String, String)>) -> Answer {
    ok(&page_of(&visit, &path.0, &path.1, None).await?)
}

async fn page_of(
    visit: &Visit,
    environment: &str,
    id: &str,
    tried: Option<GuardRehearsal>,
) -> Result<GuardPage, UiError> {
    let frame = visit.frame(environment, "watch", "Guard").await?;
    let found = visit.get_guard(&visit.who, id).await?;
    let guard = found.guard;
    let line = guard_line(&guard);
    let said = |name: &str| guard.verdict.as_ref().and_then(|verdict| verdict.get(name));
    let figure = |name: &str| said(name).and_then(Value::as_f64);
    let sentence = if line.words.is_empty() {
        Words::say("It looks at the logins of those with ")
            .code(&guard.settings.flag)
            .and(" and of those without it. Nothing was seen yet.")
    } else {
        line.words.clone()
    };
    let mut facts = vec![("It does", line.does.clone())];
    if let Some(ratio) = figure("ratio") {
        facts.push(("Those with it fail", format!("{ratio:.1} times as often")));
    }
    if let Some(least) = figure("ratio_at_least") {
        facts.push(("At least", format!("{least:.1} times (95\u{202f}% sure, at every look)")));
    }
    let is_over = figure("evidence").zip(figure("bound")).is_some_and(|(seen, at)| seen >= at);
    if let Some(chance) = figure("p_value").and_then(|p| chance(p, is_over)) {
        facts.push(("Chance that this is luck", chance));
    }
    let count = |name: &str| words::number(said(name).and_then(Value::as_u64).unwrap_or(0));
    facts
        .push(("Users with it, without it", format!("{}, {}", count("treated"), count("control"))));
    facts.push((
        "It acts at a chance of",
        format!("1 in {}", words::number((1.0 / guard.settings.alpha_act).round() as u64)),
    ));
    let (chart, ticks) = evidence(&found.points);
    Ok(GuardPage { frame, sentence, tone: line.tone, chart, ticks, facts, line, guard, tried })
}

/// How likely it is that there is no harm, in words. A steady guard acts on a late change, of which this share, which counts from
/// the beginning, knows nothing: then it is not said.
fn chance(p: f64, is_over: bool) -> Option<String> {
    match p {
        ..1e-4 => Some("under 1 in 10\u{202f}000".to_owned()),
        1e-4..0.05 => Some(format!("1 in {}", words::number((1.0 / p).floor() as u64))),
        _ => (!is_over).then(|| "too high to say that it is not".to_owned()),
    }
}

/// The evidence against its bound, over time.
fn evidence(points: &[Value]) -> (Option<Chart>, Vec<(f64, String)>) {
    let at: Vec<i64> = points.iter().filter_map(|point| point.get("at")?.as_i64()).collect();
    let (Some(first), Some(last)) = (at.first(), at.last()) else { return (None, Vec::new()) };
    let step = ((last - first) / 90_000).max(10) / 10 * 10;
    let cells: Vec<i64> =
        (0..=(last - first) / (step * 1000)).map(|n| first + n * step * 1000).collect();
    let axis = Axis::of(&cells, step);
    let mut values: Vec<Option<f64>> = vec![None; axis.at.len()];
    let mut bound = None;
    for point in points {
        let (Some(at), Some(seen)) = (
            point.get("at").and_then(Value::as_i64),
            point.get("evidence").and_then(Value::as_f64),
        ) else {
            continue;
        };
        bound = point.get("bound").and_then(Value::as_f64).or(bound);
        let place = usize::try_from((at - first) / axis.step_ms).unwrap_or(0);
        if let Some(value) = values.get_mut(place) {
            *value = Some(value.unwrap_or(0.0).max(seen.max(0.0)));
        }
    }
    // A point stands until the next one: the guard is heard of every half minute.
    let mut known = None;
    for value in &mut values {
        known = value.or(known);
        *value = known;
    }
    let chart = Chart::lines(
        "Evidence of harm",
        &axis,
        &[(6, "evidence", values)],
        (1.0, ""),
        bound.map(|at| (at, "acts at")),
    );
    (Some(chart), axis.ticks())
}

/// The form's guard, as the API would have it.
fn settings_of(form: &Fields) -> Result<GuardSettings, AppError> {
    let mut settings = json!({"flag": form.text("flag")});
    let mut set = |name: &str, value: Value| {
        if let Some(settings) = settings.as_object_mut() {
            settings.insert(name.to_owned(), value);
        }
    };
    let metrics = form.all("metric");
    if !metrics.is_empty() {
        set("metrics", json!(metrics));
    }
    let action = match form.text("does") {
        "run_playbook" => {
            json!({"do": "run_playbook", "name": form.text("playbook"), "approval": form.is("asks")})
        }
        "" => json!({"do": "put_back"}),
        word => json!({"do": word}),
    };
    set("action", action);
    if form.some("back_to").is_some() {
        set("back_to", json!(form.number::<f64>("back_to")?));
    }
    if let Some(treated) = form.some("treated") {
        set("treated", json!(treated));
    }
    serde_json::from_value(settings).map_err(|error| AppError::invalid("guard", error.to_string()))
}

fn home(environment: &str) -> String {
    format!("/ui/{environment}/watch")
}

/// `POST /ui/{environment}/guards`: makes one.
pub async fn make(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let made = match settings_of(&form) {
        Ok(settings) => visit.create_guard(&visit.who, &path, settings, form.text("reason")).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(guard) => {
            let to = format!("/ui/{}/guards/{}", *path, guard.id);
            Ok(Visit::done(&to, &Toast::say(format!("{} is guarded.", guard.settings.flag))))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            super::watch::with_faults(&visit, &path, form, faults).await
        }
    }
}

/// `POST /ui/{environment}/guards/{guard}`: arms, disarms, removes, or tries it on the past.
pub async fn steer(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = (&path.0, &path.1);
    let reason = form.text("reason");
    let here = format!("/ui/{environment}/guards/{id}");
    match form.text("command") {
        "arm" => {
            visit.arm_guard(&visit.who, id, true, reason).await?;
            Ok(Visit::done(&here, &Toast::say("It is armed, and begins from nothing.")))
        }
        "disarm" => {
            visit.arm_guard(&visit.who, id, false, reason).await?;
            Ok(Visit::done(&here, &Toast::say("It rests.")))
        }
        "remove" => {
            visit.remove_guard(&visit.who, id, reason).await?;
            Ok(Visit::done(&home(environment), &Toast::say("The guard is removed.")))
        }
        "try" => {
            let settings = visit.get_guard(&visit.who, id).await?.guard.settings;
            let tried = visit.rehearse_guard(&visit.who, environment, &settings, 24).await?;
            ok(&page_of(&visit, environment, id, Some(tried)).await?)
        }
        other => Err(AppError::invalid("command", format!("`{other}` is no command")).into()),
    }
}

/// `POST /ui/{environment}/rollouts`: starts one.
pub async fn start(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let minutes = form.some("soak_minutes").unwrap_or_else(|| "10".to_owned());
    let draft = (|| {
        let soak: u32 = minutes
            .parse()
            .map_err(|_| AppError::invalid("soak_minutes", "a number of minutes is expected"))?;
        let share = |text: String| {
            let percent = text.trim_end_matches('%').trim().parse::<f64>();
            percent.map_err(|_| AppError::invalid("steps", "use shares such as 1, 5, 25, 100"))
        };
        let steps: Result<Vec<f64>, _> = form.list("steps").into_iter().map(share).collect();
        let steps: Vec<Value> = steps?
            .into_iter()
            .map(|percent| {
                let asks = form.is("asks") && percent >= 100.0;
                json!({"percent": percent, "soak_minutes": soak, "needs_approval": asks})
            })
            .collect();
        let draft = json!({"flag": form.text("flag"), "steps": steps});
        serde_json::from_value::<RolloutDraft>(draft)
            .map_err(|error| AppError::invalid("steps", error.to_string()))
    })();
    let made = match draft {
        Ok(draft) => visit.start_rollout(&visit.who, &path, draft, form.text("reason")).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(made) => {
            let toast = Toast::say(format!("The rollout of {} begins.", made.flag));
            Ok(Visit::done(&home(&path), &toast))
        }
        Err(error) => {
            let faults = Faults::of(error)?;
            super::watch::with_faults(&visit, &path, form, faults).await
        }
    }
}

/// `POST /ui/{environment}/rollouts/{rollout}`: steers one.
pub async fn steer_rollout(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let command = match form.text("command") {
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "skip" => Command::Skip,
        "abort" => Command::Abort,
        "approve" => Command::Approve(form.number("step")?),
        other => {
            return Err(AppError::invalid("command", format!("`{other}` is no command")).into());
        }
    };
    let after = visit.steer_rollout(&visit.who, &path.1, command, form.text("reason")).await?;
    let toast =
        Toast::say(format!("The rollout of {}: {}.", after.flag, after.phase.replace('_', " ")));
    Ok(Visit::done(&home(&path.0), &toast))
}

/// `POST /ui/{environment}/freeze`: lets things happen by themselves again.
pub async fn thaw(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    visit.end_freeze(&visit.who, &path, form.text("reason")).await?;
    Ok(Visit::done(&home(&path), &Toast::say("Guards may act again.")))
}
