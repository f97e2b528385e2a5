//! `spec.preserve`: what must not get lost. Measured before the first step, after the last one, and after an undo.

use serde::{Deserialize, Serialize};

use crate::read::{Entries, Reader, join};
use crate::yaml::Node;

/// The most rules that a playbook may have.
const RULES_MAX: usize = 20;

/// What must stay as it is in one table of a data source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preserve {
    /// Its name, unique among the rules.
    pub id: String,
    /// The data source.
    pub source: String,
    /// The table, with its schema where it has one: `auth.users`.
    pub table: String,
    /// The columns by which its rows are known; together unique and never null.
    pub key: Vec<String>,
    /// What must hold; all of them.
    pub rules: Vec<Rule>,
    /// Keys are personal data: they are kept and shown as hashes.
    pub pii: bool,
    /// When it does not hold.
    pub on_broken: OnBroken,
}

/// One thing that must hold between two looks at a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every row that was there is still there. New rows do not matter.
    NoLoss,
    /// The same rows with the same content, and no others: for tables that nobody writes meanwhile.
    Equal,
    /// At least as many rows.
    Gte,
    /// The number of rows moved no further than this, up or down.
    Delta {
        /// In thousandths of a percent of the rows before.
        percent_milli: Option<u32>,
        /// In rows.
        rows: Option<u64>,
    },
    /// Rows that were there and still are have the same values in these columns.
    ColumnsUnchanged(Vec<String>),
    /// The sum over a column is the same.
    SumUnchanged(String),
}

/// What a broken rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBroken {
    /// The run fails and is undone: the default.
    Compensate,
    /// The run goes on; the rule stays visible as broken.
    Warn,
}

impl Rule {
    /// What it says, for people.
    pub fn says(&self) -> String {
        match self {
            Self::NoLoss => "no row is lost".to_owned(),
            Self::Equal => "the same rows".to_owned(),
            Self::Gte => "as many rows or more".to_owned(),
            Self::Delta { percent_milli, rows } => {
                let percent = percent_milli.map(crate::units::percent_text);
                let rows = rows.map(|rows| format!("{rows} rows"));
                let parts: Vec<String> = percent.into_iter().chain(rows).collect();
                format!("the number of rows moves by at most {}", parts.join(" and "))
            }
            Self::ColumnsUnchanged(columns) => format!("{} unchanged", columns.join(", ")),
            Self::SumUnchanged(column) => format!("the sum of {column} unchanged"),
        }
    }
}

impl Preserve {
    /// What it says, for people: `receipts: no row is lost`.
    pub fn says(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(Rule::says).collect();
        format!("{}: {}", self.table, rules.join(", "))
    }

    /// The name under which it stands in the log.
    pub fn row_id(&self) -> String {
        format!("preserve.{}", self.id)
    }
}

/// Reads `spec.preserve`.
pub(crate) fn parse(reader: &mut Reader, node: &Node) -> Vec<Preserve> {
    let path = "spec.preserve";
    let items = reader.list(node, path);
    if items.len() > RULES_MAX {
        reader.fault(node, path, format!("over {RULES_MAX} rules"), "");
    }
    let mut found: Vec<Preserve> = Vec::new();
    for (index, item) in items.iter().take(RULES_MAX).enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(one) = parse_one(reader, item, &path) {
            if found.iter().any(|other| other.id == one.id) {
                reader.fault(item, &path, format!("the id `{}` is taken", one.id), "");
            }
            found.push(one);
        }
    }
    found
}

fn parse_one(reader: &mut Reader, node: &Node, path: &str) -> Option<Preserve> {
    let keys = [
        "id",
        "source",
        "table",
        "key",
        "rule",
        "also",
        "max_pct",
        "max_rows",
        "columns",
        "column",
        "pii",
        "on_broken",
    ];
    let map = reader.map(node, path, &keys)?;
    let id = reader.name(map, path, "id");
    let source = reader.required(map, path, "source", 60);
    let table = table(reader, map, path);
    let words = [("compensate", OnBroken::Compensate), ("warn", OnBroken::Warn)];
    let on_broken = reader.word(map, path, "on_broken", &words).unwrap_or(OnBroken::Compensate);
    let pii = reader.bool(map, path, "pii").unwrap_or(false);
    let mut rules: Vec<Rule> = main_rule(reader, map, path).into_iter().collect();
    if let Some(also) = map.get("also") {
        rules.extend(also_rules(reader, also, &join(path, "also")));
    }
    let by_key =
        |rule: &Rule| matches!(rule, Rule::NoLoss | Rule::Equal | Rule::ColumnsUnchanged(_));
    let mut key = Vec::new();
    if let Some(node) = map.get("key") {
        key = columns(reader, node, &join(path, "key"));
    } else if rules.iter().any(by_key) {
        let hint = "the column by which its rows are known, or a list of them";
        reader.fault(node, path, "`key` is missing", hint);
    }
    Some(Preserve { id: id?, source: source?, table: table?, key, rules, pii, on_broken })
}

