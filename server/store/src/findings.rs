//! Findings of consistency checks: who is broken, since when, what became of it, and by whose hand.

use serde::{Deserialize, Serialize};
use switchback_core::model::Millis;

use crate::Store;
use crate::db::Column::{Int, Text};
use crate::db::{Bulk, Dialect, Row, Tx, params, sql};
use crate::error::StoreError;

sql! {
    KNOWN = "SELECT * FROM findings WHERE pack = $1 AND (state IN ('open', 'stuck', 'ignored') OR fixed_at > $2)";
    LIST = "SELECT * FROM findings WHERE (CAST($1 AS TEXT) IS NULL OR pack = $1) \
            AND (CAST($2 AS TEXT) IS NULL OR check_name = $2) AND (CAST($3 AS TEXT) IS NULL OR state = $3) \
            AND (CAST($4 AS TEXT) IS NULL OR class = $4) AND (CAST($5 AS TEXT) IS NULL OR country = $5) \
            AND (CAST($6 AS TEXT) IS NULL OR platform = $6) AND (CAST($7 AS TEXT) IS NULL OR run_id = $7) \
            AND (CAST($8 AS TEXT) IS NULL OR key = $8 OR label_hash = $9) \
            AND (CAST($10 AS BIGINT) IS NULL OR last_seen < $10 OR (last_seen = $10 AND key > $11)) \
            ORDER BY last_seen DESC, key LIMIT $12";
    GET = "SELECT * FROM findings WHERE pack = $1 AND check_name = $2 AND key = $3";
    COUNTS = "SELECT check_name, state, class, country, platform, COUNT(*) AS n FROM findings WHERE pack = $1 \
              AND (state IN ('open', 'stuck', 'ignored') OR fixed_at > $2) \
              GROUP BY check_name, state, class, country, platform ORDER BY n DESC LIMIT 1000";
    FIXED = "SELECT COUNT(*) AS n FROM findings WHERE pack = $1 AND fixed_at > $2 AND state = 'fixed'";
    FORGET = "DELETE FROM findings WHERE state IN ('fixed', 'gone') AND last_seen < $1 AND fixed_at < $1";
}

static UPSERT: Bulk = Bulk::new(
    "INSERT INTO findings (pack, check_name, key, state, class, label, label_hash, full_label, detail, country, platform, \
     first_seen, last_seen, attempts, fixed_at, fixed_by, run_id, message) VALUES",
    &[
        Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Text, Int, Int, Int, Int, Text,
        Text, Text,
    ],
    "ON CONFLICT (pack, check_name, key) DO UPDATE SET state = excluded.state, class = excluded.class, \
     label = excluded.label, label_hash = excluded.label_hash, full_label = excluded.full_label, detail = excluded.detail, \
     country = excluded.country, platform = excluded.platform, last_seen = excluded.last_seen, \
     attempts = excluded.attempts, fixed_at = excluded.fixed_at, fixed_by = excluded.fixed_by, \
     run_id = excluded.run_id, message = excluded.message",
);

/// For the test that prepares every statement.
pub(crate) fn bulk(dialect: Dialect) -> &'static str {
    UPSERT.one(dialect)
}

/// A finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
pub struct FindingRow {
    /// The pack.
    pub pack: String,
    /// The check.
    pub check: String,
    /// The key of what is broken.
    pub key: String,
    /// `open`, `fixed`, `gone`, `stuck` or `ignored`.
    pub state: String,
    /// What it is, such as `orphan`.
    pub class: String,
    /// Whom it is about, masked.
    pub label: String,
    /// A keyed hash of the label, by which the same person is found again; empty without one.
    pub label_hash: String,
    /// Whom it is about, where that is kept.
    #[serde(skip)]
    pub full_label: Option<String>,
    /// The query's other columns as JSON, where they are kept.
    #[serde(skip)]
    pub detail: Option<String>,
    /// The calling code of the label's country; empty when unknown.
    pub country: String,
    /// The platform; empty when unknown.
    pub platform: String,
    /// When it was found first, in UTC milliseconds.
    pub first_seen: Millis,
    /// When it was seen last.
    pub last_seen: Millis,
    /// How often it was fixed.
    pub attempts: u64,
    /// When it was fixed last; 0: never.
    pub fixed_at: Millis,
    /// By whom; empty: by nobody.
    pub fixed_by: String,
    /// The run that fixed it last.
    pub run_id: Option<String>,
    /// Why a fix failed, or why it is ignored; empty otherwise.
    pub message: String,
}

