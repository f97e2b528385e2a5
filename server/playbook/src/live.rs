//! Expressions that look at the world: `flag('auth_bypass') == false and age('app') < 24`, in preconditions, in the `if:` of a step, and in what
//! speaks for running a playbook.
//!
//! The engine of expressions asks nobody. So an expression is evaluated until it wants something that is not known, that is asked for,
//! and it is evaluated again: what it never comes to is never asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value;

use crate::expr;
use crate::ports::{HttpQuestion, PortError, Question, World};
use crate::steps::{flags, probe_metric};
use crate::watch::KINDS;

/// The names that such an expression may use besides those of all expressions.
pub const NAMES: [&str; 6] = ["flag", "age", "count", "metric", "failures", "now"];
/// So many things one expression may ask for.
const LOOKS_MAX: usize = 20;
/// One question to Prometheus may take so long, in milliseconds.
const METRIC_MS: u64 = 5_000;
/// The longest window that failures are looked at in: a day.
const MINUTES_MAX: u32 = 1_440;
const HOUR_MS: f64 = 3_600_000.0;

/// Whether an expression looks at the world.
pub(crate) fn looks(expression: &str) -> bool {
    expr::names(expression)
        .is_ok_and(|names| names.iter().any(|name| NAMES.contains(&name.as_str())))
}

/// Something that an expression wants to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// Whether a flag is on.
    Flag(String),
    /// How many hours ago the newest verified backup of a data source was taken.
    Age(String),
    /// The first number that a query of a data source gives.
    Count(String, String),
    /// What Prometheus says to a query.
    Metric(String, String),
    /// Which share of attempts failed in the last minutes.
    Failures(String, u32),
}

type Known = BTreeMap<Look, Value>;

/// Whether it holds, and what was seen; the inner error says why there is no answer. Each look gives up after a time of the caller's,
/// in milliseconds, if that is shorter than its own.
pub(crate) async fn holds(
    expression: &str,
    context: &Value,
    environment: &str,
    world: &World,
    timeout_ms: Option<u64>,
) -> Result<Result<(bool, String), String>, PortError> {
    let mut known = Known::new();
    let mut context = context.clone();
    if let Value::Object(names) = &mut context {
        names.insert("now".to_owned(), world.clock.now_ms().into());
    }
    for _ in 0..=LOOKS_MAX {
        match evaluate(expression, &context, &known) {
            Ok(holds) => return Ok(Ok((holds, says(expression, &known)))),
            Err(Missed::Wants(look)) => match ask(&look, environment, world, timeout_ms).await? {
                Ok(value) => {
                    known.insert(look, value);
                }
                Err(why) => return Ok(Err(why)),
            },
            Err(Missed::Wrong(why)) => return Ok(Err(why)),
        }
    }
    Ok(Err(format!("it asks for more than {LOOKS_MAX} things")))
}

enum Missed {
    Wants(Look),
    Wrong(String),
}

fn evaluate(expression: &str, context: &Value, known: &Known) -> Result<bool, Missed> {
    let wanted: Arc<Mutex<Option<Look>>> = Arc::default();
    let known = Arc::new(known.clone());
    let find = {
        let wanted = Arc::clone(&wanted);
        move |look: Look| {
            // Only yes or no, and numbers, are ever known.
            if let Some(value) = known.get(&look) {
                return Ok(value.as_f64().map_or_else(
                    || minijinja::Value::from(value.as_bool().unwrap_or_default()),
                    minijinja::Value::from,
                ));
            }
            *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
            Err(Error::new(ErrorKind::InvalidOperation, "not known yet"))
        }
    };
    let add = |env: &mut Environment<'_>| {
        let one = |look: fn(String) -> Look| {
            let find = find.clone();
            move |name: String| find(look(name))
        };
        let two = |look: fn(String, String) -> Look| {
            let find = find.clone();
            move |place: String, query: String| find(look(place, query))
        };
        env.add_function("flag", one(Look::Flag));
        env.add_function("age", one(Look::Age));
        env.add_function("count", two(Look::Count));
        env.add_function("metric", two(Look::Metric));
        let find = find.clone();
        env.add_function("failures", move |what: String, minutes: u32| {
            if !KINDS.contains(&what.as_str()) {
                let all = KINDS.join("', '");
                let why = format!("`{what}` is not reported; there are '{all}'");
                return Err(Error::new(ErrorKind::InvalidOperation, why));
            }
            if !(1..=MINUTES_MAX).contains(&minutes) {
                let why = format!("1 to {MINUTES_MAX} minutes are expected");
                return Err(Error::new(ErrorKind::InvalidOperation, why));
            }
            find(Look::Failures(what, minutes))
        });
    };
    let result = expr::holds_with(expression, context, add);
    let wants = wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, wants) {
        (Ok(holds), _) => Ok(holds),
        (Err(_), Some(look)) => Err(Missed::Wants(look)),
        (Err(why), None) => Err(Missed::Wrong(why)),
    }
}

