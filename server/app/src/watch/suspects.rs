//! What changed? The changes before a moment, the likeliest cause first: those whose users fail more than the others, then
//! those after which everybody failed more, then the latest.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use switchback_core::model::Millis;
use switchback_store::{ChangeFilter, CountFilter, Role, RunFilter};
use switchback_watch::event::EventKind;
use switchback_watch::rollup::{FINEST_S, floor};

use super::figures::{Rate, Window, width_for};
use super::ticks::Metric;
use crate::App;
use crate::error::AppError;
use crate::who::Who;

/// How far back is looked, in milliseconds.
const BACK_MS: Millis = 2 * 3_600_000;
/// How much time before and after a change is compared, in milliseconds.
const BESIDE_MS: Millis = 15 * 60_000;
/// Changes that are looked at.
const CHANGES_MAX: i64 = 100;
/// From here on, in standard deviations, a difference between two kinds of users is hardly luck.
const PROVED_Z: f64 = 4.0;
/// Suspects that are named.
const NAMED_MAX: usize = 10;
/// The playbook that fits when sign-in fails.
const PLAYBOOK: &str = "auth-rollback";
const NAME_MAX: usize = 200;

/// A change that may be the cause.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Suspect {
    /// `flag`, `segment`, `run` or `deploy`.
    pub kind: String,
    /// The flag's or segment's key, the run's id, the name of what was deployed.
    pub subject: String,
    /// When, in UTC milliseconds.
    pub at: Millis,
    /// Who.
    pub actor: String,
    /// What they did.
    pub action: String,
    /// Why.
    pub reason: String,
    /// Logins since of those who had it, and of the others; for a flag that splits its users. For anything else: of everybody
    /// after it, and before it.
    pub with: Rate,
    /// What it is compared with.
    pub without: Rate,
    /// Whether users with it are compared with users without it, rather than after with before.
    pub is_split: bool,
    /// How far apart the two are, in standard deviations; above 4 it is hardly luck.
    pub z: f64,
    /// The evidence in a sentence.
    pub words: String,
    /// For a flag: the revision that it had before.
    pub restore_revision: Option<u64>,
    /// The playbook that fits.
    pub playbook: Option<String>,
}

impl App {
    /// The changes of the two hours before a moment, the likeliest cause first.
    pub async fn what_changed(
        &self,
        who: &Who,
        environment: &str,
        at: Millis,
    ) -> Result<Vec<Suspect>, AppError> {
        who.must(Role::Viewer, environment, "look at changes")?;
        self.get_environment(environment).await?;
        let now = self.clock.now();
        let until = at.min(now);
        let since = until - BACK_MS;
        let has_playbook = self.catalogue.load().playbooks.contains_key(PLAYBOOK);
        let playbook = has_playbook.then(|| PLAYBOOK.to_owned());
        let mut found = Vec::new();
        let filter = ChangeFilter {
            environment: Some(environment.to_owned()),
            since: Some(since),
            limit: CHANGES_MAX,
            ..ChangeFilter::default()
        };
        let mut known: Vec<(String, String)> = Vec::new();
        let mut ended: BTreeMap<String, Millis> = BTreeMap::new();
        for change in self.store.list_changes(&filter).await? {
            if change.at > until
                || !matches!(change.subject_kind.as_str(), "flag" | "segment" | "deploy")
            {
                continue;
            }
            if change.actor.starts_with("guard:") {
                ended.insert(change.subject, change.at); // put back: what was there until then is in question
                continue;
            }
            let name = (change.subject_kind.clone(), change.subject.clone());
            let end = ended.get(&change.subject).copied().unwrap_or(until);
            if known.contains(&name) {
                continue; // the latest change of each is the one that is in force
            }
            known.push(name);
            let is_flag = change.subject_kind == "flag";
            let exposed = if is_flag {
                self.exposed(
                    environment,
                    &change.subject,
                    Window { from: change.at, until: end + 1 },
                )
                .await?
            } else {
                None
            };
            let split = exposed.is_some();
            let (with, without) = match exposed {
                Some(rates) => rates,
                None => self.around(environment, change.at, until).await?,
            };
            found.push(Suspect {
                words: words(&change.subject, split, &with, &without),
                is_split: split,
                z: z(&with, &without),
                restore_revision: change
                    .revision
                    .filter(|_| is_flag && change.before.is_some())
                    .map(|revision| revision.saturating_sub(1)),
                playbook: playbook.clone(),
                kind: change.subject_kind,
                subject: change.subject,
                at: change.at,
                actor: change.actor,
                action: change.action,
                reason: change.reason,
                with,
                without,
            });
        }
        let filter = RunFilter {
            environment: Some(environment.to_owned()),
            limit: 20,
            ..RunFilter::default()
        };
        for run in self.store.list_runs(&filter).await? {
            if run.created_at < since || run.created_at > until {
                continue;
            }
            let (with, without) = self.around(environment, run.created_at, until).await?;
            found.push(Suspect {
                words: words(&run.title, false, &with, &without),
                is_split: false,
                z: z(&with, &without),
                kind: "run".to_owned(),
                subject: run.id,
                at: run.created_at,
                actor: run.requested_by,
                action: run.title,
                reason: run.reason,
                with,
                without,
                restore_revision: None,
                playbook: None,
            });
        }
        // Users with it against users without it tell more than before and after, which every change shares.
        let proved = |one: &Suspect| one.is_split && one.z >= PROVED_Z;
        found.sort_by(|a, b| {
            proved(b).cmp(&proved(a)).then(b.z.total_cmp(&a.z)).then(b.at.cmp(&a.at))
        });
        found.truncate(NAMED_MAX);
        Ok(found)
    }

