//! A pack's text: written, checked with line and column, looked over by its database, kept or put back.

use actix_web::web::Path;
use askama::Template;
use switchback_app::AppError;
use switchback_app::checks::{KnownPack, Remark};
use switchback_checks::Pack;

use crate::ui::error::sentence;
use crate::ui::fields::Fields;
use crate::ui::frame::Frame;
use crate::ui::visit::{Toast, Visit};
use crate::ui::words::{self, Words};
use crate::ui::{Answer, UiError, ok, unprocessable};

/// What a new pack begins with.
const BLANK: &str = "\
kind: CheckPack
metadata: {name: my_pack, title: My rows are whole, owner: my team}
spec:
  about: What it looks for, and why.
  monitor: {every: 1m}
  checks:
    - name: profile_missing
      title: A person without a profile
      about: Why it happens, and what the fix does.
      class: orphan
      severity: error
      label: none
      detect: |
        SELECT p.id AS key FROM people AS p
        WHERE NOT EXISTS (SELECT 1 FROM profiles AS f WHERE f.person = p.id)
      population: SELECT count(*) AS count FROM people
";

#[derive(Template)]
#[template(path = "pages/check_text.html")]
struct TextPage {
    frame: Frame,
    /// `None`: a new one.
    known: Option<KnownPack>,
    version: u64,
    source: String,
    /// What to say when nothing is wrong.
    good: &'static str,
    faults: Vec<String>,
    remarks: Vec<Remark>,
}

impl TextPage {
    fn sentence(&self) -> Words {
        match &self.known {
            None => Words::say("A pack of your own. It is checked when you save it."),
            Some(known) => match &known.changed {
                Some((at, by)) if known.is_own => {
                    Words::say(&format!("Version {}, saved ", known.version))
                        .when(*at, self.frame.now)
                        .and(&format!(" by {}.", words::actor(by)))
                }
                _ => Words::say("Shipped. What you save here counts instead, on every node."),
            },
        }
    }

    fn name(&self) -> &str {
        self.known.as_ref().map_or("new", |known| &known.pack.name)
    }

    fn is_own(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_own)
    }

    fn can_look_over(&self) -> bool {
        let is_used = self.known.as_ref().is_some_and(|one| !one.settings.source.is_empty());
        is_used && self.frame.can_tell
    }

    fn says(&self, remark: &Remark) -> String {
        sentence(&remark.message)
    }
}

/// What is shown in place of what is kept.
#[derive(Default)]
struct Sent<'f> {
    form: Option<&'f Fields>,
    good: &'static str,
    faults: Vec<String>,
    remarks: Vec<Remark>,
}

/// `GET /ui/checks/{pack}/text`; `new` begins one.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    ok(&page_of(&visit, &path, Sent::default()).await?)
}

async fn page_of(visit: &Visit, name: &str, sent: Sent<'_>) -> Result<TextPage, UiError> {
    let frame = visit.frame_anywhere("checks", "Pack of checks").await?;
    let known = match name {
        "new" => None,
        name => Some(visit.get_check_pack(&visit.who, name).await?),
    };
    let kept = known.as_ref().map_or_else(|| BLANK.to_owned(), |known| known.source.clone());
    let version = known.as_ref().map_or(0, |known| known.version);
    let Sent { form, good, faults, remarks } = sent;
    Ok(TextPage {
        frame,
        known,
        version: form.and_then(|form| form.number("version").ok()).unwrap_or(version),
        source: form.and_then(|form| form.some("source")).unwrap_or(kept),
        good,
        faults,
        remarks,
    })
}

/// `POST /ui/checks/{pack}/text`: `check`, `look_over`, `save` or `reset`.
pub async fn put(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let name = path.into_inner();
    let source = form.text("source");
    let form_of = |faults: Vec<String>| Sent { form: Some(&form), faults, ..Sent::default() };
    match form.text("do") {
        "reset" => {
            visit.reset_check_pack(&visit.who, &name).await?;
            let says = format!("What was written of {name} here is gone.");
            return Ok(Visit::done("/ui/checks", &Toast::say(says)));
        }
        "check" => {
            let problems = visit.check_pack_text(&visit.who, source)?;
            let faults: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let good = "Nothing is wrong with it. It is not saved yet.";
            let good = if faults.is_empty() { good } else { "" };
            return ok(&page_of(&visit, &name, Sent { good, ..form_of(faults) }).await?);
        }
        "look_over" => {
            return match visit.lint_check_pack(&visit.who, &name).await {
                Ok(remarks) => {
                    let good = "The database finds nothing to remark.";
                    let good = if remarks.is_empty() { good } else { "" };
                    let sent = Sent { good, remarks, ..Sent::default() };
                    ok(&page_of(&visit, &name, sent).await?)
                }
                Err(error) => {
                    let faults = crate::ui::fields::Faults::of(error)?.beside(&[]);
                    unprocessable(&page_of(&visit, &name, form_of(faults)).await?)
                }
            };
        }
        _ => {}
    }
    let own = Pack::parse(source).map(|pack| pack.name);
    let own = own.ok().filter(|_| name == "new").unwrap_or_else(|| name.clone());
    let expected = if name == "new" { Some(0) } else { form.number("version").ok() };
    let faults = match visit.put_check_pack(&visit.who, &own, source, expected).await {
        Ok(kept) => {
            let says = format!("{own} is saved as version {}.", kept.version);
            return Ok(Visit::done(&format!("/ui/checks/{own}"), &Toast::say(says)));
        }
        Err(AppError::Invalid(wrong)) => wrong
            .into_iter()
            .map(|one| match one.field.as_str() {
                "source" | "" => one.message,
                check => format!("{check}: {}", one.message),
            })
            .collect(),
        Err(error @ (AppError::Refused(_) | AppError::Conflict { .. })) => {
            vec![sentence(&error.to_string())]
        }
        Err(error) => return Err(error.into()),
    };
    unprocessable(&page_of(&visit, &name, form_of(faults)).await?)
}
