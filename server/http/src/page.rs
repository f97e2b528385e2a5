//! Pages of lists: `limit` and `cursor` in, `items` and `next` out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback_app::AppError;

/// Items on a page when nothing is asked for.
const LIMIT_DEFAULT: i64 = 100;
/// Items on a page, at most.
const LIMIT_MAX: i64 = 500;

/// Which page.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct PageQuery {
    /// Items, 1 to 500; 100 when not given.
    pub limit: Option<i64>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
    /// Only items with this in one of their texts; any case.
    pub text: Option<String>,
    /// A field's name to sort by, such as `created_at`; with `-` before it the other way round.
    pub sort: Option<String>,
}

/// A page.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Items on all pages, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
}

impl PageQuery {
    /// Items wanted.
    pub fn limit(&self) -> Result<i64, AppError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let message = format!("{limit} is not a page size; use 1 to {LIMIT_MAX}");
            return Err(AppError::invalid("limit", message));
        }
        Ok(limit)
    }

    /// Filters, sorts and cuts a list that is wholly in memory.
    pub fn cut<T: Serialize>(&self, mut all: Vec<T>) -> Result<Page<T>, AppError> {
        if let Some(text) = self.text.as_deref().map(str::to_lowercase).filter(|t| !t.is_empty()) {
            all.retain(|item| has_text(&serde_json::to_value(item).unwrap_or_default(), &text));
        }
        if let Some(sort) = self.sort.as_deref().filter(|sort| !sort.is_empty()) {
            all = sorted(all, sort)?;
        }
        let limit = self.limit()?.unsigned_abs() as usize;
        let start: usize = match self.cursor.as_deref() {
            None | Some("") => 0,
            Some(text) => text
                .parse()
                .map_err(|_| AppError::invalid("cursor", "use the `next` of the page before"))?,
        };
        let total = all.len();
        let next = (start + limit < total).then(|| (start + limit).to_string());
        let items = all.into_iter().skip(start).take(limit).collect();
        Ok(Page { items, next, total: Some(total) })
    }
}

/// A page of rows that the store cut; `last` names the row that the next page begins after.
pub fn page_of<T>(items: Vec<T>, limit: i64, last: impl Fn(&T) -> String) -> Page<T> {
    let full = items.len() as i64 == limit;
    let next = items.last().filter(|_| full).map(last);
    Page { items, next, total: None }
}

fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own.to_lowercase().contains(text),
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(fields) => fields.values().any(|field| has_text(field, text)),
        _ => false,
    }
}

fn sorted<T: Serialize>(all: Vec<T>, sort: &str) -> Result<Vec<T>, AppError> {
    let (field, is_descending) = match sort.strip_prefix('-') {
        Some(field) => (field, true),
        None => (sort, false),
    };
    let mut keyed = Vec::with_capacity(all.len());
    for item in all {
        let value = serde_json::to_value(&item).unwrap_or_default();
        let fields = value.as_object().cloned().unwrap_or_default();
        let Some(key) = fields.get(field) else {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            let message = format!("`{field}` is not a field; there are {}", names.join(", "));
            return Err(AppError::invalid("sort", message));
        };
        keyed.push((sort_key(key), item));
    }
    keyed.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    if is_descending {
        keyed.reverse();
    }
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

/// Numbers by size, before texts by letters; what is absent comes first.
fn sort_key(value: &Value) -> (u8, f64, String) {
    match value {
        Value::Null => (0, 0.0, String::new()),
        Value::Number(number) => (1, number.as_f64().unwrap_or_default(), String::new()),
        Value::String(text) => (2, 0.0, text.to_lowercase()),
        other => (3, 0.0, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_filtered_sorted_and_cut() {
        let all = vec![
            json!({"n": 1, "t": "Ada"}),
            json!({"n": 3, "t": "ada"}),
            json!({"n": 2, "t": "bo"}),
        ];
        let query = |sort: &str| PageQuery {
            limit: Some(1),
            text: Some("ADA".to_owned()),
            sort: Some(sort.to_owned()),
            ..PageQuery::default()
        };

        let page = query("-n").cut(all.clone()).unwrap();

        assert_eq!(
            (page.items, page.total, page.next.as_deref()),
            (vec![json!({"n": 3, "t": "ada"})], Some(2), Some("1"))
        );
        let wrong = query("size").cut(all).unwrap_err();
        assert_eq!(wrong.to_string(), "sort: `size` is not a field; there are n, t");
    }
}
