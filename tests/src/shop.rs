//! A server with a shop's database as its data source: its own database, which is as good as any.

use serde_json::{Value, json};

use crate::{Api, Backend, Server, eventually};

/// Starts a server with these runbooks (path and text) and a data source of this name that may be written to.
pub async fn open(backend: &Backend, source: &str, files: &[(&str, &str)]) -> (Server, Api) {
    let runbooks = backend.folder.path().join("runbooks");
    std::fs::create_dir_all(&runbooks).unwrap();
    for (path, text) in files {
        let path = runbooks.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (runbooks, address) = (runbooks.display().to_string(), backend.address());
    let variables =
        [("SWITCHBACK_RUNBOOKS_DIR", runbooks.as_str()), ("SHOP_DATABASE_URL", &address)];
    let server = Server::start_on(backend, "127.0.0.1:0", &variables);
    let api = server.api();
    connect(&api, source).await;
    (server, api)
}

/// Makes the database that `SHOP_DATABASE_URL` names a data source that may be written to.
pub async fn connect(api: &Api, source: &str) {
    let settings =
        json!({"name": source, "credentials": "env:SHOP_DATABASE_URL", "access": "read_write"});
    let path = format!("/api/v1/data-sources/{source}");
    api.put(&path, json!({"settings": settings, "reason": "the shop's own"})).await;
}

/// Runs a playbook in staging, to its end.
pub async fn play(api: &Api, playbook: &str, inputs: &Value) -> Value {
    let body = json!({"environment": "staging", "reason": "to see what happens", "inputs": inputs});
    let run = api.post(&format!("/api/v1/playbooks/{playbook}/runs"), body).await;
    end_of(api, &run).await
}

/// Waits until a run is over, or waits for a person.
pub async fn end_of(api: &Api, run: &Value) -> Value {
    let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    eventually("the run ends", || async {
        let detail = api.get(&path).await;
        let over = detail["run"]["finished_at"].is_number() || detail["state"] == "parked";
        over.then_some(detail)
    })
    .await
}
