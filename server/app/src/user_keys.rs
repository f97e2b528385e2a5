//! How the app's users are named in what is kept of them: a keyed hash, or their id where that is set.

use std::fmt::Write as _;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use switchback_store::StoreError;

use super::{App, ids};
use crate::config::UserIds;

/// The name of the key in the database; all nodes share it.
const META: &str = "watch.user_key";
/// Bytes of the hash that are kept: two of a billion users share one in 1 of 10^20 databases.
const KEPT_BYTES: usize = 16;

/// The key, once it was read.
#[derive(Default)]
pub(crate) struct UserKeys(OnceLock<String>);

impl App {
    /// Reads the key, which the first node to ask makes.
    pub(crate) async fn load_user_keys(&self) -> Result<(), StoreError> {
        if self.user_keys.0.get().is_none() {
            let key = self.store.meta_or_put(META, &ids::secret()).await?;
            let _ = self.user_keys.0.set(key);
        }
        Ok(())
    }

    /// The name under which a user is kept: `u_` and 32 hex digits of an HMAC-SHA256, or the id itself with
    /// `watch.user_ids = "plain"`. The same on every node and after a restart, once [`App::warm_up`] has run.
    pub fn user_key(&self, user: &str) -> String {
        if self.config.watch.user_ids == UserIds::Plain {
            return user.to_owned();
        }
        // Nothing is served before `warm_up`; a key of this process alone still tells nobody an id.
        hashed(self.user_keys.0.get_or_init(ids::secret), user)
    }
}

impl App {
    /// A hash by which the same person is found again in findings, whatever `watch.user_ids` says.
    pub fn subject_hash(&self, label: &str) -> String {
        hashed(self.user_keys.0.get_or_init(ids::secret), label)
    }
}

/// Whether a text is a name that [`App::user_key`] makes.
pub fn is_user_key(text: &str) -> bool {
    let hex = text.strip_prefix("u_").unwrap_or_default();
    hex.len() == 2 * KEPT_BYTES && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hashed(key: &str, user: &str) -> String {
    let mut name = "u_".to_owned();
    // HMAC takes keys of every length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) {
        mac.update(user.as_bytes());
        for byte in mac.finalize().into_bytes().iter().take(KEPT_BYTES) {
            let _ = write!(name, "{byte:02x}");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_name_under_one_key() {
        let name = hashed("key", "ada@example.org");

        assert_eq!(name, hashed("key", "ada@example.org"));
        assert!(name.len() == 34 && name.starts_with("u_") && !name.contains("ada"), "{name}");
        assert_ne!(name, hashed("other", "ada@example.org"));
        assert_ne!(name, hashed("key", "bob@example.org"));
    }
}
