//! `switchback evaluate`: what would this user get? One JSON request a line, one answer a line.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::header;
use serde_json::{Map, Value, json};
use switchback_app::ids::{Clock as _, SystemClock};
use switchback_formats::unleash::{Decider, Peer};

use super::{Failure, Outcome};

/// The longest line, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// How old a live document may be, in seconds.
const FRESH: Duration = Duration::from_secs(1);
/// How long the server may take, in seconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Documents that came with requests and are kept compiled: tests send the same one again and again.
const KEPT_MAX: usize = 16;

/// Where the document comes from; without any, each line brings its own.
#[derive(Args)]
pub struct Options {
    /// An Unleash features document, for lines without `state`.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    document: Option<PathBuf>,
    /// A running server, whose document lines without `state` get.
    #[arg(long, requires = "token", env = "SWITCHBACK_URL")]
    url: Option<String>,
    /// A server token of the environment.
    #[arg(long, env = "SWITCHBACK_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub async fn run(options: Options) -> Outcome {
    let source = match (options.document, options.url, options.token) {
        (Some(path), ..) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            let state = serde_json::from_str(&text)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            let decider = Decider::new(&state);
            let decider = decider.map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            Source::Given(Box::new(decider))
        }
        (None, Some(url), Some(token)) => Source::Live(Box::new(Live::open(&url, token).await?)),
        _ => Source::None,
    };
    let runtime = tokio::runtime::Handle::current();
    // Reading standard input blocks.
    tokio::task::spawn_blocking(move || answer_all(source, &runtime)).await?
}

fn answer_all(mut source: Source, runtime: &tokio::runtime::Handle) -> Outcome {
    let mut input = BufReader::with_capacity(1 << 16, std::io::stdin());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut kept = HashMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(output.flush()?);
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            while line.last() != Some(&b'\n') {
                line.clear();
                if (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                    break;
                }
            }
            writeln!(
                output,
                "{}",
                json!({"error": format!("a line may have {LINE_BYTES_MAX} bytes")})
            )?;
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if let Source::Live(live) = &mut source {
            runtime.block_on(live.refresh());
        }
        let answer =
            answer(&line, &source, &mut kept).unwrap_or_else(|error| json!({"error": error}));
        writeln!(output, "{answer}")?;
        // A caller may wait for this answer before it asks again; one that wrote ahead has filled the buffer.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
}

fn answer(
    line: &[u8],
    source: &Source,
    kept: &mut HashMap<String, Decider>,
) -> Result<Value, String> {
    let mut request: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let toggle = match request.get("toggle").or_else(|| request.get("toggleName")) {
        Some(Value::String(name)) => name.clone(),
        _ => return Err("`toggle` is missing: the flag's name".to_owned()),
    };
    let context = match request.remove("context") {
        Some(Value::Object(context)) => context,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("`context` is not an object".to_owned()),
    };
    let kind = match request.get("kind") {
        None | Some(Value::Null) => "bool",
        Some(Value::String(kind)) if kind == "bool" || kind == "variant" => kind,
        Some(_) => return Err("`kind` is `bool` or `variant`".to_owned()),
    };
    let decider = match request.get("state") {
        Some(state) if !state.is_null() => {
            let text = state.to_string();
            if !kept.contains_key(&text) {
                if kept.len() >= KEPT_MAX {
                    kept.clear();
                }
                kept.insert(text.clone(), Decider::new(state)?);
            }
            kept.get(&text)
        }
        _ => source.decider(),
    };
    let decider = decider.ok_or("`state` is missing: give it here, or use --document or --url")?;
    let now_ms = SystemClock.now();
    let peer = Peer { now_ms, draw: draw(), fills: source.is_live(), ..Peer::default() };
    Ok(match kind {
        "variant" => {
            let chosen = decider.variant(&toggle, &context, peer);
            json!({"enabled": chosen.feature_enabled, "variant": chosen})
        }
        _ => json!({"enabled": decider.is_enabled(&toggle, &context, peer), "variant": null}),
    })
}

fn draw() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes); // without randomness everybody draws 0
    u32::from_le_bytes(bytes)
}

enum Source {
    None,
    Given(Box<Decider>),
    Live(Box<Live>),
}

impl Source {
    fn decider(&self) -> Option<&Decider> {
        match self {
            Self::None => None,
            Self::Given(decider) => Some(decider),
            Self::Live(live) => Some(&live.decider),
        }
    }

    fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

/// A server's document, asked for again when it is over a second old.
struct Live {
    client: reqwest::Client,
    address: String,
    token: String,
    etag: Option<String>,
    decider: Decider,
    asked: Instant,
}

impl Live {
    async fn open(url: &str, token: String) -> Result<Self, Failure> {
        let mut live = Self {
            client: reqwest::Client::builder().timeout(TIMEOUT).build()?,
            address: format!("{}/api/client/features", url.trim_end_matches('/')),
            token,
            etag: None,
            decider: Decider::default(),
            asked: Instant::now(),
        };
        live.fetch().await.map_err(|error| Failure::new(format!("{}: {error}", live.address)))?;
        Ok(live)
    }

    /// Goes on with what it has when the server does not answer.
    async fn refresh(&mut self) {
        if self.asked.elapsed() < FRESH {
            return;
        }
        self.asked = Instant::now();
        if let Err(error) = self.fetch().await {
            let _ =
                writeln!(std::io::stderr(), "switchback: {error}; going on with the last document");
        }
    }

    async fn fetch(&mut self) -> Result<(), String> {
        let mut request = self
            .client
            .get(&self.address)
            .header(header::AUTHORIZATION, &self.token)
            .header("unleash-client-spec", "5.2.0")
            .header("unleash-appname", "switchback-evaluate");
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        match answer.status().as_u16() {
            304 => return Ok(()),
            200 => {}
            status => return Err(format!("the server answered {status}")),
        }
        let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let etag = etag.map(str::to_owned);
        let state: Value = answer.json().await.map_err(|error| error.without_url().to_string())?;
        self.decider = Decider::new(&state)?;
        self.etag = etag;
        Ok(())
    }
}
