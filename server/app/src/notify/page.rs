//! Status pages elsewhere: incidents are opened and moved there through Statuspage's, Cachet's or Instatus's own API, and
//! read back.
//!
//! A call that was cut off may have worked. So an incident is looked for under our id before it is made, and an update is posted only
//! when the newest one there is another.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use switchback_core::model::Millis;

use super::instatus;
use super::post::{Answer, Poster};
use super::{Message, Refusal};

/// A page elsewhere, with its key.
#[derive(Debug)]
pub enum Page<'p> {
    /// Statuspage, or what speaks like it.
    Statuspage {
        /// The base of its address, such as `https://api.statuspage.io`.
        base: &'p str,
        /// The page's id.
        page: &'p str,
        /// Its key.
        key: String,
        /// Our components' ids there.
        components: &'p BTreeMap<String, String>,
    },
    /// Cachet 3.
    Cachet {
        /// The base of its address.
        base: &'p str,
        /// Its token.
        key: String,
        /// Our components' ids there.
        components: &'p BTreeMap<String, String>,
    },
    /// Instatus.
    Instatus {
        /// The base of its address, such as `https://api.instatus.com`.
        base: &'p str,
        /// The page's id.
        page: &'p str,
        /// Its key.
        key: String,
        /// Our components' ids there.
        components: &'p BTreeMap<String, String>,
    },
}

/// What a page was told, or shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The incident's id there.
    pub id: String,
    /// Its status, in that page's words.
    pub status: String,
}

/// What an incident there is known by.
#[derive(Clone, Copy, Debug)]
pub struct Own<'o> {
    /// The channel that leads there: two that lead to one page have their own incidents, as they have their own components.
    pub channel: &'o str,
    /// When it was opened here, in UTC milliseconds.
    pub began: Millis,
}

impl Own<'_> {
    /// What is kept with an incident where a page keeps things for us.
    fn mark(&self, data: &Value) -> Value {
        json!({"incident": text(data, "/incident/id"), "channel": self.channel})
    }
}

