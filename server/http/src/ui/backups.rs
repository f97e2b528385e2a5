//! Backups of one data source: which there are, which were proved, and starting either.

use std::collections::BTreeMap;

use actix_web::web::Path;
use askama::Template;
use serde_json::json;
use switchback_app::EVERYWHERE;
use switchback_app::backups::{BackupDraft, BackupView};
use switchback_playbook::units::bytes_text;
use switchback_store::Role;

use super::fields::{Faults, Fields};
use super::frame::Frame;
use super::visit::{Visit, go};
use super::words::{self, Words};
use super::{Answer, UiError, ok, unprocessable};

#[derive(Template)]
#[template(path = "pages/backups.html")]
struct BackupsPage {
    frame: Frame,
    source: String,
    sentence: Words,
    backups: Vec<BackupView>,
    may_run: bool,
    faults: Vec<String>,
}

impl BackupsPage {
    fn size(&self, backup: &BackupView) -> String {
        bytes_text(backup.taken.bytes)
    }

    fn rows(&self, backup: &BackupView) -> String {
        words::count(backup.rows(), "row")
    }

    fn by(&self, backup: &BackupView) -> String {
        words::actor(&backup.created_by)
    }

    /// How long restoring took, and how old the backup was then.
    fn proof(&self, backup: &BackupView) -> String {
        match (&backup.proof, backup.age_ms) {
            (Some(proof), Some(age)) => format!(
                "restored in {}, {} old then",
                words::duration(proof.restore_ms.cast_signed()),
                words::duration(age.cast_signed())
            ),
            _ => String::new(),
        }
    }
}

/// `GET /ui/settings/sources/{source}/backups`.
pub async fn page(visit: Visit, path: Path<String>) -> Answer {
    ok(&page_of(&visit, &path, Vec::new()).await?)
}

async fn page_of(visit: &Visit, source: &str, faults: Vec<String>) -> Result<BackupsPage, UiError> {
    let frame = visit.frame_anywhere("settings", "Data sources").await?;
    let backups = visit.list_backups(&visit.who, source).await?;
    let newest = backups.iter().find(|backup| backup.verified_at.is_some());
    let sentence = match (backups.len() as u64, newest) {
        (0, _) => Words::say("No backup of ").code(source).and(" yet."),
        (count, None) => Words::default()
            .strong(&words::count(count, "backup"))
            .and(" of ")
            .code(source)
            .and("; none was proved by restoring it."),
        (count, Some(newest)) => Words::default()
            .strong(&words::count(count, "backup"))
            .and(" of ")
            .code(source)
            .and("; the newest proved one was taken ")
            .when(newest.created_at, visit.clock.now())
            .and("."),
    };
    let may_run = visit.who.must(Role::Operator, EVERYWHERE, "back up data sources").is_ok();
    Ok(BackupsPage { frame, source: source.to_owned(), sentence, backups, may_run, faults })
}

/// `POST /ui/settings/sources/{source}/backups`: `do=take` or `do=verify`.
pub async fn start(visit: Visit, path: Path<String>, form: Fields) -> Answer {
    let source = path.into_inner();
    let verify = form.text("do") == "verify";
    let mut inputs = BTreeMap::new();
    if !verify {
        inputs.insert("verify".to_owned(), json!(form.is("verify")));
    }
    let draft = BackupDraft {
        source: source.clone(),
        environment: Some(visit.environment().await?),
        reason: form.text("reason").to_owned(),
        trigger: "ui",
        inputs,
    };
    let started = if verify {
        visit.start_backup_verification(&visit.who, draft).await
    } else {
        visit.start_backup(&visit.who, draft).await
    };
    match started {
        Ok(run) => Ok(go(&format!("/ui/{}/runs/{}", run.environment, run.id))),
        Err(error) => {
            let faults = Faults::of(error)?.beside(&[]);
            unprocessable(&page_of(&visit, &source, faults).await?)
        }
    }
}
