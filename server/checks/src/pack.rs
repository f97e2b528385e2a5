//! Packs of checks as files: what is wrong with a row, how it is healed, and how often somebody looks.
//!
//! ```yaml
//! kind: CheckPack
//! metadata: {name: signups, title: Sign-ups are whole, owner: auth team}
//! spec:
//!   monitor: {every: 30s, event: 1s, full: 5m}
//!   checks:
//!     - name: profile_missing
//!       title: Signed up, but without a profile
//!       class: auth_only
//!       severity: error
//!       label: phone
//!       detect: SELECT u.id AS key, u.phone AS label, u.created_at AS since FROM auth.users u …
//!       population: SELECT count(*) AS count FROM auth.users
//!       fix:
//!         per: batch
//!         sql: INSERT INTO public.profiles (id) SELECT unnest($1::uuid[]) ON CONFLICT (id) DO NOTHING
//!         tables: [{table: public.profiles, key: id}]
//! ```

use serde::{Deserialize, Serialize};
use switchback_playbook::problem::Problem;
use switchback_playbook::read::{Entries, Reader, is_name, join};
use switchback_playbook::units::parse_percent;
use switchback_playbook::yaml::{self, Node};

/// Checks of a pack.
const CHECKS_MAX: usize = 50;
/// Characters of a query or a fix.
const SQL_MAX: usize = 20_000;
/// Tables of a fix, and pieces of advice of a check.
const LISTED_MAX: usize = 10;
/// How often a pack may be swept, in milliseconds: a second to a day.
const EVERY_MS: (u64, u64) = (1_000, 86_400_000);
/// The class of rows that are no findings.
pub const HEALTHY: &str = "healthy";

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know; never lowers the health.
    Info,
    /// Somebody should look.
    Warning,
    /// A user is harmed.
    Error,
}

impl Severity {
    const WORDS: [(&'static str, Self); 3] =
        [("info", Self::Info), ("warning", Self::Warning), ("error", Self::Error)];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// What the column `label` holds, which says how it is masked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// A telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// Something else that is somebody's.
    #[default]
    Text,
    /// Nobody's: the name of a table, for example. It is shown as it is.
    None,
}

/// Whether a fix takes one key or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// `$1` is the key, as text.
    Key,
    /// `$1` is the keys: `text[]` on PostgreSQL, a JSON array as text on SQLite.
    Batch,
}

/// A table that a fix changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Touched {
    /// The table, with its schema where it has one.
    pub table: String,
    /// The column that holds the finding's key.
    pub key: String,
}

/// How a finding is healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fix {
    /// What `$1` is.
    pub per: Per,
    /// One statement.
    pub sql: String,
    /// Every table that it changes. Tables that others refer to come first.
    pub tables: Vec<Touched>,
    /// More changed rows than this for each key roll the batch back.
    pub rows_per_key: u64,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Check {
    /// Its name, unique in the pack.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Why it happens and what the fix does.
    pub about: String,
    /// What its findings are, unless they say so themselves.
    pub class: String,
    /// How bad they are.
    pub severity: Severity,
    /// What `label` is.
    pub label: LabelKind,
    /// The query.
    pub detect: String,
    /// A query with one number: how many could be broken.
    pub population: Option<String>,
    /// More findings than this are a warning.
    pub warn_above: u64,
    /// More findings than this are an error.
    pub error_above: u64,
    /// Indexes that make it quick.
    pub indexes: Vec<String>,
    /// How its findings are healed.
    pub fix: Option<Fix>,
}

/// How often a pack is swept, and how much a sweep may fix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pace {
    /// Between two sweeps, in milliseconds. They look at what came to be lately, and at what is known to be broken.
    pub every_ms: u64,
    /// The same in event mode.
    pub event_ms: u64,
    /// Between two sweeps that look at everything, in milliseconds.
    pub full_ms: u64,
    /// Keys that one sweep may fix.
    pub fixes_per_sweep: u64,
    /// Keys that a minute may fix.
    pub fixes_per_minute: u64,
    /// When more of the population than this is broken, nothing is fixed by itself; 0 to 1.
    pub share_max: f64,
    /// How long a key rests after it was fixed, in milliseconds.
    pub cooldown_ms: u64,
    /// A key that was fixed so often and is back: the fix does not stick.
    pub attempts: u64,
    /// How long monitoring only looks after it was turned on, in milliseconds.
    pub observe_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every_ms: 30_000,
            event_ms: 1_000,
            full_ms: 300_000,
            fixes_per_sweep: 100,
            fixes_per_minute: 600,
            share_max: 0.05,
            cooldown_ms: 60_000,
            attempts: 3,
            observe_ms: 3_600_000,
        }
    }
}

