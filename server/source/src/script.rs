//! An SQL script as its statements, without understanding more of it than where each one ends.

use crate::error::SourceError;

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its text, without the semicolon.
    pub text: String,
    /// The line of the script where it begins, from 1.
    pub line: usize,
}

/// Statements that a script may have.
const STATEMENTS_MAX: usize = 200;
/// What would end or escape the transaction that a script runs in.
const FORBIDDEN: [&str; 14] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE",
    "VACUUM",
    "ATTACH",
    "DETACH",
    "PRAGMA",
    "COPY",
];

/// Splits a script at the semicolons that end statements: not those in texts, names, comments, dollar quotes, or the body of
/// a trigger or an SQL function (`BEGIN ATOMIC`).
///
/// # Errors
/// A text, name, comment or body that does not end; no statement, or over 200; a statement that would leave the
/// transaction.
pub fn split(script: &str) -> Result<Vec<Statement>, SourceError> {
    let mut found: Vec<Statement> = Vec::new();
    let mut reader = Reader { rest: script, at: 0, words: Vec::new(), depth: 0 };
    let mut start = 0;
    loop {
        let (end, is_last) = match reader.next_end(script)? {
            Some(end) => (end, false),
            None => (script.len(), true),
        };
        let text = script.get(start..end).unwrap_or_default();
        if let Some(first) = reader.words.first() {
            let lead = text.len() - without_comments(text).len();
            let line = 1 + script.get(..start + lead).unwrap_or_default().matches('\n').count();
            if FORBIDDEN.contains(&first.as_str()) {
                let message =
                    format!("line {line}: `{first}` is not allowed: a script is one transaction");
                return Err(SourceError::Refused(message));
            }
            found.push(Statement { text: text.trim().to_owned(), line });
        }
        if is_last {
            break;
        }
        start = end + 1;
        reader.words.clear();
    }
    match found.len() {
        0 => Err(SourceError::Refused("the script holds no statement".to_owned())),
        count if count > STATEMENTS_MAX => Err(SourceError::Refused(format!(
            "the script holds {count} statements; {STATEMENTS_MAX} are allowed"
        ))),
        _ => Ok(found),
    }
}

/// The text behind the comments at its start.
pub(crate) fn without_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let rest = if let Some(comment) = text.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = text.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return text;
        };
        text = rest;
    }
}

struct Reader<'s> {
    rest: &'s str,
    at: usize,
    /// The statement's words so far, in capitals; only those that matter here.
    words: Vec<String>,
    /// Blocks of a body that are open.
    depth: usize,
}

