//! Connected clients: who is there, how far they are, what they were told.

use switchback_core::wire::Notice;
use switchback_store::Role;

use super::App;
use super::error::AppError;
use super::who::Who;
use crate::live::{ClientView, Convergence};

/// In-app messages older than this are history, in milliseconds.
const NOTICE_MS: i64 = 86_400_000;
/// Messages kept in sight.
const NOTICES_MAX: i64 = 50;

impl App {
    /// How far a revision (the newest when `None`) has come in the whole cluster.
    pub async fn convergence(
        &self,
        who: &Who,
        environment: &str,
        revision: Option<u64>,
    ) -> Result<Convergence, AppError> {
        who.must(Role::Viewer, environment, "look at clients")?;
        self.get_environment(environment).await?;
        Ok(self.hub.convergence(environment, revision))
    }

    /// Clients of this node, longest silent first.
    pub async fn list_clients(
        &self,
        who: &Who,
        environment: &str,
        text: Option<&str>,
        stragglers: bool,
    ) -> Result<Vec<ClientView>, AppError> {
        who.must(Role::Viewer, environment, "look at clients")?;
        self.get_environment(environment).await?;
        let mut clients = self.hub.clients(environment);
        if stragglers {
            let newest = self.hub.convergence_here(environment, None).revision;
            clients.retain(|client| client.acked_revision < newest);
        }
        if let Some(text) = text.map(str::to_lowercase).filter(|text| !text.is_empty()) {
            clients.retain(|client| {
                let fields = [&client.app, &client.instance, &client.sdk, &client.platform];
                fields.iter().any(|field| field.to_lowercase().contains(&text))
            });
        }
        clients.sort_by_key(|client| (client.acked_revision, client.last_seen_at));
        Ok(clients)
    }

    /// One client of this node; `None` when it is gone, or is connected to another node.
    pub async fn find_client(
        &self,
        who: &Who,
        environment: &str,
        id: &str,
    ) -> Result<Option<ClientView>, AppError> {
        who.must(Role::Viewer, environment, "look at clients")?;
        self.get_environment(environment).await?;
        Ok(self.hub.clients(environment).into_iter().find(|client| client.id == id))
    }

    /// In-app messages that still matter, newest first.
    pub async fn list_notices(
        &self,
        who: &Who,
        environment: &str,
    ) -> Result<Vec<Notice>, AppError> {
        who.must(Role::Viewer, environment, "look at notices")?;
        let now = self.clock.now();
        Ok(self.store.list_notices(environment, now, now - NOTICE_MS, NOTICES_MAX).await?)
    }
}