/// The outer error is an outage, the inner one a reason why there is no answer.
async fn ask(
    look: &Look,
    environment: &str,
    world: &World,
    timeout_ms: Option<u64>,
) -> Result<Result<Value, String>, PortError> {
    Ok(match look {
        Look::Flag(key) => {
            let found = world.flags.read(environment, key).await?;
            Ok(flags::is_on(&found.state, world.clock.now_ms()).into())
        }
        Look::Age(source) => match world.backups.latest(source, true).await? {
            None => Err(format!("`{source}` has no backup that was verified")),
            Some(backup) => {
                let age = world.clock.now_ms().saturating_sub(backup.created_at).max(0);
                Ok((age as f64 / HOUR_MS).into())
            }
        },
        Look::Count(source, sql) => {
            let question = Question {
                source: source.clone(),
                sql: sql.clone(),
                params: Vec::new(),
                timeout_ms,
            };
            let rows = match world.sources.ask(&question).await {
                Ok(rows) => rows,
                Err(error @ PortError::Fenced) => return Err(error),
                Err(error) => return Ok(Err(error.to_string())),
            };
            let value = rows.first().and_then(|row| row.values().next());
            let number = value.and_then(|value| match value.as_str() {
                Some(text) => text.parse().ok(),
                None => value.as_f64(),
            });
            number.map(Value::from).ok_or_else(|| format!("`{source}` gave no number to `{sql}`"))
        }
        Look::Failures(what, minutes) => {
            let found = world.watch.failures(environment, what, *minutes).await?;
            found
                .map(Value::from)
                .ok_or_else(|| format!("no data: nobody reports {what}s, or nobody tried"))
        }
        Look::Metric(url, query) => {
            let question = HttpQuestion {
                method: "GET".to_owned(),
                url: probe_metric::address(url, query),
                timeout_ms: timeout_ms.map_or(METRIC_MS, |most| most.min(METRIC_MS)),
            };
            match world.http.ask(&question).await {
                Ok(answer) => probe_metric::number(&answer, world.clock.now_ms()).map(Value::from),
                Err(error) => Err(format!("no data: {error}")),
            }
        }
    })
}

/// `flag('a') is true, age('app') is 3.2: ...`.
fn says(expression: &str, known: &Known) -> String {
    let seen = known.iter().map(|(look, value)| match look {
        Look::Flag(key) => format!("flag('{key}') is {value}"),
        Look::Age(source) => format!("age('{source}') is {:.1}", value.as_f64().unwrap_or(0.0)),
        Look::Count(source, _) => format!("count('{source}', …) is {value}"),
        Look::Metric(_, query) => format!("metric(…, '{query}') is {value}"),
        Look::Failures(what, minutes) => {
            let percent = value.as_f64().unwrap_or(0.0) * 100.0;
            format!("of {what}, {percent:.1} % failed in {minutes} min")
        }
    });
    let seen = seen.collect::<Vec<_>>().join(", ");
    if seen.is_empty() {
        expression.trim().to_owned()
    } else {
        format!("{seen}; asked is `{}`", expression.trim())
    }
}
