//! `switchback status export`: the public page as plain files, for any host that serves files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use switchback_app::status_page::{Snapshot, write_whole};

use super::{Failure, Outcome, say};
use switchback_http::status::export::{files, is_inside};

/// The names of the files that we wrote, so that the next time knows which to take away.
const LIST: &str = ".switchback-status";
/// How long a server may take to answer.
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Options {
    /// The folder; it is made when it is missing. Files that are not ours stay.
    dir: PathBuf,
    /// Take the state from this file (`status/board.json` in a data folder) instead of asking a server.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where the folder will be served, for the feeds; the server's own address when not given.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

/// Writes the files. Each is there wholly or as it was; one that did not change is not touched; the first page is written
/// last, so that it leads to nothing that is missing.
pub async fn run(url: &str, options: Options) -> Outcome {
    let text = match &options.from {
        Some(file) => std::fs::read(file)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?,
        None => fetch(url).await?,
    };
    let place =
        options.from.as_ref().map_or_else(|| url.to_owned(), |file| file.display().to_string());
    let snapshot = Snapshot::read(&text).map_err(|why| Failure::new(format!("{place}: {why}")))?;
    let public_url = options.public_url.unwrap_or_else(|| url.to_owned());
    let files = files(&snapshot, public_url.trim_end_matches('/'));
    let (written, removed) = write(&options.dir, &files)
        .map_err(|error| Failure::new(format!("{}: {error}", options.dir.display())))?;
    say(format!(
        "{} files in {}: {written} written, {removed} removed, the others had not changed.",
        files.len(),
        options.dir.display()
    ));
    Ok(())
}

/// The state needs no token: it is what everybody may see.
async fn fetch(url: &str) -> Result<Vec<u8>, Failure> {
    let client = reqwest::Client::builder()
        .timeout(WITHIN)
        .connect_timeout(Duration::from_secs(5))
        .no_proxy()
        .build()?;
    let answer = client.get(format!("{url}/status/board.json")).send().await;
    let answer = answer
        .map_err(|_| Failure::with_code(3, format!("{url} cannot be reached: no connection")))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Failure::new(format!("{url} answered {status}")));
    }
    Ok(answer.bytes().await?.to_vec())
}

fn write(dir: &Path, files: &[(String, String)]) -> std::io::Result<(usize, usize)> {
    std::fs::create_dir_all(dir)?;
    let list = dir.join(LIST);
    let before = std::fs::read_to_string(&list).unwrap_or_default();
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    // Both lists until the end: whatever happens in between, the next time knows all that may be ours.
    let all: BTreeSet<&str> = before.lines().chain(names.iter().copied()).collect();
    let lines = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join("\n");
    write_changed(&list, &lines(&all))?;
    let mut written = 0;
    for (name, text) in files {
        written += usize::from(write_changed(&dir.join(name), text)?);
    }
    let mut removed = 0;
    for name in before.lines().filter(|name| !names.contains(name) && is_inside(name)) {
        match std::fs::remove_file(dir.join(name)) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    write_changed(&list, &lines(&names))?;
    Ok((written, removed))
}

/// Writes a file unless it holds the text already; true when it did not.
fn write_changed(path: &Path, text: &str) -> std::io::Result<bool> {
    if std::fs::read(path).is_ok_and(|held| held == text.as_bytes()) {
        return Ok(false);
    }
    write_whole(path, text.as_bytes())?;
    Ok(true)
}
