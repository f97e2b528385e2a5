//! Files of the shelf: written under another name, whole on the disk before they get their own, gone when they are not finished.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::SourceError;

/// Unfinished files begin so.
const MARK: &str = ".partial-";
const CHUNK_BYTES: usize = 256 * 1024;

/// A file that nobody should find before it is finished. It is locked, and removed when dropped; a process that dies leaves
/// it without its lock, for [`sweep`].
#[derive(Debug)]
pub(super) struct Partial {
    /// Where it is for now.
    pub path: PathBuf,
    file: File,
    is_kept: bool,
}

impl Partial {
    /// Makes it, empty, readable by this user alone.
    pub async fn new(folder: &Path, name: &str) -> Result<Self, SourceError> {
        let path = folder.join(format!("{MARK}{name}"));
        let folder = folder.to_owned();
        blocking(move || {
            make_folder(&folder).map_err(|error| cannot(&folder, "be made", &error))?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false) // not before it is ours
                .mode(0o600)
                .open(&path)
                .map_err(|error| cannot(&path, "be made", &error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let message = "another attempt writes this backup now".to_owned();
                    return Err(SourceError::Unreachable(message));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(cannot(&path, "be locked", &error));
                }
            }
            file.set_len(0).map_err(|error| cannot(&path, "be emptied", &error))?;
            Ok(Self { path, file, is_kept: false })
        })
        .await
    }

    /// A second handle for writing.
    pub fn handle(&self) -> Result<tokio::fs::File, SourceError> {
        let file =
            self.file.try_clone().map_err(|error| cannot(&self.path, "be written", &error))?;
        Ok(tokio::fs::File::from_std(file))
    }

    /// Gives it its name, once it is on the disk. Returns its size and SHA-256.
    pub async fn keep(self, name: &str) -> Result<(u64, String), SourceError> {
        let name = name.to_owned();
        blocking(move || {
            let mut partial = self; // all of it, so that it is dropped here
            let path = partial.path.clone();
            partial.file.sync_all().map_err(|error| cannot(&path, "be written", &error))?;
            let measured = measure_now(&path)?;
            let place = path.with_file_name(name);
            std::fs::rename(&path, &place).map_err(|error| cannot(&place, "be made", &error))?;
            partial.is_kept = true;
            let folder = place.parent().unwrap_or(Path::new("."));
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| cannot(folder, "be written", &error))?;
            Ok(measured)
        })
        .await
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What went wrong with a file, in words; a full disk is said plainly.
pub(super) fn cannot(path: &Path, what: &str, error: &io::Error) -> SourceError {
    let shown = path.display();
    SourceError::Refused(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full: {shown} cannot {what}; nothing of it was kept")
        }
        _ => format!("{shown} cannot {what}: {error}"),
    })
}

/// A file's size and SHA-256.
pub(super) async fn measure(path: PathBuf) -> Result<(u64, String), SourceError> {
    blocking(move || measure_now(&path)).await
}

fn measure_now(path: &Path) -> Result<(u64, String), SourceError> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SourceError::Refused(format!(
            "{} is not there; several nodes need one `backup.dir` that they share",
            path.display()
        )),
        _ => cannot(path, "be read", &error),
    })?;
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(|error| cannot(path, "be read", &error))?;
        if count == 0 {
            break;
        }
        sum.update(chunk.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    let hex = sum.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Ok((bytes, hex))
}

/// What a folder's disk has left for this user, in bytes.
pub(super) async fn free(folder: &Path) -> Result<u64, SourceError> {
    let folder = folder.to_owned();
    blocking(move || {
        make_folder(&folder).map_err(|error| cannot(&folder, "be made", &error))?;
        let found = rustix::fs::statvfs(&folder)
            .map_err(|error| cannot(&folder, "be looked at", &error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    })
    .await
}

/// Removes unfinished files that no process holds.
pub(super) async fn sweep(folder: &Path) -> Result<(), SourceError> {
    let folder = folder.to_owned();
    blocking(move || {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(cannot(&folder, "be read", &error)),
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(MARK) {
                continue;
            }
            let file = OpenOptions::new().write(true).open(entry.path());
            if file.is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    })
    .await
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Work with files, off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SourceError::Refused(format!("a file could not be worked on: {error}"))),
    }
}

/// A size for people.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, scale)| bytes >= *scale) {
        Some((unit, scale)) => format!("{:.1} {unit}", bytes as f64 / *scale as f64),
        None => format!("{bytes} bytes"),
    }
}