/// A pack of checks on one database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pack {
    /// Its name, unique.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Who minds it; empty when nobody is named.
    pub owner: String,
    /// What it is for.
    pub about: String,
    /// `postgres`, `sqlite`, or both.
    pub dialects: Vec<String>,
    /// How often, and how much.
    pub pace: Pace,
    /// What is looked for.
    pub checks: Vec<Check>,
}

impl Pack {
    /// Reads a pack.
    ///
    /// # Errors
    /// Everything that is wrong, each with its line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let root = yaml::read(text).map_err(|problem| vec![problem])?;
        let mut reader = Reader::default();
        match read(&mut reader, &root) {
            Some(pack) if reader.problems.is_empty() => Ok(pack),
            _ => Err(reader.problems),
        }
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }
}

fn read(reader: &mut Reader, root: &Node) -> Option<Pack> {
    let map = reader.map(root, "", &["kind", "metadata", "spec"])?;
    reader.word(map, "", "kind", &[("CheckPack", ())]);
    for key in ["kind", "metadata", "spec"] {
        if map.get(key).is_none() {
            reader.fault(root, "", format!("`{key}` is missing"), "");
        }
    }
    let meta = map.get("metadata")?;
    let meta = reader.map(meta, "metadata", &["name", "title", "owner"])?;
    let name = reader.name(meta, "metadata", "name");
    let title = reader.required(meta, "metadata", "title", 100);
    let owner = reader.optional(meta, "metadata", "owner", 100).unwrap_or_default();
    let node = map.get("spec")?;
    let spec = reader.map(node, "spec", &["about", "dialects", "monitor", "checks"])?;
    let about = reader.optional(spec, "spec", "about", 2_000).unwrap_or_default();
    let dialects = dialects(reader, spec);
    let pace = pace(reader, spec).unwrap_or_default();
    let checks = checks(reader, spec, node);
    Some(Pack { name: name?, title: title?, owner, about, dialects, pace, checks })
}

fn dialects(reader: &mut Reader, spec: Entries<'_>) -> Vec<String> {
    const KNOWN: [&str; 2] = ["postgres", "sqlite"];
    let Some(node) = spec.get("dialects") else { return KNOWN.map(str::to_owned).to_vec() };
    let mut found: Vec<String> = Vec::new();
    for item in reader.list(node, "spec.dialects") {
        match item.text() {
            Some(text) if KNOWN.contains(&text) => found.push(text.to_owned()),
            _ => reader.fault(item, "spec.dialects", "postgres or sqlite is expected", ""),
        }
    }
    if found.is_empty() {
        reader.fault(node, "spec.dialects", "names at least one", "such as [postgres]");
    }
    found
}

fn pace(reader: &mut Reader, spec: Entries<'_>) -> Option<Pace> {
    const KEYS: [&str; 9] = [
        "every",
        "event",
        "full",
        "fixes_per_sweep",
        "fixes_per_minute",
        "share_max",
        "cooldown",
        "attempts",
        "observe_for",
    ];
    let path = "spec.monitor";
    let usual = Pace::default();
    let map = reader.map(spec.get("monitor")?, path, &KEYS)?;
    let (shortest, longest) = EVERY_MS;
    let mut span = |key: &str, low: u64, high: u64, or: u64| {
        let Some(ms) = reader.duration(map, path, key) else { return or };
        if !(low..=high).contains(&ms)
            && let Some(node) = map.get(key)
        {
            let message = if low == 0 { "longer than a day" } else { "between 1s and 1d" };
            reader.fault(node, &join(path, key), message, "");
        }
        ms
    };
    let every_ms = span("every", shortest, longest, usual.every_ms);
    let event_ms = span("event", shortest, longest, usual.event_ms);
    let full_ms = span("full", shortest, longest, usual.full_ms);
    let cooldown_ms = span("cooldown", 0, longest, usual.cooldown_ms);
    let observe_ms = span("observe_for", 0, longest, usual.observe_ms);
    let mut whole = |key: &str, low: u64, high: u64, or: u64| {
        reader.whole(map, path, key, low, high).unwrap_or(or)
    };
    let fixes_per_sweep = whole("fixes_per_sweep", 1, 10_000, usual.fixes_per_sweep);
    let fixes_per_minute = whole("fixes_per_minute", 1, 100_000, usual.fixes_per_minute);
    let attempts = whole("attempts", 1, 100, usual.attempts);
    let share_max = match map.get("share_max").map(|node| (node, node.text().unwrap_or_default())) {
        None => usual.share_max,
        Some((node, text)) => match parse_percent(text) {
            Ok(thousandths) => f64::from(thousandths) / 100_000.0,
            Err(message) => {
                reader.fault(node, &join(path, "share_max"), message, "");
                usual.share_max
            }
        },
    };
    Some(Pace {
        every_ms,
        event_ms,
        full_ms,
        fixes_per_sweep,
        fixes_per_minute,
        share_max,
        cooldown_ms,
        attempts,
        observe_ms,
    })
}

