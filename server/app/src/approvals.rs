//! Yes and no to steps that wait for people.

use serde_json::{Value, json};
use switchback_playbook::journal::NewEntry;
use switchback_playbook::plan::{Approval, PlannedStep};
use switchback_playbook::state::{StepState, StepView};
use switchback_playbook::{Plan, RunView};
use switchback_store::{LogEntry, RunRow};

use super::App;
use super::error::AppError;
use super::report::entries_of;
use super::who::Who;

/// Yes or no, and to what.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Yes.
    pub granted: bool,
    /// What they add.
    pub comment: String,
    /// The plan that they saw, if they say so: its SHA-256, or how it begins.
    pub plan_sha256: Option<String>,
    /// The row of the log that asked them, if they say so.
    pub asked: Option<u64>,
    /// The link by which they came: its id, and who made it.
    pub link: Option<(String, String)>,
}

/// A step that waits for people.
#[derive(Debug)]
pub struct Question {
    /// The run.
    pub run: RunRow,
    /// Its plan.
    pub plan: Plan,
    /// The step's place in the plan.
    pub index: usize,
    /// The step.
    pub step: PlannedStep,
    /// Whom it waits for.
    pub approval: Approval,
    /// What its rows add up to.
    pub seen: StepView,
    /// The run's rows.
    pub log: Vec<LogEntry>,
}

impl App {
    /// The question that a step asks; refused when it asks none now.
    pub(super) async fn question(&self, id: &str, step: &str) -> Result<Question, AppError> {
        let run = self.store.get_run(id).await?;
        let plan: Plan =
            serde_json::from_str(&run.plan).map_err(|e| AppError::Internal(Box::new(e)))?;
        let missing = || AppError::NotFound { kind: "step", key: step.to_owned() };
        let index = plan.steps.iter().position(|one| one.id == step).ok_or_else(missing)?;
        let log = self.store.list_entries(id).await?;
        let view = RunView::of(&plan, &entries_of(&log));
        let (Some(step), Some(seen)) = (plan.steps.get(index), view.steps.get(index)) else {
            return Err(missing());
        };
        let waits = seen.state == StepState::Waiting && seen.approval_until.is_some();
        let enough = |approval: &Approval| seen.approvals.len() as u64 >= approval.min.into();
        let approval = step.approve.clone().filter(|approval| waits && !enough(approval));
        let Some(approval) = approval.filter(|_| view.finished.is_none()) else {
            let message = format!("step `{}` waits for nobody now", step.id);
            return Err(AppError::Refused(message));
        };
        let (step, seen) = (step.clone(), seen.clone());
        Ok(Question { run, plan, index, step, approval, seen, log })
    }

    /// Says yes or no to a step that waits for people. The one who started the run has no vote.
    pub async fn approve_step(
        &self,
        who: &Who,
        id: &str,
        step: &str,
        answer: Answer,
    ) -> Result<(), AppError> {
        let question = self.question(id, step).await?;
        if answer.granted {
            question.admits(who)?;
        }
        let Question { run, seen, .. } = &question;
        let Answer { granted, comment, plan_sha256, asked, link } = answer;
        let is_other_plan = |told: &String| told.len() < 8 || !run.plan_sha256.starts_with(told);
        if plan_sha256.as_ref().is_some_and(is_other_plan)
            || asked.is_some_and(|asked| asked != seen.asked)
        {
            let message =
                "what you were asked about has changed since; look again, then say yes or no";
            return Err(AppError::Refused(message.to_owned()));
        }
        self.say_to_run(who, id, &comment, |person, at| {
            let mut entry = NewEntry::approval(id, step, at, granted, person);
            if let Value::Object(detail) = &mut entry.detail {
                detail.insert("plan_sha256".to_owned(), json!(run.plan_sha256));
                detail.insert("asked".to_owned(), json!(seen.asked));
                if let Some((link, made_by)) = link {
                    detail.insert("link".to_owned(), json!(link));
                    detail.insert("link_by".to_owned(), json!(made_by));
                }
            }
            entry
        })
        .await
    }
}

impl Question {
    /// Refuses whose yes would not count.
    pub(super) fn admits(&self, who: &Who) -> Result<(), AppError> {
        if self.run.requested_by == who.name && !self.approval.own {
            let message = "somebody else must approve: you started this run";
            return Err(AppError::Refused(message.to_owned()));
        }
        if !who.has_one_of(&self.approval.roles, &self.run.environment) {
            let roles = self.approval.roles.join(" or ");
            return Err(AppError::Refused(format!("this step takes somebody who is {roles}")));
        }
        Ok(())
    }
}
