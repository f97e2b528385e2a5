//! Break-glass: one person lets through alone what takes others, with a reason; somebody else looks at it afterwards.

use switchback_playbook::journal::NewEntry;
use switchback_store::{Audience, Impact, IncidentStatus, Review, Role, Stamp};

use super::App;
use super::error::AppError;
use super::incidents::{IncidentDraft, UpdateDraft};
use super::who::{EVERYWHERE, Who};
use crate::live::News;

/// The shortest reason, in characters.
pub const REASON_MIN: usize = 20;
/// Uses that a list shows.
const LIST_MAX: i64 = 200;

/// The key of the incident that goes with a review.
fn incident_key(review: &str) -> String {
    format!("review {review}")
}

impl App {
    /// Lets a step that waits for people go on. It stands on the log as what it is, and on the list of what somebody
    /// else has to review.
    pub async fn break_glass(
        &self,
        who: &Who,
        id: &str,
        step: &str,
        reason: &str,
    ) -> Result<Review, AppError> {
        let question = self.question(id, step).await?;
        let run = &question.run;
        who.must(Role::Operator, &run.environment, "break glass")?;
        let (review, stamp) = self.review_of(who, &run.environment, id, step, reason)?;
        let said = self.said_of(who, run, &review.reason, |person, at| {
            NewEntry::break_glass(id, step, at, person)
        })?;
        self.store.break_glass(said, &review, &stamp).await?;
        self.tell_of_break_glass(&review, &run.title).await;
        tracing::warn!(run.id = id, step, "{} broke glass: {}", who.name, review.reason);
        self.announce(News::Run(id.to_owned())).await;
        Ok(review)
    }

    /// Opens an incident that only the team sees. The review is what must not be missing: a failure here is logged.
    pub(super) async fn tell_of_break_glass(&self, review: &Review, title: &str) {
        let name = format!("{} broke glass: {title}", review.actor);
        let body =
            format!("{}\nIn {}. Somebody else reviews it.", review.reason, review.environment);
        let (status, impact) = (IncidentStatus::Identified, Impact::Minor);
        let draft = IncidentDraft {
            audience: Audience::Team,
            ..IncidentDraft::new(&name.chars().take(255).collect::<String>(), status, impact, &body)
        };
        let mut who = Who::system();
        who.run_id = Some(review.run_id.clone());
        if let Err(error) = self.open_incident(&who, draft, Some(incident_key(&review.id))).await {
            tracing::warn!(review = review.id, error = %error, "no incident could be opened for a use of break-glass");
        }
    }

    /// What is to be reviewed, and its mark in the log of changes.
    pub(super) fn review_of(
        &self,
        who: &Who,
        environment: &str,
        run: &str,
        step: &str,
        reason: &str,
    ) -> Result<(Review, Stamp), AppError> {
        let reason = who.reason_or(reason).trim();
        if reason.chars().count() < REASON_MIN {
            let message = format!("say why in at least {REASON_MIN} characters");
            return Err(AppError::invalid("reason", message));
        }
        let mut stamp = self.stamp(who, reason);
        stamp.emergency = true;
        stamp.run_id = Some(run.to_owned());
        let review = Review {
            id: self.ids.next("rev"),
            environment: environment.to_owned(),
            run_id: run.to_owned(),
            step_id: step.to_owned(),
            actor: who.name.clone(),
            reason: stamp.reason.clone(),
            at: stamp.at,
            reviewed_by: None,
            reviewed_at: None,
            comment: String::new(),
        };
        Ok((review, stamp))
    }

    /// Uses of break-glass, newest first.
    pub async fn list_reviews(
        &self,
        who: &Who,
        environment: Option<&str>,
        only_open: bool,
    ) -> Result<Vec<Review>, AppError> {
        who.must(Role::Viewer, environment.unwrap_or(EVERYWHERE), "look at reviews")?;
        Ok(self.store.list_reviews(environment, only_open, LIST_MAX).await?)
    }

    /// Notes that somebody else has looked at a use of break-glass.
    pub async fn close_review(
        &self,
        who: &Who,
        id: &str,
        comment: &str,
    ) -> Result<Review, AppError> {
        let review = self.store.get_review(id).await?;
        who.must(Role::Operator, &review.environment, "review")?;
        if review.actor == who.name {
            let message = "somebody else must review this: you did it";
            return Err(AppError::Refused(message.to_owned()));
        }
        let comment: String = comment.trim().chars().take(1_000).collect();
        if comment.is_empty() {
            return Err(AppError::invalid("comment", "say what you found"));
        }
        let mut stamp = self.stamp(who, &comment);
        stamp.run_id = Some(review.run_id);
        let closed = self.store.close_review(id, &comment, &stamp).await?;
        if let Some(incident) = self.find_open_by_key(&incident_key(id)).await? {
            let body = format!("{} reviewed it: {comment}", who.name);
            let last = UpdateDraft::new(IncidentStatus::Resolved, &body);
            self.update_incident(&Who::system(), &incident.id, last, None).await?;
        }
        Ok(closed)
    }
}