/// Which findings; what is not named matches all.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FindingFilter {
    /// Of this pack.
    pub pack: Option<String>,
    /// Of this check.
    pub check: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// Of this class.
    pub class: Option<String>,
    /// Of this country.
    pub country: Option<String>,
    /// Of this platform.
    pub platform: Option<String>,
    /// Fixed by this run.
    pub run: Option<String>,
    /// With this key, or about the person with this label.
    pub search: Option<String>,
    /// The hash of `search`, for labels.
    #[serde(skip)]
    pub label_hash: Option<String>,
    /// Seen before this moment, in UTC milliseconds; for the next page, the last one's.
    pub before: Option<Millis>,
    /// For the next page, the last one's key.
    pub after_key: Option<String>,
}

/// How many findings are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FindingCount {
    /// The check.
    pub check: String,
    /// How they stand.
    pub state: String,
    /// What they are.
    pub class: String,
    /// Of which country.
    pub country: String,
    /// On which platform.
    pub platform: String,
    /// How many.
    pub count: u64,
}

pub(crate) async fn save_findings(tx: &mut Tx, rows: &[FindingRow]) -> Result<(), StoreError> {
    let values = rows.iter().map(|row| {
        params![
            &row.pack,
            &row.check,
            &row.key,
            &row.state,
            &row.class,
            &row.label,
            &row.label_hash,
            &row.full_label,
            &row.detail,
            &row.country,
            &row.platform,
            row.first_seen,
            row.last_seen,
            row.attempts,
            row.fixed_at,
            &row.fixed_by,
            &row.run_id,
            &row.message,
        ]
    });
    UPSERT.write(tx, values).await.map(drop)
}

impl Store {
    /// Findings of a pack that are there, or were fixed after a moment.
    pub async fn list_known_findings(
        &self,
        pack: &str,
        fixed_after: Millis,
    ) -> Result<Vec<FindingRow>, StoreError> {
        self.db.all(KNOWN, params![pack, fixed_after]).await?.iter().map(read).collect()
    }

    /// Findings, those seen last first.
    pub async fn list_findings(
        &self,
        filter: &FindingFilter,
        limit: i64,
    ) -> Result<Vec<FindingRow>, StoreError> {
        let params = params![
            &filter.pack,
            &filter.check,
            &filter.state,
            &filter.class,
            &filter.country,
            &filter.platform,
            &filter.run,
            &filter.search,
            &filter.label_hash,
            filter.before,
            filter.after_key.as_deref().unwrap_or_default(),
            limit,
        ];
        self.db.all(LIST, params).await?.iter().map(read).collect()
    }

    /// A finding; `None` when there is none.
    pub async fn find_finding(
        &self,
        pack: &str,
        check: &str,
        key: &str,
    ) -> Result<Option<FindingRow>, StoreError> {
        self.db.one(GET, params![pack, check, key]).await?.as_ref().map(read).transpose()
    }

    /// How many findings of a pack are there, or were fixed after a moment, by everything that they have in common.
    pub async fn count_findings(
        &self,
        pack: &str,
        fixed_after: Millis,
    ) -> Result<Vec<FindingCount>, StoreError> {
        let rows = self.db.all(COUNTS, params![pack, fixed_after]).await?;
        rows.iter()
            .map(|row| {
                Ok(FindingCount {
                    check: row.text("check_name")?,
                    state: row.text("state")?,
                    class: row.text("class")?,
                    country: row.text("country")?,
                    platform: row.text("platform")?,
                    count: row.unsigned("n")?,
                })
            })
            .collect()
    }

    /// How many findings of a pack were fixed after a moment, and stayed so.
    pub async fn count_fixed(&self, pack: &str, after: Millis) -> Result<u64, StoreError> {
        let row = self.db.one(FIXED, params![pack, after]).await?;
        row.map_or(Ok(0), |row| row.unsigned("n"))
    }

    /// Forgets findings that were over before a moment.
    pub async fn forget_findings(&self, before: Millis) -> Result<(), StoreError> {
        self.db.execute(FORGET, params![before]).await.map(drop)
    }
}

fn read(row: &Row) -> Result<FindingRow, StoreError> {
    Ok(FindingRow {
        pack: row.text("pack")?,
        check: row.text("check_name")?,
        key: row.text("key")?,
        state: row.text("state")?,
        class: row.text("class")?,
        label: row.text("label")?,
        label_hash: row.text("label_hash")?,
        full_label: row.opt_text("full_label")?,
        detail: row.opt_text("detail")?,
        country: row.text("country")?,
        platform: row.text("platform")?,
        first_seen: row.int("first_seen")?,
        last_seen: row.int("last_seen")?,
        attempts: row.unsigned("attempts")?,
        fixed_at: row.int("fixed_at")?,
        fixed_by: row.text("fixed_by")?,
        run_id: row.opt_text("run_id")?,
        message: row.text("message")?,
    })
}
