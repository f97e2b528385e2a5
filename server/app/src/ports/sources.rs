//! The engine's port to data sources, over the source crate.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use switchback_playbook::ports::{
    self, Changed, PortError, PutBack, Question, Rehearsal, Script, Sources,
};
use switchback_source::{
    Direction, Executed, Migrated, Migration, Rehearsed, Side, Snapshot, Source, SourceError, Work,
};

use super::{IN_DRILL, Ports, port_error};
use crate::error::AppError;

#[async_trait]
impl Sources for Ports {
    async fn ask(&self, question: &Question) -> Result<Vec<Map<String, Value>>, PortError> {
        let source = self.source(&question.source).await?;
        let Question { sql, params, .. } = question;
        let asked = match question.timeout_ms {
            Some(most) => source.query_for(sql, params, most).await,
            None => source.query(sql, params).await,
        };
        asked.map_err(|error| source_error(&question.source, &error))
    }

    async fn explain(&self, question: &Question) -> Result<Vec<String>, PortError> {
        let source = self.source(&question.source).await?;
        let plan = source.explain(&question.sql, &question.params).await;
        plan.map(|plan| plan.warnings).map_err(|error| source_error(&question.source, &error))
    }

    async fn exec(&self, key: &str, script: &Script) -> Result<Changed, PortError> {
        let name = &script.source;
        let snapshots = snapshots_of(script);
        let done = self.source(name).await?.exec(key, &work_of(script, &snapshots)).await;
        done.map(changed).map_err(|error| source_error(name, &error))
    }

    async fn find(&self, key: &str, source: &str) -> Result<Option<Changed>, PortError> {
        let found = self.source(source).await?.find(key).await;
        found.map(|done| done.map(changed)).map_err(|error| source_error(source, &error))
    }

    async fn put_back(&self, key: &str, rows: &PutBack) -> Result<Changed, PortError> {
        let PutBack { source: name, of, side, is_forced } = rows;
        let done = self.source(name).await?.put_back(key, of, side_of(*side), *is_forced).await;
        done.map(changed).map_err(|error| source_error(name, &error))
    }

    async fn rehearse_put_back(&self, rows: &PutBack) -> Result<Changed, PortError> {
        let PutBack { source: name, of, side, is_forced } = rows;
        let source = self.source(name).await?;
        let done = source.rehearse_put_back(of, side_of(*side), *is_forced).await;
        done.map(changed).map_err(|error| source_error(name, &error))
    }

    async fn rehearse(&self, script: &Script) -> Result<Rehearsal, PortError> {
        let name = &script.source;
        let snapshots = snapshots_of(script);
        let rehearsed = self.source(name).await?.rehearse(&work_of(script, &snapshots)).await;
        let Rehearsed { executed, warnings } =
            rehearsed.map_err(|error| source_error(name, &error))?;
        Ok(Rehearsal { rows: executed.rows, warnings })
    }

    async fn migrate(
        &self,
        key: &str,
        migration: &ports::Migration,
        direction: ports::Direction,
    ) -> Result<Option<Changed>, PortError> {
        let name = &migration.source;
        let source = self.source(name).await?;
        let done = source.migrate(key, &migration_of(migration), direction_of(direction)).await;
        done.map(migrated).map_err(|error| source_error(name, &error))
    }

    async fn find_migrated(
        &self,
        key: &str,
        source: &str,
    ) -> Result<Option<Option<Changed>>, PortError> {
        let found = self.source(source).await?.find_migrated(key).await;
        found.map(|done| done.map(migrated)).map_err(|error| source_error(source, &error))
    }

    async fn check_migration(
        &self,
        migration: &ports::Migration,
        direction: ports::Direction,
    ) -> Result<Option<String>, PortError> {
        let name = &migration.source;
        let source = self.source(name).await?;
        let found = source.check_migration(&migration_of(migration), direction_of(direction)).await;
        found.map_err(|error| source_error(name, &error))
    }

    async fn rehearse_migration(
        &self,
        migration: &ports::Migration,
        direction: ports::Direction,
    ) -> Result<Rehearsal, PortError> {
        let name = &migration.source;
        let source = self.source(name).await?;
        let rehearsed =
            source.rehearse_migration(&migration_of(migration), direction_of(direction)).await;
        let Rehearsed { executed, warnings } =
            rehearsed.map_err(|error| source_error(name, &error))?;
        Ok(Rehearsal { rows: executed.rows, warnings })
    }
}

impl Ports {
    pub(crate) async fn source(&self, name: &str) -> Result<Arc<Source>, PortError> {
        let name = name.strip_prefix(IN_DRILL).unwrap_or(name);
        let source = match self.drill() {
            Some(drill) => self.app.copy_of(drill, name).await,
            None => self.app.source(name).await,
        };
        source.map_err(|error| match error {
            AppError::Unavailable(error) => port_error(error),
            error => PortError::Refused(error.to_string()),
        })
    }
}

fn snapshots_of(script: &Script) -> Vec<Snapshot> {
    let one = |wanted: &ports::Snapshot| {
        let ports::Snapshot { table, key, filter } = wanted.clone();
        Snapshot { table, key, filter }
    };
    script.snapshots.iter().map(one).collect()
}

fn work_of<'s>(script: &'s Script, snapshots: &'s [Snapshot]) -> Work<'s> {
    Work { sql: &script.sql, params: &script.params, rows_max: script.rows_max, snapshots }
}

fn side_of(side: ports::Side) -> Side {
    match side {
        ports::Side::Before => Side::Before,
        ports::Side::After => Side::After,
    }
}

fn migration_of(migration: &ports::Migration) -> Migration<'_> {
    let ports::Migration { source: _, name, up, down, verify, rows_max } = migration;
    Migration { name, up, down, verify, rows_max: *rows_max }
}

fn direction_of(direction: ports::Direction) -> Direction {
    match direction {
        ports::Direction::Up => Direction::Up,
        ports::Direction::Down => Direction::Down,
    }
}

fn migrated(done: Migrated) -> Option<Changed> {
    match done {
        Migrated::Ran(executed) => Some(changed(executed)),
        Migrated::Already => None,
    }
}

fn changed(executed: Executed) -> Changed {
    let Executed { rows, statements, .. } = executed;
    Changed { rows, statements }
}

pub(crate) fn source_error(name: &str, error: &SourceError) -> PortError {
    let message = format!("data source `{name}`: {error}");
    match error {
        SourceError::Conflict(_) => PortError::Conflict(message),
        error if error.is_passing() => PortError::Unavailable(message),
        _ => PortError::Refused(message),
    }
}
