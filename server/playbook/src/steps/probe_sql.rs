//! `probe.sql`: asks a data source until it answers as it should.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{At, Check, Effect, Fault, Field, Fields, Overlay, Ran, Resolved, StepError, StepKind};
use crate::ports::{PortError, Question};
use crate::units::duration_text;

const PAUSE_MS: u64 = 500;
/// One question may take this long; the source's own limit is usually shorter, in milliseconds.
const QUESTION_MS_MAX: u64 = 60_000;
const SQL_MAX: usize = 20_000;
/// A value is kept up to this length, in characters.
const VALUE_MAX: usize = 200;

/// The kind.
pub struct Kind;

#[derive(Serialize, Deserialize)]
struct Params {
    source: String,
    sql: String,
    values: Vec<String>,
    expect: Option<String>,
    min_rows: u64,
    max_rows: u64,
    within_ms: u64,
}

impl Params {
    fn question(&self) -> Question {
        let Self { source, sql, values, .. } = self;
        Question {
            source: source.clone(),
            sql: sql.clone(),
            params: values.clone(),
            timeout_ms: None,
        }
    }

    /// What the answer should be, in words.
    fn wanted(&self) -> String {
        match (&self.expect, self.min_rows, self.max_rows) {
            (Some(value), ..) => format!("`{value}`"),
            (None, 0, 0) => "no row".to_owned(),
            (None, low, u64::MAX) => format!("at least {}", rows(low)),
            (None, 0, high) => format!("at most {}", rows(high)),
            (None, low, high) => format!("{low} to {}", rows(high)),
        }
    }
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[async_trait]
impl StepKind for Kind {
    fn name(&self) -> &'static str {
        "probe.sql"
    }

    fn about(&self) -> &'static str {
        "Asks a data source one query until it gives the expected value, or as many rows as it should."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field { name: "source", about: "the data source's name" },
            Field { name: "sql", about: "one query; $1, $2, … stand for params" },
            Field {
                name: "params",
                about: "a list of texts; cast them where the column is no text",
            },
            Field { name: "expect", about: "the first column of the first row, as text" },
            Field { name: "min_rows", about: "at least so many rows; default 1, 0 with max_rows" },
            Field { name: "max_rows", about: "at most so many rows" },
            Field { name: "within", about: "how long to keep asking; default once" },
        ]
    }

    fn read_only(&self) -> bool {
        true
    }

    fn resolve(&self, fields: &Fields<'_>) -> Result<Resolved, Fault> {
        let has_max = fields.any("max_rows").is_some();
        let expect = match fields.any("expect") {
            None => None,
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            Some(_) => fields.text_or_none("expect", VALUE_MAX)?,
        };
        let params = Params {
            source: fields.text("source", 60)?,
            sql: fields.text("sql", SQL_MAX)?,
            values: fields.list("params")?,
            expect,
            min_rows: fields.whole("min_rows", 0, 1_000_000, u64::from(!has_max))?,
            max_rows: fields.whole("max_rows", 0, 1_000_000, u64::MAX)?,
            within_ms: fields.duration_or_none("within")?.unwrap_or(0),
        };
        if params.min_rows > params.max_rows {
            return Err(Fault::new("min_rows", "is above max_rows"));
        }
        let until = match params.within_ms {
            0 => String::new(),
            within => format!(", asking for up to {}", duration_text(within)),
        };
        let does = format!("Ask `{}` and expect {}{until}", params.source, params.wanted());
        let timeout_ms = params.within_ms + QUESTION_MS_MAX;
        Ok(Resolved { timeout_ms, ..Resolved::new(&params, does) })
    }

    async fn preview(&self, at: &At<'_>, _so_far: &mut Overlay) -> Effect {
        let Ok(params) = at.read::<Params>() else { return Effect::none() };
        let mut warnings = match at.world.sources.explain(&params.question()).await {
            Ok(warnings) => warnings,
            Err(error) => vec![error.to_string()],
        };
        if warnings.is_empty() {
            let now = ask(at, &params).await;
            warnings.extend(now.err().map(|seen| format!("it would not hold now: {}", seen.says)));
        }
        Effect { warnings, ..Effect::none() }
    }

    async fn run(&self, at: &At<'_>) -> Result<Ran, StepError> {
        let params: Params = at.read()?;
        let give_up = at.now().saturating_add_unsigned(params.within_ms);
        loop {
            let seen = match ask(at, &params).await {
                Ok(detail) => return Ok(Ran::Done(detail)),
                Err(Miss { error: Some(error @ PortError::Refused(_)), .. }) => {
                    return Err(error.into());
                }
                Err(miss) => miss.says,
            };
            let now = at.now();
            if now >= give_up {
                return Err(StepError::passing(seen));
            }
            at.world.clock.sleep_until(now.saturating_add_unsigned(PAUSE_MS).min(give_up)).await;
        }
    }

    async fn verify(&self, at: &At<'_>) -> Result<Check, StepError> {
        match self.run(at).await {
            Ok(Ran::Done(seen)) => Ok(Check::Holds(
                seen.get("says").and_then(Value::as_str).unwrap_or_default().to_owned(),
            )),
            Ok(Ran::Committed) => Ok(Check::Holds(String::new())),
            Err(StepError::Failed { message, .. }) => Ok(Check::Broken(message)),
            Err(error) => Err(error),
        }
    }
}

/// An answer that is not what it should be, or none.
struct Miss {
    says: String,
    error: Option<PortError>,
}

async fn ask(at: &At<'_>, params: &Params) -> Result<Value, Miss> {
    let found = at.world.sources.ask(&params.question()).await;
    let found = found.map_err(|error| Miss { says: error.to_string(), error: Some(error) })?;
    let value = found.first().and_then(|row| row.values().next()).map(text_of);
    let count = found.len() as u64;
    let (says, holds) = if let Some(wanted) = &params.expect {
        let got = value.clone().unwrap_or_else(|| "no row".to_owned());
        let holds = value.as_ref() == Some(wanted);
        let but = if holds { String::new() } else { format!(", not `{wanted}`") };
        (format!("it is `{got}`{but}"), holds)
    } else {
        let holds = (params.min_rows..=params.max_rows).contains(&count);
        let wanted = if holds { String::new() } else { format!(", not {}", params.wanted()) };
        (format!("it gave {}{wanted}", rows(count)), holds)
    };
    let says = format!("`{}`: {says}", params.source);
    if holds {
        return Ok(json!({"says": says, "rows": count, "value": value}));
    }
    Err(Miss { says, error: None })
}

fn text_of(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().take(VALUE_MAX).collect()
}