    /// Logins of those who had a flag on (or one of its variants) and of those who had it off; none when it did not split.
    async fn exposed(
        &self,
        environment: &str,
        flag: &str,
        window: Window,
    ) -> Result<Option<(Rate, Rate)>, AppError> {
        let dimension = format!("flag:{flag}");
        let width_s = width_for(window, self.clock.now());
        let filter = CountFilter {
            environment,
            width_s,
            dimension: &dimension,
            from: floor(window.from, width_s), // before the change nobody's variant was counted
            until: window.until,
        };
        let (mut on, mut off) = ((0, 0), (0, 0));
        for (kind, value, n) in self.store.sum_auth_counts(&filter).await? {
            let arm = if value == "off" { &mut off } else { &mut on };
            match EventKind::of(&kind) {
                Some(EventKind::LoginSuccess) => arm.0 += n,
                Some(EventKind::LoginFailure) => arm.1 += n,
                _ => {}
            }
        }
        let is_split = on.0 + on.1 > 0 && off.0 + off.1 > 0;
        Ok(is_split.then(|| (Rate::new(on.0, on.1), Rate::new(off.0, off.1))))
    }

    /// Everybody's logins after a moment and before it.
    async fn around(
        &self,
        environment: &str,
        at: Millis,
        until: Millis,
    ) -> Result<(Rate, Rate), AppError> {
        let at = floor(at, FINEST_S);
        let after = Window { from: at, until: until.min(at + BESIDE_MS) + 1 };
        let before = Window { from: at - BESIDE_MS, until: at };
        let (all, bad) = self.attempts(environment, Metric::Login, after).await?;
        let after = Rate::new(all - bad, bad);
        let (all, bad) = self.attempts(environment, Metric::Login, before).await?;
        Ok((after, Rate::new(all - bad, bad)))
    }

    /// Notes that something was deployed, for the line of time and for this list.
    pub async fn note_deploy(
        &self,
        who: &Who,
        environment: &str,
        name: &str,
        reason: &str,
    ) -> Result<(), AppError> {
        who.must(Role::Editor, environment, "note deploys")?;
        self.get_environment(environment).await?;
        let name = name.trim();
        if name.is_empty() || name.chars().count() > NAME_MAX {
            let message = format!("say what was deployed, in 1 to {NAME_MAX} characters");
            return Err(AppError::invalid("name", message));
        }
        let by = self.stamp(who, reason);
        Ok(self.store.log_deploy(environment, name, &by).await?)
    }
}

/// How much more often the first fail than the second, in standard deviations of two proportions; nought for too few.
fn z(with: &Rate, without: &Rate) -> f64 {
    let (a, b) = (with.attempts() as f64, without.attempts() as f64);
    let (Some(p), Some(q)) = (with.failure, without.failure) else { return 0.0 };
    let pooled = (with.bad + without.bad) as f64 / (a + b);
    let spread = (pooled * (1.0 - pooled) * (1.0 / a + 1.0 / b)).sqrt();
    if a < 20.0 || b < 20.0 || spread <= 0.0 { 0.0 } else { (p - q) / spread }
}

fn words(subject: &str, split: bool, with: &Rate, without: &Rate) -> String {
    let rate = |rate: &Rate| match rate.failure {
        Some(share) => format!("{:.1} % of {}", share * 100.0, rate.attempts()),
        None => "none".to_owned(),
    };
    let (now, then) = (rate(with), rate(without));
    match (split, with.attempts().min(without.attempts())) {
        (_, ..20) => "Too few logins to tell.".to_owned(),
        (true, _) => {
            format!("Of logins with `{subject}` {now} failed, of those without it {then}.")
        }
        (false, _) => format!("Of logins after it {now} failed, of those before it {then}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harm_stands_out_and_too_few_say_nothing() {
        assert!(z(&Rate::new(440, 60), &Rate::new(490, 10)) > 4.0);
        assert!(z(&Rate::new(490, 10), &Rate::new(490, 10)).abs() < 0.01);
        assert!(z(&Rate::new(3, 3), &Rate::new(490, 10)).abs() < f64::EPSILON);
        assert!(z(&Rate::new(0, 0), &Rate::new(0, 0)).abs() < f64::EPSILON);
    }
}
