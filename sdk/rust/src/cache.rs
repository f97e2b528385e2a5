//! The last good document on disk, so that an app starts right while the server is away.
//!
//! One file for each server and token: a line with the checksum, then the document as JSON. The
//! file's modification time says when the server last confirmed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use switchback_core::model::Document;

use crate::clock::wall;

const HEAD: &str = "switchback-document sha256=";

/// Why a cache file was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    #[error("the file is damaged: its checksum does not fit")]
    Checksum,
    #[error("the file holds no document that this release can read")]
    Json(#[from] serde_json::Error),
}

/// A place on disk.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    path: PathBuf,
}

impl Cache {
    /// The file's name holds a hash of URL and token, nothing of either.
    pub(crate) fn new(directory: &Path, url: &str, token: &str) -> Self {
        let name = hex(format!("{url}\n{token}").as_bytes());
        let name = name.get(..16).unwrap_or_default();
        Self { path: directory.join(format!("switchback-{name}.json")) }
    }

    /// The document and how long ago the server last confirmed it; `None` without a file.
    pub(crate) fn load(&self) -> Result<Option<(Document, Duration)>, CacheError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (head, json) = text.split_once('\n').ok_or(CacheError::Checksum)?;
        if head.strip_prefix(HEAD) != Some(hex(json.as_bytes()).as_str()) {
            return Err(CacheError::Checksum);
        }
        let confirmed = fs::metadata(&self.path)?.modified()?;
        let age = wall().duration_since(confirmed).unwrap_or_default();
        Ok(Some((Document::read(json)?, age)))
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    pub(crate) fn save(&self, document: &Document) -> io::Result<()> {
        let json = serde_json::to_string(document)?;
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let next = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let written = write(&next, &json).and_then(|()| fs::rename(&next, &self.path));
        if written.is_err() {
            fs::remove_file(&next).ok(); // what was being written is of no use
        }
        written
    }

    /// The server has confirmed the document once more.
    pub(crate) fn touch(&self) -> io::Result<()> {
        OpenOptions::new().append(true).open(&self.path)?.set_modified(wall())
    }
}

fn write(path: &Path, json: &str) -> io::Result<()> {
    let mut file = create(path)?;
    writeln!(file, "{HEAD}{}", hex(json.as_bytes()))?;
    file.write_all(json.as_bytes())?;
    file.sync_all()
}

/// Rules may name users: other accounts of the machine have no business with them.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back_and_a_damaged_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path(), "http://localhost", "secret-token");
        let document = Document { epoch: "e".into(), revision: 7, ..Document::default() };

        assert!(cache.load().unwrap().is_none());
        cache.save(&document).unwrap();
        cache.touch().unwrap();
        let (found, age) = cache.load().unwrap().unwrap();
        assert_eq!(found, document);
        assert!(age < Duration::from_mins(1));

        let text = fs::read_to_string(&cache.path).unwrap();
        fs::write(&cache.path, text.replace(":7", ":8")).unwrap();
        assert!(matches!(cache.load(), Err(CacheError::Checksum)));
        assert!(!cache.path.to_string_lossy().contains("secret"));
    }
}