fn checks(reader: &mut Reader, spec: Entries<'_>, at: &Node) -> Vec<Check> {
    let Some(node) = spec.get("checks") else {
        reader.fault(at, "spec", "`checks` is missing", "at least one check");
        return Vec::new();
    };
    let items = reader.list(node, "spec.checks");
    if items.is_empty() || items.len() > CHECKS_MAX {
        reader.fault(node, "spec.checks", format!("1 to {CHECKS_MAX} checks are expected"), "");
    }
    let mut found: Vec<Check> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("spec.checks[{index}]");
        let Some(check) = check(reader, item, &path) else { continue };
        if found.iter().any(|one| one.name == check.name) {
            let message = format!("there are two checks named `{}`", check.name);
            reader.fault(item, &join(&path, "name"), message, "");
        }
        found.push(check);
    }
    found
}

fn check(reader: &mut Reader, node: &Node, path: &str) -> Option<Check> {
    const KEYS: [&str; 12] = [
        "name",
        "title",
        "about",
        "class",
        "severity",
        "label",
        "detect",
        "population",
        "warn_above",
        "error_above",
        "indexes",
        "fix",
    ];
    const LABELS: [(&str, LabelKind); 4] = [
        ("phone", LabelKind::Phone),
        ("email", LabelKind::Email),
        ("text", LabelKind::Text),
        ("none", LabelKind::None),
    ];
    let map = reader.map(node, path, &KEYS)?;
    let name = reader.name(map, path, "name");
    let title = reader.required(map, path, "title", 100);
    let about = reader.optional(map, path, "about", 2_000).unwrap_or_default();
    let class = reader.required(map, path, "class", 40);
    if let (Some(class), Some(node)) = (&class, map.get("class")) {
        if !is_name(class) {
            reader.fault(node, &join(path, "class"), format!("`{class}` is not a name"), "");
        } else if class == HEALTHY {
            let hint = "rows whose own column `class` says so are left out";
            reader.fault(node, &join(path, "class"), "what is healthy is no finding", hint);
        }
    }
    if map.get("severity").is_none() {
        reader.fault(node, path, "`severity` is missing", "info, warning or error");
    }
    let severity = reader.word(map, path, "severity", &Severity::WORDS);
    let label = reader.word(map, path, "label", &LABELS).unwrap_or_default();
    let detect = reader.required(map, path, "detect", SQL_MAX);
    let population = reader.optional(map, path, "population", SQL_MAX);
    let mut above =
        |key: &str| reader.whole(map, path, key, 0, u64::from(u32::MAX)).unwrap_or_default();
    let (warn_above, error_above) = (above("warn_above"), above("error_above"));
    if warn_above > error_above
        && let Some(node) = map.get("warn_above")
    {
        let message = format!("{warn_above} is more than `error_above`, which is {error_above}");
        reader.fault(node, &join(path, "warn_above"), message, "");
    }
    let mut indexes = Vec::new();
    if let Some(node) = map.get("indexes") {
        let path = join(path, "indexes");
        let items = reader.list(node, &path);
        if items.len() > LISTED_MAX {
            reader.fault(node, &path, format!("over {LISTED_MAX} of them"), "");
        }
        indexes = items.iter().filter_map(|item| reader.text(item, &path, 500)).collect();
    }
    let fix = map.get("fix").map(|node| fix(reader, node, &join(path, "fix")));
    Some(Check {
        name: name?,
        title: title?,
        about,
        class: class?,
        severity: severity?,
        label,
        detect: detect?,
        population,
        warn_above,
        error_above,
        indexes,
        fix: match fix {
            None => None,
            Some(fix) => Some(fix?),
        },
    })
}

