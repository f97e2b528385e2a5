//! `flag.restore`: gives a flag back the state that it had before a change.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::flags;
use super::{
    At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::standing::Sight;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    key: String,
    before_revision: u64,
    unless_changed_since: Option<u64>,
    force: bool,
}

impl Params {
    /// Why the flag is left alone: somebody has changed it since.
    fn taken(&self, revision: u64) -> Option<String> {
        let since = self.unless_changed_since.filter(|since| !self.force && revision > *since)?;
        Some(format!(
            "`{}` was changed by somebody else (revision {revision}) after revision {since}; it was left alone",
            self.key
        ))
    }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "flag.restore"
    }

    fn about(&self) -> &'static str {
        "Gives a flag back the state that it had before a revision; undo restores what it was."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "key", about: "the flag's key" },
            Field {
                name: "before_revision",
                about: "the revision of the change that is taken back; it must be one of this flag",
            },
            Field {
                name: "unless_changed_since",
                about: "a revision; the step fails when somebody has changed the flag after it",
            },
            Field { name: "force", about: "true: also when somebody has changed it since" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Automatic
    }

    fn commits_itself(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        if fields.any("before_revision").is_none() {
            return Err(Fault::new("before_revision", "`before_revision` is missing"));
        }
        let since = fields.any("unless_changed_since").is_some();
        let revision = |name: &str| fields.whole(name, 1, u64::MAX >> 1, 0);
        let params = Params {
            key: fields.flag()?,
            before_revision: revision("before_revision")?,
            unless_changed_since: since.then(|| revision("unless_changed_since")).transpose()?,
            force: fields.any("force").is_some() && fields.bool("force")?,
        };
        let does = format!(
            "Give flag `{}` back the state that it had before revision {}",
            params.key, params.before_revision
        );
        let undoes = format!("Give flag `{}` back the state it has now", params.key);
        Ok(Resolved { undoes, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let (environment, flags) = (&at.plan.environment, &at.world.flags);
        let wanted = match flags.read_before(environment, &params.key, params.before_revision).await
        {
            Ok(wanted) => Ok(wanted),
            Err(error) => Err(error.to_string()),
        };
        flags::preview(at, so_far, &params.key, &|flag, _| match params.taken(flag.revision) {
            Some(why) => Err(why),
            None => wanted.clone(),
        })
        .await
    }

    async fn sight(&self, at: &At<'_>) -> Option<Sight> {
        flags::sight(at).await
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let environment = &at.plan.environment;
        let wanted =
            at.world.flags.read_before(environment, &params.key, params.before_revision).await?;
        flags::change(at, &params.key, &|flag, _| match params.taken(flag.revision) {
            Some(_) if at.revisions.contains(&flag.revision) => Ok(wanted.clone()), // this run's own change
            Some(why) if flag.state != wanted => Err(why),
            _ => Ok(wanted.clone()),
        })
        .await
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        flags::check(at, &at.read::<Params>()?.key).await
    }

    async fn undo(&self, at: &At<'_>) -> Result<Ran, StepError> {
        flags::restore(at).await
    }
}
