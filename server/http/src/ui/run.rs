//! A run: its page comes alive, and people steer it from there.

use actix_web::HttpResponse;
use actix_web::web::Path;
use askama::Template;
use serde_json::Value;
use switchback_app::AppError;
use switchback_app::approvals::Answer as Given;

use super::fields::Fields;
use super::frame::Frame;
use super::incident::{SentLine, sent_of};
use super::live::Converged;
use super::run_view::RunPart;
use super::visit::{Toast, Visit};
use super::words::{self, Words};
use super::{Answer, UiError, ok};

#[derive(Template)]
#[template(path = "pages/run.html")]
struct RunPage {
    frame: Frame,
    run: RunPart,
    sent: Vec<SentLine>,
}

#[derive(Template)]
#[template(path = "parts/run.html")]
struct RunPartPage {
    frame: Frame,
    run: RunPart,
    sent: Vec<SentLine>,
}

impl RunPart {
    /// The page's sentence.
    pub fn sentence(&self, frame: &Frame) -> Words {
        let done = self.steps.iter().filter(|step| step.class == "step-good").count();
        let words = match self.state.as_str() {
            "succeeded" => {
                Words::default().strong("It is done").and(&format!(", in {}.", self.elapsed))
            }
            "failed" => {
                Words::default().strong("Nothing was started:").and(" a precondition did not hold.")
            }
            "compensated" => Words::default().strong("It failed, and what it did was taken back."),
            "compensate_failed" => Words::default()
                .strong("It failed, and taking it back failed too: somebody must look."),
            "cancelled" => {
                Words::default().strong("It was cancelled, and what it did was taken back.")
            }
            "parked" => {
                Words::default().strong("It waits for your decision").and(" about the marked step.")
            }
            "waiting_approval" => {
                Words::default().strong("It waits for somebody to approve").and(" the marked step.")
            }
            "compensating" => Words::default().strong("It is taking back what it did."),
            "queued" => Words::default()
                .strong("It waits for its turn:")
                .and(" it begins when the run before it is over."),
            _ => Words::default()
                .strong("It is running:")
                .and(&format!(" {done} of {} steps are done.", self.steps.len())),
        };
        words
            .and(&format!(" {} started it ", words::actor(&self.by)))
            .when(self.at, frame.now)
            .and(".")
    }

    /// How loud the sentence is.
    pub fn sentence_class(&self) -> &'static str {
        match self.tone {
            "bad" => "bad",
            "warn" => "attention",
            _ => "",
        }
    }
}

async fn part_of(visit: &Visit, id: &str) -> Result<(String, RunPart), UiError> {
    let detail = visit.get_run(&visit.who, id).await?;
    let environment = detail.run.environment.clone();
    let converged =
        |revision: u64| Converged::of(&visit.hub.convergence(&environment, Some(revision)));
    let progress = visit.progress_of(&visit.who, &detail).await?;
    let part = RunPart::of(&detail, progress, converged, visit.clock.now());
    Ok((detail.run.environment, part))
}

/// `GET /ui/{environment}/runs/{run}`.
pub async fn page(visit: Visit, path: Path<(String, String)>) -> Answer {
    let (_, run) = part_of(&visit, &path.1).await?;
    let frame = visit.frame(&path.0, "playbooks", run.title.as_str()).await?;
    let sent = sent_of(&visit, None, Some(&path.1)).await?;
    ok(&RunPage { frame, run, sent })
}

/// `GET /ui/parts/runs/{run}`.
pub async fn part(visit: Visit, path: Path<String>) -> Answer {
    let (environment, run) = part_of(&visit, &path).await?;
    let frame = visit.frame(&environment, "playbooks", "Run").await?;
    let sent = sent_of(&visit, None, Some(&path)).await?;
    ok(&RunPartPage { frame, run, sent })
}

/// `POST .../cancel`.
pub async fn cancel(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    visit.cancel_run(&visit.who, &id, form.text("reason")).await?;
    Ok(back(&environment, &id, "The run stops and takes back what it did."))
}

/// `POST .../approval`: `approve=yes` or `no`.
pub async fn approve(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let granted = form.is("approve");
    let answer = Given {
        granted,
        comment: form.text("comment").to_owned(),
        plan_sha256: form.some("plan"),
        asked: Some(form.number("asked")?),
        link: None,
    };
    visit.approve_step(&visit.who, &id, form.text("step"), answer).await?;
    Ok(back(&environment, &id, if granted { "Approved." } else { "Refused." }))
}

/// `POST .../break-glass`.
pub async fn break_glass(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    visit.break_glass(&visit.who, &id, form.text("step"), form.text("reason")).await?;
    Ok(back(&environment, &id, "The step goes on. Somebody else will be asked to review this."))
}

/// `POST /ui/{environment}/reviews/{review}`.
pub async fn review(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    visit.close_review(&visit.who, &path.1, form.text("comment")).await?;
    let toast = Toast::say("Reviewed.");
    Ok(Visit::done(&format!("/ui/{}/playbooks", path.0), &toast))
}

/// `POST .../decision`: `was_done`, `redo` or `undo`.
pub async fn decide(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    let decision = serde_json::from_value(Value::String(form.text("decision").to_owned()))
        .map_err(|error| AppError::invalid("decision", error.to_string()))?;
    visit.decide_run(&visit.who, &id, form.text("step"), decision, form.text("comment")).await?;
    Ok(back(&environment, &id, "Decided; the run goes on."))
}

/// `POST .../renew`.
pub async fn renew(visit: Visit, path: Path<(String, String)>, form: Fields) -> Answer {
    let (environment, id) = path.into_inner();
    visit.renew_run(&visit.who, &id, form.text("for"), form.text("reason")).await?;
    Ok(back(&environment, &id, "Renewed; it stands for longer."))
}

fn back(environment: &str, id: &str, text: &str) -> HttpResponse {
    Visit::done(&format!("/ui/{environment}/runs/{id}"), &Toast::say(text))
}
