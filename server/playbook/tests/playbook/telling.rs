//! The world in memory: incidents, the status page's components and messages.

use std::collections::BTreeMap;

use async_trait::async_trait;
use switchback_playbook::ports::{
    Announcement, IncidentText, Incidents, Notice, Notices, PortError,
};

use crate::support::Fake;

#[async_trait]
impl Incidents for Fake {
    async fn open(&self, key: &str, _: &str, text: &IncidentText) -> Result<String, PortError> {
        self.operate(None, |inner| {
            if inner.broken.contains("incidents") {
                return Err(PortError::Refused("the page is broken".into()));
            }
            let id = format!("inc_{}", inner.incidents.len() + 1);
            let new = (id, text.template.clone(), false);
            Ok(inner.incidents.entry(key.into()).or_insert(new).0.clone())
        })
    }

    async fn find_by_key(&self, key: &str) -> Result<Option<String>, PortError> {
        Ok(self.with(|inner| inner.incidents.get(key).map(|(id, ..)| id.clone())))
    }

    async fn find_open(&self, _: &str, template: &str) -> Result<Option<String>, PortError> {
        Ok(self.with(|inner| {
            let open =
                inner.incidents.values().find(|(_, from, resolved)| from == template && !resolved);
            open.map(|(id, ..)| id.clone())
        }))
    }

    async fn update(&self, key: &str, id: &str, text: &IncidentText) -> Result<(), PortError> {
        self.operate(None, |inner| {
            if inner.updates.insert(key.into())
                && let Some(found) = inner.incidents.values_mut().find(|(known, ..)| known == id)
            {
                found.2 = text.status == "resolved";
            }
            Ok(())
        })
    }

    async fn set_components(
        &self,
        key: &str,
        components: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, PortError> {
        self.operate(None, |inner| {
            if let Some(before) = inner.moved.get(key) {
                return Ok(before.clone());
            }
            let mut before = BTreeMap::new();
            for (component, state) in components {
                let was = inner.components.insert(component.clone(), state.clone());
                before.insert(component.clone(), was.unwrap_or_else(|| "operational".into()));
            }
            inner.moved.insert(key.into(), before.clone());
            Ok(before)
        })
    }

    async fn components(&self) -> Result<BTreeMap<String, String>, PortError> {
        Ok(self.with(|inner| inner.components.clone()))
    }

    async fn reached(&self, _: &IncidentText) -> Result<u64, PortError> {
        Ok(0)
    }
}

#[async_trait]
impl Notices for Fake {
    async fn post(&self, key: &str, _: &str, _: &Notice) -> Result<(), PortError> {
        self.operate(None, |inner| {
            inner.notices.insert(key.into());
            Ok(())
        })
    }

    async fn announce(&self, key: &str, said: &Announcement) -> Result<Vec<String>, PortError> {
        self.operate(None, |inner| {
            inner.notices.insert(key.into());
            Ok(vec![said.kind.clone()])
        })
    }

    async fn recipients(&self, said: &Announcement) -> Result<Vec<String>, PortError> {
        Ok(vec![said.kind.clone()])
    }
}
