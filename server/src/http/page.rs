//! Pages of lists: `limit` and `cursor` in, `items` and `next` out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::AppError;

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

    /// Cuts a list that is wholly in memory.
    pub fn cut<T>(&self, all: Vec<T>) -> Result<Page<T>, AppError> {
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
