//! Status pages elsewhere: incidents are opened and moved there through Statuspage's or Cachet's own API, and read back.
//!
//! A call that was cut off may have worked. So an incident is looked for under our id before it is made, and an update is posted only
//! when the newest one there is another.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

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
}

/// What a page was told, or shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The incident's id there.
    pub id: String,
    /// Its status, in that page's words.
    pub status: String,
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
    ) -> Result<Stands, Refusal> {
        let incident = text(&message.data, "/incident/id");
        let found = match known {
            Some(id) => Some(id),
            None => self.find(poster, incident).await?,
        };
        let Some(id) = found else { return self.open(poster, message).await };
        let status = self.status_word(text(&message.data, "/update/status"));
        if !self.says(poster, &id, &status, text(&message.data, "/update/body")).await? {
            self.post_update(poster, &id, message).await?;
        }
        Ok(Stands { id, status })
    }

    /// How an incident stands there now.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(&self, poster: &Poster, id: &str) -> Result<Stands, Refusal> {
        let answer = self.call(poster, Method::GET, &self.incident_path(id), None).await?;
        let status = match self {
            Self::Statuspage { .. } => text(&answer, "/status").to_owned(),
            Self::Cachet { .. } => number(&answer, "/data/attributes/status/value"),
        };
        Ok(Stands { id: id.to_owned(), status })
    }

    /// The incident there that holds our id.
    async fn find(&self, poster: &Poster, incident: &str) -> Result<Option<String>, Refusal> {
        let (path, list, own) = match self {
            Self::Statuspage { page, .. } => (
                format!("/v1/pages/{page}/incidents?limit=100"),
                "",
                "/metadata/switchback/incident",
            ),
            Self::Cachet { .. } => (
                "/api/incidents?per_page=100&sort=-id".to_owned(),
                "/data",
                "/attributes/meta/switchback/incident",
            ),
        };
        let answer = self.call(poster, Method::GET, &path, None).await?;
        let all = answer.pointer(list).and_then(Value::as_array);
        let found = all.into_iter().flatten().find(|one| text(one, own) == incident);
        Ok(found.map(|one| id_of(one.get("id"))))
    }

    async fn open(&self, poster: &Poster, message: &Message) -> Result<Stands, Refusal> {
        let data = &message.data;
        let status = self.status_word(text(data, "/update/status"));
        let own = json!({"switchback": {"incident": text(data, "/incident/id")}});
        let (name, body) = (text(data, "/incident/name"), text(data, "/update/body"));
        match self {
            Self::Statuspage { page, .. } => {
                let mut incident = json!({
                    "name": name, "status": status, "body": body, "metadata": own, "components": self.components(data),
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
                    "notifications": true, "meta": own, "components": components,
                });
                let answer = self.call(poster, Method::POST, "/api/incidents", Some(&sent)).await?;
                Ok(Stands { id: id_of(answer.pointer("/data/id")), status })
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
            Self::Statuspage { .. } => (self.incident_path(id), "/incident_updates/0"),
            Self::Cachet { .. } => {
                (format!("{}/updates?sort=-id", self.incident_path(id)), "/data/0/attributes")
            }
        };
        let answer = self.call(poster, Method::GET, &path, None).await?;
        let Some(newest) = answer.pointer(last) else { return Ok(false) };
        Ok(match self {
            Self::Statuspage { .. } => {
                text(newest, "/body") == body && text(newest, "/status") == status
            }
            Self::Cachet { .. } => {
                text(newest, "/message") == body && number(newest, "/status/value") == status
            }
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
        let over = message.is_over;
        match self {
            Self::Statuspage { .. } => {
                let components: BTreeMap<String, String> = self
                    .components(data)
                    .into_iter()
                    .map(|(id, state)| (id, if over { "operational".to_owned() } else { state }))
                    .collect();
                let incident = json!({"status": status, "body": body, "components": components});
                let sent = json!({"incident": incident});
                self.call(poster, Method::PATCH, &self.incident_path(id), Some(&sent)).await?;
            }
            Self::Cachet { .. } => {
                let sent = json!({"status": status.parse::<u8>().unwrap_or(1), "message": body});
                let path = format!("{}/updates", self.incident_path(id));
                self.call(poster, Method::POST, &path, Some(&sent)).await?;
                for (component, state) in self.components(data) {
                    let state = if over { "operational" } else { state.as_str() };
                    let sent = json!({"status": cachet_component(state)});
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
        }
    }

    /// The components that the page knows, by their ids there.
    fn components(&self, data: &Value) -> BTreeMap<String, String> {
        let (Self::Statuspage { components, .. } | Self::Cachet { components, .. }) = self;
        let touched = data.pointer("/incident/components").and_then(Value::as_object);
        let known = touched.into_iter().flatten().filter_map(|(key, state)| {
            Some((components.get(key)?.clone(), state.as_str()?.to_owned()))
        });
        known.collect()
    }

    fn status_word(&self, status: &str) -> String {
        let number = match (self, status) {
            (Self::Statuspage { .. }, status) => return status.to_owned(),
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
            Self::Cachet { base, key, .. } => (base, format!("Bearer {key}")),
        };
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let answer: Answer = poster.call(method, &url, &authorization, body).await?;
        answer.judge()?;
        serde_json::from_str(&answer.body)
            .map_err(|_| Refusal::Later("the page did not answer with JSON".to_owned(), None))
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
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
