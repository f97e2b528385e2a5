//! What an incident template says on each channel: e-mail, inside the apps, in chat, and what support answers.
//!
//! ```yaml
//! email:
//!   subject: Sign-in is unavailable
//!   text: We are sorry: signing in does not work at the moment.
//!   html: <p>We are sorry: signing in does <b>not</b> work at the moment.</p>   # made of the text when absent
//! in_app: {title: Sign-in is unavailable, message: You can go on without it., severity: warning}
//! chat: Sign-in is down, back in {estimated_time}.
//! support: Thank you for writing. Signing in does not work at the moment.
//! ```
//! Every part may be absent: that channel then says the title and the body.

use serde::{Deserialize, Serialize};

use crate::read::{Entries, Reader, join};
use crate::yaml::Node;

/// What a message inside the apps may be.
pub const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

/// The keys of a template that hold these texts.
pub const KEYS: [&str; 4] = ["email", "in_app", "chat", "support"];

/// The texts; those that are absent are the title and the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Says {
    /// By e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailText>,
    /// Inside the apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_app: Option<InAppText>,
    /// In chat: plain text, which each channel escapes in its own way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// What support answers to whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<String>,
}

/// An e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailText {
    /// One line.
    pub subject: String,
    /// For readers of plain text.
    pub text: String,
    /// For all others; made of the text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// A message inside the apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InAppText {
    /// A short line.
    pub title: String,
    /// The message.
    pub message: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
}

impl Says {
    /// Whether nothing of its own is said anywhere.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every text with its place, and whether it is HTML.
    pub fn texts(&self) -> Vec<(&'static str, &str, bool)> {
        let mut all = Vec::new();
        if let Some(email) = &self.email {
            all.push(("email.subject", email.subject.as_str(), false));
            all.push(("email.text", email.text.as_str(), false));
            all.extend(email.html.as_deref().map(|html| ("email.html", html, true)));
        }
        if let Some(in_app) = &self.in_app {
            all.push(("in_app.title", in_app.title.as_str(), false));
            all.push(("in_app.message", in_app.message.as_str(), false));
        }
        all.extend(self.chat.as_deref().map(|text| ("chat", text, false)));
        all.extend(self.support.as_deref().map(|text| ("support", text, false)));
        all
    }

    /// The same with every text replaced; `fill` learns whether it is HTML.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn map(
        &self,
        mut fill: impl FnMut(&str, bool) -> Result<String, String>,
    ) -> Result<Self, String> {
        let email = match &self.email {
            Some(EmailText { subject, text, html }) => Some(EmailText {
                subject: one_line(&fill(subject, false)?),
                text: fill(text, false)?,
                html: html.as_deref().map(|html| fill(html, true)).transpose()?,
            }),
            None => None,
        };
        let in_app = match &self.in_app {
            Some(InAppText { title, message, severity }) => Some(InAppText {
                title: one_line(&fill(title, false)?),
                message: fill(message, false)?,
                severity: severity.clone(),
            }),
            None => None,
        };
        let chat = self.chat.as_deref().map(|text| fill(text, false)).transpose()?;
        let support = self.support.as_deref().map(|text| fill(text, false)).transpose()?;
        Ok(Self { email, in_app, chat, support })
    }
}

/// A text without line breaks: a value may not start a new header.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text for HTML: nothing in it is markup.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Reads the texts of a template.
pub(crate) fn parse(reader: &mut Reader, map: Entries<'_>) -> Says {
    Says {
        email: map.get("email").and_then(|node| email(reader, node)),
        in_app: map.get("in_app").and_then(|node| in_app(reader, node)),
        chat: reader.optional(map, "", "chat", 3_000),
        support: reader.optional(map, "", "support", 8_000),
    }
}

fn email(reader: &mut Reader, node: &Node) -> Option<EmailText> {
    let map = reader.map(node, "email", &["subject", "text", "html"])?;
    let subject = reader.required(map, "email", "subject", 200);
    if let (Some(text), Some(place)) = (&subject, map.get("subject"))
        && text.trim().contains('\n')
    {
        reader.fault(place, &join("email", "subject"), "one line is expected", "");
    }
    Some(EmailText {
        subject: subject?,
        text: reader.required(map, "email", "text", 10_000)?,
        html: reader.optional(map, "email", "html", 20_000),
    })
}

fn in_app(reader: &mut Reader, node: &Node) -> Option<InAppText> {
    let map = reader.map(node, "in_app", &["title", "message", "severity"])?;
    let words: Vec<_> = SEVERITIES.iter().map(|word| (*word, *word)).collect();
    Some(InAppText {
        title: reader.required(map, "in_app", "title", 100)?,
        message: reader.required(map, "in_app", "message", 500)?,
        severity: reader.word(map, "in_app", "severity", &words).unwrap_or("info").to_owned(),
    })
}
