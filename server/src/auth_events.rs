//! `switchback auth-events import`: auth events from a file or a log, line by line, in the words of the system that wrote it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use switchback_app::ids;
use switchback_watch::foreign::Format;

use super::client::{Client, text};
use super::{Failure, Outcome, remark, say};

/// Events of one request.
const BATCH_MAX: usize = 1_000;
/// Bytes of lines in one request; the server takes bodies of 1 MiB.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Refusals that are told one by one.
const TOLD_MAX: u64 = 10;
/// Hex digits of the id of a line that names none.
const HASH_DIGITS: usize = 32;

#[derive(Subcommand)]
pub enum Command {
    /// Read events from a file or `-` (standard input), such as `tail -F keycloak.log`. Takes an events token.
    ///
    /// An event is kept once, by its id or by what its line says: the same file may be read again. The server takes
    /// events of the last 24 hours.
    Import {
        /// The file, or `-`.
        file: PathBuf,
        /// Whose lines they are; `jsonl`: our own events, one a line.
        #[arg(long)]
        format: Lines,
    },
}

/// Whose lines.
#[derive(Clone, Copy, ValueEnum)]
pub enum Lines {
    Kratos,
    Keycloak,
    Rauthy,
    Supabase,
    Jsonl,
}

impl Lines {
    fn format(self) -> Option<Format> {
        match self {
            Self::Kratos => Some(Format::Kratos),
            Self::Keycloak => Some(Format::Keycloak),
            Self::Rauthy => Some(Format::Rauthy),
            Self::Supabase => Some(Format::Supabase),
            Self::Jsonl => None,
        }
    }
}

/// What became of the lines.
#[derive(Default)]
struct Tally {
    lines: u64,
    skipped: u64,
    too_long: u64,
    figures: BTreeMap<&'static str, u64>,
    unknown: BTreeMap<String, u64>,
    told: u64,
}

const FIGURES: [&str; 4] = ["taken", "duplicates", "ignored", "refused"];

pub async fn run(client: Client, command: Command) -> Outcome {
    let Command::Import { file, format } = command;
    let mut input = open(&file)?;
    let mut tally = Tally::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(&mut input, &mut line)?;
        if read == 0 {
            break;
        }
        tally.lines += 1;
        if line.len() > LINE_BYTES_MAX {
            tally.too_long += 1;
        } else {
            match event_of(format, &String::from_utf8_lossy(&line)) {
                Some(event) => {
                    bytes += line.len();
                    batch.push(event);
                }
                None => tally.skipped += 1,
            }
        }
        // Nothing more is there yet: whoever follows a log wants to see what came.
        let is_idle = input.buffer().is_empty();
        if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX || (is_idle && !batch.is_empty()) {
            send(&client, format, std::mem::take(&mut batch), &mut tally).await?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        send(&client, format, batch, &mut tally).await?;
    }
    say(if client.json { tally.as_json().to_string() } else { tally.sentence() });
    Ok(())
}

fn open(file: &Path) -> Result<BufReader<Box<dyn std::io::Read>>, Failure> {
    let input: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let opened = std::fs::File::open(file);
        Box::new(opened.map_err(|error| {
            Failure::with_code(2, format!("{} cannot be read: {error}", file.display()))
        })?)
    };
    Ok(BufReader::with_capacity(1 << 16, input))
}

/// Reads a line without its end; what is beyond the longest is left out. Returns 0 at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let limit = LINE_BYTES_MAX as u64 + 1;
    let read = input.take(limit).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_BYTES_MAX {
        input.skip_until(b'\n')?;
    }
    Ok(read)
}

/// The event of a line; none when there is none.
fn event_of(format: Lines, line: &str) -> Option<Value> {
    if let Some(format) = format.format() {
        return format.line(line);
    }
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    // What is no JSON is sent as it is: the server says what is wrong with it.
    let mut event = serde_json::from_str(line).unwrap_or_else(|_| json!(line));
    if let Value::Object(object) = &mut event
        && !object.contains_key("id")
    {
        let hash = ids::hash(line);
        let short = hash.get(..HASH_DIGITS).unwrap_or(&hash);
        object.insert("id".to_owned(), json!(format!("line:{short}")));
    }
    Some(event)
}

async fn send(
    client: &Client,
    format: Lines,
    events: Vec<Value>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let path = match format.format() {
        Some(format) => format!("/auth-events?format={}", format.word()),
        None => "/auth-events".to_owned(),
    };
    let answer = client.send_patiently(&path, &json!({"events": events})).await?;
    for name in FIGURES {
        let n = answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        *tally.figures.entry(name).or_insert(0) += n;
    }
    let empty = Map::new();
    let unknown = answer.get("unknown").and_then(Value::as_object).unwrap_or(&empty);
    for (name, n) in unknown {
        *tally.unknown.entry(name.clone()).or_insert(0) += n.as_u64().unwrap_or(0);
    }
    for refusal in answer.get("refusals").and_then(Value::as_array).into_iter().flatten() {
        if tally.told < TOLD_MAX {
            remark(format!("refused: {}: {}", text(refusal, "/code"), text(refusal, "/detail")));
        }
        tally.told += 1;
    }
    Ok(())
}

impl Tally {
    fn figure(&self, name: &str) -> u64 {
        self.figures.get(name).copied().unwrap_or(0)
    }

    fn as_json(&self) -> Value {
        let mut all = json!({"lines": self.lines, "no_event": self.skipped, "too_long": self.too_long,
            "unknown": self.unknown});
        if let Value::Object(all) = &mut all {
            all.extend(FIGURES.map(|name| (name.to_owned(), json!(self.figure(name)))));
        }
        all
    }

    fn sentence(&self) -> String {
        let [taken, duplicates, ignored, refused] = FIGURES.map(|name| self.figure(name));
        let mut parts = vec![format!("{} lines: {taken} events taken", self.lines)];
        let mut add = |n: u64, words: &str| {
            if n > 0 {
                parts.push(format!("{n} {words}"));
            }
        };
        add(duplicates, "sent before");
        add(ignored, "of no interest");
        add(refused, "refused");
        add(self.skipped, "no event");
        add(self.too_long, "too long");
        let mut sentence = parts.join(", ");
        if !self.unknown.is_empty() {
            let names: Vec<String> =
                self.unknown.iter().map(|(name, n)| format!("{name} ({n})")).collect();
            sentence.push_str("; not known: ");
            sentence.push_str(&names.join(", "));
        }
        sentence
    }
}