fn fix(reader: &mut Reader, node: &Node, path: &str) -> Option<Fix> {
    const KEYS: [&str; 4] = ["per", "sql", "tables", "rows_per_key"];
    let map = reader.map(node, path, &KEYS)?;
    if map.get("per").is_none() {
        reader.fault(node, path, "`per` is missing", "key or batch");
    }
    let per = reader.word(map, path, "per", &[("key", Per::Key), ("batch", Per::Batch)]);
    let sql = reader.required(map, path, "sql", SQL_MAX);
    if let Some(text) = sql.as_ref().filter(|text| !text.contains("$1")) {
        let message = format!("`{}` names no keys: $1 is missing", first_line(text));
        if let Some(node) = map.get("sql") {
            reader.fault(node, &join(path, "sql"), message, "a fix changes rows of its keys only");
        }
    }
    let rows_per_key = reader.whole(map, path, "rows_per_key", 1, 1_000).unwrap_or(1);
    let mut tables: Vec<Touched> = Vec::new();
    let items = map.get("tables").map(|node| reader.list(node, &join(path, "tables")));
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = format!("{path}.tables[{index}]");
        let Some(map) = reader.map(item, &path, &["table", "key"]) else { continue };
        let (table, key) =
            (reader.required(map, &path, "table", 130), reader.required(map, &path, "key", 63));
        if let (Some(table), Some(key)) = (table, key) {
            tables.push(Touched { table, key });
        }
    }
    if tables.is_empty() || tables.len() > LISTED_MAX {
        let hint = "every table that the fix changes, so that it can be undone";
        reader.fault(node, path, format!("`tables` names 1 to {LISTED_MAX}"), hint);
    }
    Some(Fix { per: per?, sql: sql?, tables, rows_per_key })
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: &str = "kind: CheckPack
metadata: {name: signups, title: Sign-ups}
spec:
  checks:
    - name: profile_missing
      title: No profile
      class: auth_only
      severity: error
      label: phone
      detect: SELECT id AS key FROM users
      fix:
        per: key
        sql: INSERT INTO profiles (id) VALUES ($1)
        tables: [{table: profiles, key: id}]
";

    #[test]
    fn a_pack_is_read_with_its_defaults() {
        let pack = Pack::parse(SMALL).unwrap();

        assert_eq!(pack.pace, Pace::default());
        assert_eq!(pack.dialects, ["postgres", "sqlite"]);
        let check = pack.check("profile_missing").unwrap();
        assert_eq!((check.warn_above, check.error_above, check.severity), (0, 0, Severity::Error));
        assert_eq!(check.fix.as_ref().map(|fix| fix.rows_per_key), Some(1));
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        for (from, to, says) in [
            ("per: key", "per: row", "`row` is not a choice"),
            ("($1)", "(1)", "names no keys"),
            ("severity: error", "severity: bad", "`bad` is not a choice"),
            ("class: auth_only", "class: healthy", "no finding"),
            ("label: phone", "lable: phone", "unknown key `lable`"),
            ("tables: [{table: profiles, key: id}]", "tables: []", "names 1 to 10"),
            ("detect: SELECT id AS key FROM users", "about: nothing", "`detect` is missing"),
            ("  checks:", "  monitor: {every: 500ms}\n  checks:", "between 1s and 1d"),
            ("  checks:", "  monitor: {share_max: 120%}\n  checks:", "120%"),
            ("  checks:", "  dialects: [mysql]\n  checks:", "postgres or sqlite"),
        ] {
            let problems = Pack::parse(&SMALL.replace(from, to)).unwrap_err();
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(said.iter().any(|text| text.contains(says)), "{to}: {said:?}");
            assert!(problems.iter().all(|one| one.line.is_some()), "{to}: {problems:?}");
        }
    }

    proptest! {
        /// Whatever is written, reading it ends with a pack or with problems.
        #[test]
        fn no_text_makes_it_panic(cut in 0usize..400, with in "[ -~\n]{0,40}") {
            let cut = cut.min(SMALL.len());
            let _ = Pack::parse(&format!("{}{with}{}", &SMALL[..cut], &SMALL[cut..]));
        }
    }
}
