//! The page's state on disk: what a server shows that starts while its database cannot be reached.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Board;
use crate::config::Look;

/// What the file's format is called; a file of another one is not read.
const FORMAT: &str = "switchback-status/v1";
/// A file over this size is not ours, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// The state, with what is needed to show it anywhere.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Snapshot {
    /// What it is.
    format: String,
    /// Name, colours and links.
    pub look: Look,
    /// What the page says.
    pub board: Board,
}

impl Snapshot {
    /// The state as it goes into a file.
    pub fn new(look: Look, board: Board) -> Self {
        Self { format: FORMAT.to_owned(), look, board }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// A sentence that says why it is none.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let found: Self = serde_json::from_slice(text)
            .map_err(|error| format!("it is no state of a status page: {error}"))?;
        if found.format != FORMAT {
            return Err(format!(
                "its format is `{}`, and this release reads {FORMAT}",
                found.format
            ));
        }
        Ok(found)
    }
}

/// The file, written by one thread at a time and never by an older state over a newer one.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    path: PathBuf,
    written: Mutex<u64>,
}

impl SnapshotFile {
    /// The file in a data folder; nothing is touched yet.
    pub fn new(data_dir: &Path) -> Arc<Self> {
        let path = data_dir.join("status").join("board.json");
        Arc::new(Self { path, written: Mutex::new(0) })
    }

    /// What the file holds, if there is one that can be read.
    pub fn load(&self) -> Option<Snapshot> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        let read = || {
            if size > BYTES_MAX {
                return Err(format!("it has {size} bytes"));
            }
            Snapshot::read(&std::fs::read(&self.path).map_err(|error| error.to_string())?)
        };
        read()
            .inspect_err(|why| {
                tracing::warn!(file = %self.path.display(), "the status page's file is left alone: {why}");
            })
            .ok()
    }

    /// Writes the state of a generation beside the runtime's threads. A failure is logged, and the next state tries again.
    pub fn keep(self: &Arc<Self>, generation: u64, snapshot: Snapshot) {
        let file = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut written = file.written.lock().unwrap_or_else(PoisonError::into_inner);
            if *written >= generation {
                return;
            }
            match serde_json::to_vec(&snapshot)
                .map_err(std::io::Error::other)
                .and_then(|text| write_whole(&file.path, &text))
            {
                Ok(()) => *written = generation,
                Err(error) => {
                    tracing::warn!(file = %file.path.display(), error = %error, "the status page's state is not on disk");
                }
            }
        });
    }
}

/// Writes a file so that it is there wholly or as it was before, also after a power cut. Blocks.
///
/// # Errors
/// The folder cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    readable(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Everybody may read what is public anyway; temporary files are made for their owner alone.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}
