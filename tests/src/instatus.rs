//! A status page at Instatus, as its public description has it: incidents and maintenances with their updates, on loopback.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::sink::{Seen, read};

/// The page's id, and its key.
pub const PAGE: &str = "page1";
/// The key that it wants.
pub const KEY: &str = "instatus-hush";

const INCIDENT: [&str; 4] = ["INVESTIGATING", "IDENTIFIED", "MONITORING", "RESOLVED"];
const MAINTENANCE: [&str; 4] = ["NOTSTARTEDYET", "INPROGRESS", "VERIFYING", "COMPLETED"];
const COMPONENT: [&str; 5] =
    ["OPERATIONAL", "UNDERMAINTENANCE", "DEGRADEDPERFORMANCE", "PARTIALOUTAGE", "MAJOROUTAGE"];

/// What stands on the page.
#[derive(Default)]
struct Page {
    incidents: Vec<Value>,
    maintenances: Vec<Value>,
    written: u64,
    /// How many posts are carried out without an answer: the line is cut.
    cut: u32,
}

/// The page. It ends with the test's process.
pub struct Instatus {
    /// `http://127.0.0.1:port`.
    pub url: String,
    page: Arc<Mutex<Page>>,
}

impl Instatus {
    /// Starts one that does what the first posts ask for and then goes away without an answer.
    pub fn start(cut: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let page = Arc::new(Mutex::new(Page { cut, ..Page::default() }));
        let shared = Arc::clone(&page);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let page = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &page));
            }
        });
        Self { url, page }
    }

    /// Its incidents.
    pub fn incidents(&self) -> Vec<Value> {
        self.page.lock().unwrap().incidents.clone()
    }

    /// Its maintenances.
    pub fn maintenances(&self) -> Vec<Value> {
        self.page.lock().unwrap().maintenances.clone()
    }

    /// Somebody moves an incident there by hand.
    pub fn move_by_hand(&self, nth: usize, status: &str) {
        self.page.lock().unwrap().incidents[nth]["status"] = json!(status);
    }
}

fn serve(stream: &TcpStream, page: &Mutex<Page>) {
    let Some(request) = read(&mut BufReader::new(stream)) else { return };
    let (status, body) = {
        let mut page = page.lock().unwrap();
        let answered = answer(&mut page, &request);
        if request.line.starts_with("POST") && page.cut > 0 {
            page.cut -= 1;
            return;
        }
        answered
    };
    let (body, length) = (body.to_string(), body.to_string().len());
    let head = format!("HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\n");
    let text = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _ = (&mut &*stream).write_all(text.as_bytes());
}

fn answer(page: &mut Page, request: &Seen) -> (u16, Value) {
    if request.headers.get("authorization").map(String::as_str) != Some(&format!("Bearer {KEY}")) {
        return (401, json!({"error": {"message": "unauthorized"}}));
    }
    let (method, path) = request.line.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let ["v1", PAGE, kind @ ("incidents" | "maintenances"), rest @ ..] = parts.as_slice() else {
        return (404, json!({"error": {"message": format!("no {path}")}}));
    };
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    if method == "POST"
        && let Some(wrong) = fault(&body, kind, rest.is_empty())
    {
        return (400, json!({"error": {"message": wrong}}));
    }
    page.written += 1;
    let now = format!("2026-01-01T00:00:{:02}.000Z", page.written % 60);
    let update = json!({
        "id": format!("u{}", page.written), "message": body["message"], "status": body["status"], "started": now, "createdAt": now,
    });
    let id = format!("i{}", page.written);
    let all = if *kind == "incidents" { &mut page.incidents } else { &mut page.maintenances };
    match (method, rest) {
        ("GET", []) => (200, json!(all)),
        ("POST", []) => {
            let made = json!({
                "id": id, "name": body["name"], "status": body["status"], "started": body["started"], "start": body["start"],
                "updates": [update], "components": body["statuses"],
            });
            all.push(made.clone());
            (200, made)
        }
        (_, [id, rest @ ..]) => {
            let Some(found) = all.iter_mut().find(|one| one["id"] == *id) else {
                return (404, json!({"error": {"message": format!("no {id}")}}));
            };
            match (method, rest) {
                ("GET", []) => (200, found.clone()),
                ("POST", ["incident-updates" | "maintenance-updates"]) => {
                    found["status"] = body["status"].clone();
                    found["components"] = body["statuses"].clone();
                    found["updates"].as_array_mut().unwrap().push(update.clone());
                    (200, update)
                }
                _ => (404, json!({})),
            }
        }
        _ => (404, json!({})),
    }
}

/// What the description would refuse.
fn fault(body: &Value, kind: &str, is_new: bool) -> Option<String> {
    let required: &[&str] = match (kind, is_new) {
        ("incidents", true) => &["name", "status"],
        ("incidents", false) => &["status", "components", "statuses"],
        (_, true) => &[
            "name",
            "components",
            "status",
            "autoStart",
            "autoEnd",
            "notifyStart",
            "notifyEnd",
            "notifyEarly",
            "notify",
            "start",
            "end",
        ],
        _ => &["status"],
    };
    if let Some(missing) = required.iter().find(|name| body.get(**name).is_none()) {
        return Some(format!("{missing} is required"));
    }
    let words = if kind == "incidents" { INCIDENT } else { MAINTENANCE };
    let status = body["status"].as_str().unwrap_or_default();
    let touched = body["statuses"].as_array().cloned().unwrap_or_default();
    let is_known =
        |state: &Value| state["status"].as_str().is_some_and(|word| COMPONENT.contains(&word));
    let listed = body["components"].as_array().cloned().unwrap_or_default();
    (!words.contains(&status)
        || !touched.iter().all(is_known)
        || touched.iter().any(|one| !listed.contains(&one["id"])))
    .then(|| format!("that is none of {kind}"))
}