fn table(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<String> {
    let table = reader.required(map, path, "table", 130)?;
    let parts: Vec<&str> = table.split('.').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_column(part)) {
        return Some(table);
    }
    let hint = "a name, or schema.name";
    let message = format!("`{table}` is not a table's name");
    reader.fault(map.get("table").unwrap_or(map.node), &join(path, "table"), message, hint);
    None
}

/// The rule under `rule`, with what belongs to it.
fn main_rule(reader: &mut Reader, map: Entries<'_>, path: &str) -> Option<Rule> {
    const WORDS: [(&str, &str); 6] = [
        ("no_loss", ""),
        ("equal", ""),
        ("gte", ""),
        ("delta", "max_pct"),
        ("columns_unchanged", "columns"),
        ("sum_unchanged", "column"),
    ];
    let word = match map.get("rule") {
        None => "no_loss",
        Some(node) => {
            reader.word(map, path, "rule", &WORDS)?;
            node.text().unwrap_or_default()
        }
    };
    // A key that belongs to another rule would silently do nothing.
    for (key, owner) in [
        ("max_pct", "delta"),
        ("max_rows", "delta"),
        ("columns", "columns_unchanged"),
        ("column", "sum_unchanged"),
    ] {
        if let Some(node) = map.get(key).filter(|_| owner != word) {
            let message =
                format!("`{key}` belongs to the rule `{owner}`, and this one is `{word}`");
            reader.fault(node, &join(path, key), message, "");
        }
    }
    Some(match word {
        "equal" => Rule::Equal,
        "gte" => Rule::Gte,
        "delta" => {
            let percent_milli = map.get("max_pct").and_then(|node| {
                let text = reader.text(node, &join(path, "max_pct"), 20)?;
                crate::units::parse_percent(&text)
                    .map_err(|message| reader.fault(node, &join(path, "max_pct"), message, ""))
                    .ok()
            });
            let rows = reader.whole(map, path, "max_rows", 0, u64::MAX >> 1);
            if map.get("max_pct").or(map.get("max_rows")).is_none() {
                reader.fault(map.node, path, "`delta` needs `max_pct`, `max_rows` or both", "");
            }
            Rule::Delta { percent_milli, rows }
        }
        "columns_unchanged" => {
            let Some(node) = map.get("columns") else {
                reader.fault(map.node, path, "`columns` is missing", "a list of columns");
                return None;
            };
            Rule::ColumnsUnchanged(columns(reader, node, &join(path, "columns")))
        }
        "sum_unchanged" => Rule::SumUnchanged(column(reader, map, path, "column")?),
        _ => Rule::NoLoss,
    })
}

fn also_rules(reader: &mut Reader, node: &Node, path: &str) -> Vec<Rule> {
    let Some(map) = reader.map(node, path, &["columns_unchanged", "sum_unchanged"]) else {
        return Vec::new();
    };
    let mut rules = Vec::new();
    if let Some(node) = map.get("columns_unchanged") {
        let found = columns(reader, node, &join(path, "columns_unchanged"));
        rules.push(Rule::ColumnsUnchanged(found));
    }
    if map.get("sum_unchanged").is_some() {
        rules.extend(column(reader, map, path, "sum_unchanged").map(Rule::SumUnchanged));
    }
    rules
}

fn column(reader: &mut Reader, map: Entries<'_>, path: &str, key: &str) -> Option<String> {
    let name = reader.required(map, path, key, 63)?;
    if is_column(&name) {
        return Some(name);
    }
    let message = format!("`{name}` is not a column's name");
    reader.fault(map.get(key).unwrap_or(map.node), &join(path, key), message, "");
    None
}

/// One column's name, or a list of them.
fn columns(reader: &mut Reader, node: &Node, path: &str) -> Vec<String> {
    let items =
        if node.text().is_some() { std::slice::from_ref(node) } else { reader.list(node, path) };
    let mut found = Vec::new();
    for item in items {
        match reader.text(item, path, 63) {
            Some(name) if is_column(&name) => found.push(name),
            Some(name) => reader.fault(item, path, format!("`{name}` is not a column's name"), ""),
            None => {}
        }
    }
    if items.is_empty() {
        reader.fault(node, path, "at least one column is needed", "");
    }
    found
}

fn is_column(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && !name.contains(|c: char| c.is_control() || c == '"' || c == '.')
}