impl Reader<'_> {
    /// Where the next statement ends; `None` when the script does.
    fn next_end(&mut self, script: &str) -> Result<Option<usize>, SourceError> {
        while let Some(letter) = self.rest.chars().next() {
            match letter {
                ';' if self.depth == 0 => {
                    let end = self.at;
                    self.skip(1);
                    return Ok(Some(end));
                }
                '\'' | '"' | '`' => self.quoted(script, letter)?,
                '-' if self.rest.starts_with("--") => {
                    let length = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.skip(length);
                }
                '/' if self.rest.starts_with("/*") => self.until(script, "*/", 2, "a comment")?,
                '$' => self.dollar(script)?,
                letter if letter.is_alphabetic() || letter == '_' => self.word(),
                letter => self.skip(letter.len_utf8()),
            }
        }
        if self.depth > 0 {
            return Err(unended(script, self.at, "a body (BEGIN without END)"));
        }
        Ok(None)
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
        self.at += length;
    }

    /// Skips to behind `end`, from `from` bytes on.
    fn until(
        &mut self,
        script: &str,
        end: &str,
        from: usize,
        what: &str,
    ) -> Result<(), SourceError> {
        let found = self.rest.get(from..).and_then(|rest| rest.find(end));
        let found = found.ok_or_else(|| unended(script, self.at, what))?;
        self.skip(from + found + end.len());
        Ok(())
    }

    /// A text or a name; a doubled quote is part of it. PostgreSQL's `E'..\'..'` counts its backslashes.
    fn quoted(&mut self, script: &str, quote: char) -> Result<(), SourceError> {
        let escapes = quote == '\'' && self.words.last().is_some_and(|word| word == "E");
        let begun = self.at;
        self.skip(1);
        loop {
            let Some(letter) = self.rest.chars().next() else {
                return Err(unended(script, begun, "a text or a name in quotes"));
            };
            if letter == '\\' && escapes {
                let next = self.rest.chars().nth(1).map_or(0, char::len_utf8);
                self.skip(1 + next);
                continue;
            }
            self.skip(letter.len_utf8());
            if letter == quote {
                if !self.rest.starts_with(quote) {
                    return Ok(());
                }
                self.skip(1);
            }
        }
    }

    /// `$$ … $$` or `$name$ … $name$`; `$1` is a parameter.
    fn dollar(&mut self, script: &str) -> Result<(), SourceError> {
        let inner = self.rest.get(1..).and_then(|rest| rest.split_once('$')).map(|(name, _)| name);
        let name = inner.filter(|name| {
            let letters = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            letters && !name.starts_with(|c: char| c.is_ascii_digit())
        });
        let Some(name) = name else {
            self.skip(1);
            return Ok(());
        };
        let tag = format!("${name}$");
        self.until(script, &tag, tag.len(), "a text in dollar quotes")
    }

    fn word(&mut self) {
        let length = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let length = length.unwrap_or(self.rest.len());
        let word = self.rest.get(..length).unwrap_or_default().to_ascii_uppercase();
        self.skip(length);
        let creates = self.words.first().is_some_and(|first| first == "CREATE");
        let has = |wanted: &str| self.words.iter().any(|word| word == wanted);
        match word.as_str() {
            // Only such statements have a body with semicolons outside of quotes.
            "BEGIN" if creates && has("TRIGGER") && self.depth == 0 => self.depth = 1,
            "ATOMIC" if creates && self.words.last().is_some_and(|last| last == "BEGIN") => {
                self.depth = 1;
            }
            "CASE" if self.depth > 0 => self.depth += 1,
            "END" if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
        self.words.push(word);
    }
}

fn unended(script: &str, at: usize, what: &str) -> SourceError {
    let line = 1 + script.get(..at).unwrap_or_default().matches('\n').count();
    SourceError::Refused(format!("line {line}: {what} does not end"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(script: &str) -> Vec<String> {
        split(script).unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn a_script_is_cut_where_statements_end() {
        let script = "-- first;\nUPDATE a SET b = ';' WHERE \"x;y\" = $1;\n\n/* ; */ DELETE FROM a;;\nSELECT E'it\\'s; so', 'it''s;'";
        let found = split(script).unwrap();

        assert_eq!(found.len(), 3);
        assert_eq!(found.iter().map(|one| one.line).collect::<Vec<_>>(), [2, 4, 5]);
        assert!(found[2].text.ends_with("'it''s;'"));
    }

    #[test]
    fn bodies_stay_whole() {
        let function = "CREATE FUNCTION f() RETURNS int AS $body$ BEGIN; RETURN 1; END $body$ LANGUAGE plpgsql";
        let atomic = "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        let trigger =
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET b = 1; DELETE FROM c; END";

        assert_eq!(texts(&format!("{function};{atomic};{trigger};")), [function, atomic, trigger]);
    }

    #[test]
    fn what_leaves_the_transaction_is_refused() {
        for wrong in [
            "COMMIT",
            "UPDATE a SET b = 1; rollback",
            "vacuum",
            "",
            " -- only\n",
            "SELECT 'open",
            "SELECT $$ x",
        ] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
        let error = split("SELECT 1;\n\nCOMMIT;").unwrap_err().to_string();
        assert!(error.starts_with("line 3: `COMMIT`"), "{error}");
    }

    proptest! {
        /// Any text is either refused or cut without losing a word of it.
        #[test]
        fn nothing_is_lost(script in "[a-zA-Z;'\"$\\-/* \\n_0-9é]{0,80}") {
            if let Ok(found) = split(&script) {
                for statement in &found {
                    prop_assert!(script.contains(&statement.text));
                    prop_assert!(!statement.text.is_empty());
                }
            }
        }
    }
}
