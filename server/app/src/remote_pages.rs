//! Incidents on status pages elsewhere: told through the outbox, and read back, so that a difference is seen.

use switchback_core::model::Millis;
use switchback_store::{RemoteIncident, Role};

use super::App;
use super::error::AppError;
use super::who::{EVERYWHERE, Who};
use crate::notify::page::{Own, Page};
use crate::notify::{Message, Poster, Refusal};

/// How often a page is read back, in milliseconds.
const LOOK_EVERY_MS: i64 = 60_000;
/// For how long after it was told something, in milliseconds.
const LOOK_FOR_MS: i64 = 24 * 60 * 60 * 1_000;

impl App {
    /// Tells a page of an incident's update, and notes its id there.
    pub(super) async fn tell_page(
        &self,
        channel: &str,
        page: &Page<'_>,
        poster: &Poster,
        message: &Message,
        now: Millis,
    ) -> Result<(), Refusal> {
        if message.event == super::channels::TEST {
            return page.check(poster).await; // customers would see anything else
        }
        let incident = message.thread.as_deref().and_then(|thread| thread.strip_prefix("inc:"));
        let is_update = message.data.get("update").is_some();
        let Some(incident) = incident.filter(|_| is_update) else {
            return Ok(()); // who takes care is nothing for customers
        };
        let later = |error: switchback_store::StoreError| Refusal::Later(error.to_string(), None);
        let known = self.store.find_remote_incident(channel, incident).await.map_err(later)?;
        let began = self.store.get_incident(incident).await.map_err(later)?.created_at;
        let known = known.map(|known| known.remote_id);
        let told = page.tell(poster, message, known, Own { channel, began }).await?;
        let noted = self.store.note_remote_told(channel, incident, &told.id, &told.status, now);
        noted.await.map_err(later)
    }

    /// Reads back what pages elsewhere show of incidents of the last day.
    pub(super) async fn look_at_pages(&self) -> Result<(), AppError> {
        let now = self.clock.now();
        for remote in self.store.list_remote_due(now - LOOK_FOR_MS, now - LOOK_EVERY_MS).await? {
            let seen = match self.find_channel(&remote.channel).await? {
                Some(channel) => match channel.to.page().await {
                    Ok(Some(page)) => page.read(&self.poster(now), &remote.remote_id).await,
                    Ok(None) => continue,
                    Err(refusal) => Err(refusal),
                },
                None => Err(Refusal::Never("the channel was removed".to_owned())),
            };
            let (status, error) = match seen {
                Ok(stands) => (Some(stands.status), None),
                Err(Refusal::Never(why) | Refusal::Gone(why) | Refusal::Later(why, _)) => {
                    (None, Some(why))
                }
                Err(Refusal::NotNow(_)) => continue,
            };
            let RemoteIncident { channel, incident_id, .. } = &remote;
            let (status, error) = (status.as_deref(), error.as_deref());
            self.store.note_remote_seen(channel, incident_id, status, error, now).await?;
        }
        Ok(())
    }

    /// What an incident is on pages elsewhere.
    pub async fn list_remote_incidents(
        &self,
        who: &Who,
        incident: &str,
    ) -> Result<Vec<RemoteIncident>, AppError> {
        who.must(Role::Viewer, EVERYWHERE, "look at incidents")?;
        Ok(self.store.list_remote_incidents(incident).await?)
    }
}