impl Page<'_> {
    /// Tells the page of an update; `known`: the incident's id there, if it is known.
    ///
    /// # Errors
    /// Why it was not taken; no error holds the key.
    pub async fn tell(
        &self,
        poster: &Poster,
        message: &Message,
        known: Option<String>,
        own: Own<'_>,
    ) -> Result<Stands, Refusal> {
        let found = match known {
            Some(id) => Some(id),
            None => self.find(poster, &message.data, own).await?,
        };
        let Some(id) = found else { return self.open(poster, message, own).await };
        let status = self.status_word(text(&message.data, "/update/status"));
        if !self.says(poster, &id, &status, text(&message.data, "/update/body")).await? {
            self.post_update(poster, &id, message).await?;
        }
        Ok(Stands { id, status })
    }

    /// Whether the page can be reached with its key: its incidents are read, and nothing is written.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn check(&self, poster: &Poster) -> Result<(), Refusal> {
        let path = match self {
            Self::Statuspage { page, .. } => format!("/v1/pages/{page}/incidents?limit=1"),
            Self::Cachet { .. } => "/api/incidents?per_page=1".to_owned(),
            Self::Instatus { page, .. } => {
                format!("{}?per_page=1", instatus::collection(page, false))
            }
        };
        self.call(poster, Method::GET, &path, None).await.map(drop)
    }

    /// How an incident stands there now.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(&self, poster: &Poster, id: &str) -> Result<Stands, Refusal> {
        let answer = self.call(poster, Method::GET, &self.incident_path(id), None).await?;
        let status = match self {
            Self::Statuspage { .. } | Self::Instatus { .. } => text(&answer, "/status").to_owned(),
            Self::Cachet { .. } => number(&answer, "/data/attributes/status/value"),
        };
        Ok(Stands { id: id.to_owned(), status })
    }

    /// The incident there that is ours.
    async fn find(
        &self,
        poster: &Poster,
        data: &Value,
        own: Own<'_>,
    ) -> Result<Option<String>, Refusal> {
        let (path, list, mark) = match self {
            Self::Instatus { page, .. } => {
                let planned = instatus::is_planned(data);
                let path = format!("{}?per_page=100", instatus::collection(page, planned));
                let answer = self.call(poster, Method::GET, &path, None).await?;
                let mut all = answer.as_array().into_iter().flatten();
                let found = all.find(|one| instatus::is_ours(one, data, own.began));
                return Ok(found.map(|one| instatus::kept_id(&id_of(one.get("id")), planned)));
            }
            Self::Statuspage { page, .. } => {
                (format!("/v1/pages/{page}/incidents?limit=100"), "", "/metadata/switchback")
            }
            Self::Cachet { .. } => (
                "/api/incidents?per_page=100&sort=-id".to_owned(),
                "/data",
                "/attributes/meta/switchback",
            ),
        };
        let answer = self.call(poster, Method::GET, &path, None).await?;
        let all = answer.pointer(list).and_then(Value::as_array);
        let ours = own.mark(data);
        let found = all.into_iter().flatten().find(|one| one.pointer(mark) == Some(&ours));
        Ok(found.map(|one| id_of(one.get("id"))))
    }

    async fn open(
        &self,
        poster: &Poster,
        message: &Message,
        own: Own<'_>,
    ) -> Result<Stands, Refusal> {
        let data = &message.data;
        let status = self.status_word(text(data, "/update/status"));
        let meta = json!({"switchback": own.mark(data)});
        let (name, body) = (text(data, "/incident/name"), text(data, "/update/body"));
        match self {
            Self::Statuspage { page, .. } => {
                let mut incident = json!({
                    "name": name, "status": status, "body": body, "metadata": meta, "components": self.components(data),
                    "impact_override": text(data, "/incident/impact"), "deliver_notifications": true,
                });
                if let Some(incident) = incident.as_object_mut() {
                    for field in ["scheduled_for", "scheduled_until"] {
                        if let Some(at) =
                            data.pointer(&format!("/incident/{field}")).filter(|at| !at.is_null())
                        {
                            incident.insert(field.to_owned(), at.clone());
                        }
                    }
                }
                let path = format!("/v1/pages/{page}/incidents");
                let sent = json!({"incident": incident});
                let answer = self.call(poster, Method::POST, &path, Some(&sent)).await?;
                Ok(Stands { id: id_of(answer.get("id")), status })
            }
            Self::Cachet { .. } => {
                let components: Vec<Value> = self
                    .components(data)
                    .into_iter()
                    .map(|(id, status)| json!({"id": id, "status": cachet_component(&status)}))
                    .collect();
                let sent = json!({
                    "name": name, "status": status.parse::<u8>().unwrap_or(1), "message": body, "visible": true,
                    "notifications": true, "meta": meta, "components": components,
                });
                let answer = self.call(poster, Method::POST, "/api/incidents", Some(&sent)).await?;
                Ok(Stands { id: id_of(answer.pointer("/data/id")), status })
            }
            Self::Instatus { page, .. } => {
                let planned = instatus::is_planned(data);
                let sent = instatus::opening(data, &self.components(data), own.began);
                let path = instatus::collection(page, planned);
                let answer = self.call(poster, Method::POST, &path, Some(&sent)).await?;
                Ok(Stands { id: instatus::kept_id(&id_of(answer.get("id")), planned), status })
            }
        }
    }

    /// Whether the newest update there is this one.
    async fn says(
        &self,
        poster: &Poster,
        id: &str,
        status: &str,
        body: &str,
    ) -> Result<bool, Refusal> {
        let (path, last) = match self {
            Self::Instatus { .. } => {
                let answer = self.call(poster, Method::GET, &self.incident_path(id), None).await?;
                return Ok(instatus::newest(&answer).is_some_and(|newest| {
                    text(newest, "/message") == body && text(newest, "/status") == status
                }));
            }
            Self::Statuspage { .. } => (self.incident_path(id), "/incident_updates/0"),
            Self::Cachet { .. } => {
                (format!("{}/updates?sort=-id", self.incident_path(id)), "/data/0/attributes")
            }
        };
        let answer = self.call(poster, Method::GET, &path, None).await?;
        let Some(newest) = answer.pointer(last) else { return Ok(false) };
        Ok(match self {
            Self::Cachet { .. } => {
                text(newest, "/message") == body && number(newest, "/status/value") == status
            }
            _ => text(newest, "/body") == body && text(newest, "/status") == status,
        })
    }

    async fn post_update(
        &self,
        poster: &Poster,
        id: &str,
        message: &Message,
    ) -> Result<(), Refusal> {
        let data = &message.data;
        let status = self.status_word(text(data, "/update/status"));
        let body = text(data, "/update/body");
        let mut components = self.components(data);
        if message.is_over {
            for state in components.values_mut() {
                "operational".clone_into(state);
            }
        }
        match self {
            Self::Instatus { page, .. } => {
                let sent = instatus::update(data, &components);
                let path = instatus::updates_path(page, id);
                self.call(poster, Method::POST, &path, Some(&sent)).await?;
            }
            Self::Statuspage { .. } => {
                let incident = json!({"status": status, "body": body, "components": components});
                let sent = json!({"incident": incident});
                self.call(poster, Method::PATCH, &self.incident_path(id), Some(&sent)).await?;
            }
            Self::Cachet { .. } => {
                let sent = json!({"status": status.parse::<u8>().unwrap_or(1), "message": body});
                let path = format!("{}/updates", self.incident_path(id));
                self.call(poster, Method::POST, &path, Some(&sent)).await?;
                for (component, state) in components {
                    let sent = json!({"status": cachet_component(&state)});
                    let path = format!("/api/components/{component}");
                    self.call(poster, Method::PUT, &path, Some(&sent)).await?;
                }
            }
        }
        Ok(())
    }

    fn incident_path(&self, id: &str) -> String {
        match self {
            Self::Statuspage { page, .. } => format!("/v1/pages/{page}/incidents/{id}"),
            Self::Cachet { .. } => format!("/api/incidents/{id}"),
            Self::Instatus { page, .. } => instatus::path_of(page, id),
        }
    }

    /// The components that the page knows, by their ids there.
    fn components(&self, data: &Value) -> BTreeMap<String, String> {
        let (Self::Statuspage { components, .. }
        | Self::Cachet { components, .. }
        | Self::Instatus { components, .. }) = self;
        let touched = data.pointer("/incident/components").and_then(Value::as_object);
        let known = touched.into_iter().flatten().filter_map(|(key, state)| {
            Some((components.get(key)?.clone(), state.as_str()?.to_owned()))
        });
        known.collect()
    }

    fn status_word(&self, status: &str) -> String {
        let number = match (self, status) {
            (Self::Statuspage { .. }, status) => return status.to_owned(),
            (Self::Instatus { .. }, status) => return instatus::status_word(status).to_owned(),
            (_, "investigating" | "scheduled") => 1,
            (_, "identified" | "in_progress") => 2,
            (_, "monitoring" | "verifying") => 3,
            _ => 4,
        };
        number.to_string()
    }

    async fn call(
        &self,
        poster: &Poster,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let (base, authorization) = match self {
            Self::Statuspage { base, key, .. } => (base, format!("OAuth {key}")),
            Self::Cachet { base, key, .. } | Self::Instatus { base, key, .. } => {
                (base, format!("Bearer {key}"))
            }
        };
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let answer: Answer = poster.call(method, &url, &authorization, body).await?;
        answer.judge()?;
        serde_json::from_str(&answer.body)
            .map_err(|_| Refusal::Later("the page did not answer with JSON".to_owned(), None))
    }
}

/// A text in a document; empty when there is none.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A moment as RFC 3339 has it.
pub(super) fn iso(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).map(|at| at.to_string()).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> String {
    id_of(value.pointer(pointer))
}

/// An id, which may be a number.
fn id_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn cachet_component(status: &str) -> u8 {
    match status {
        "operational" => 1,
        "degraded_performance" => 2,
        "partial_outage" => 3,
        "major_outage" => 4,
        "under_maintenance" => 6,
        _ => 5,
    }
}
