//! `notify.slack`, `notify.discord`, `notify.teams`, `notify.pagerduty`, `notify.webhook`, `notify.email`: a message to the
//! team's channels, through the outbox.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{
    Answer, At, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind, Undo,
};
use crate::ports::Announcement;
use crate::read::is_name;
use crate::says::one_line;

/// A kind for one sort of channel.
pub struct Kind {
    name: &'static str,
    about: &'static str,
    channels: &'static str,
}

/// `notify.slack`
pub const SLACK: Kind = Kind {
    name: "notify.slack",
    about: "Posts to the team's Slack channels; it cannot be unsent.",
    channels: "slack",
};
/// `notify.discord`
pub const DISCORD: Kind = Kind {
    name: "notify.discord",
    about: "Posts to the team's Discord channels; it cannot be unsent.",
    channels: "discord",
};
/// `notify.teams`
pub const TEAMS: Kind = Kind {
    name: "notify.teams",
    about: "Posts to the team's Microsoft Teams channels; it cannot be unsent.",
    channels: "teams",
};
/// `notify.pagerduty`
pub const PAGERDUTY: Kind = Kind {
    name: "notify.pagerduty",
    about: "Pages whoever is on call through PagerDuty; it cannot be unsent.",
    channels: "pagerduty",
};
/// `notify.webhook`
pub const WEBHOOK: Kind = Kind {
    name: "notify.webhook",
    about: "Calls the team's webhooks, signed; it cannot be unsent.",
    channels: "webhook",
};
/// `notify.email`
pub const EMAIL: Kind = Kind {
    name: "notify.email",
    about: "Writes to the team's mailboxes; it cannot be unsent.",
    channels: "email",
};

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "channel", about: "one channel's key; default: all of this kind" },
            Field { name: "title", about: "one line" },
            Field { name: "message", about: "the message" },
            Field { name: "severity", about: "info (default), warning or critical" },
        ]
    }

    fn undo_mode(&self) -> Undo {
        Undo::Impossible
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let words = [("info", "info"), ("warning", "warning"), ("critical", "critical")];
        let channel = fields.text_or_none("channel", 60)?;
        if let Some(wrong) = channel.as_ref().filter(|key| !is_name(key)) {
            return Err(Fault::new("channel", format!("`{wrong}` is not a channel's key")));
        }
        let said = Announcement {
            kind: self.channels.to_owned(),
            title: one_line(&fields.text("title", 150)?),
            message: fields.text("message", 3_000)?,
            severity: fields.word("severity", &words)?.to_owned(),
            channel,
        };
        let to = said.channel.as_deref().map_or_else(
            || format!("every {} channel", self.channels),
            |key| format!("the channel {key}"),
        );
        let does = format!("Tell {to}: \"{}\"", said.title);
        Ok(Resolved::new(&said, does))
    }

    async fn preview(&self, at: &At<'_>, _: &mut Overlay) -> Effect {
        let mut effect = Effect::none();
        let Ok(said) = at.read::<Announcement>() else { return effect };
        match at.world.notices.recipients(&said).await {
            Ok(channels) => {
                let shown = json!({"channels": channels, "said": said});
                effect.change = Answer::Known(Some((Value::Null, shown)));
            }
            Err(error) => effect.warnings.push(error.to_string()),
        }
        effect
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let said: Announcement = at.read()?;
        let channels = at.world.notices.announce(&at.key("run"), &said).await?;
        Ok(Ran::Done(json!({"channels": channels, "message": at.key("run")})))
    }
}
