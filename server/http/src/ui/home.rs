//! Where someone begins, what the palette can find, and light or dark.

use actix_web::HttpResponse;
use serde_json::json;
use switchback_app::flags::FlagFilter;

use super::Answer;
use super::fields::Fields;
use super::timeline::if_allowed;
use super::visit::{THEME, Visit, go, is_local, small_cookie};
use super::words::word;

/// `GET /`.
pub async fn home(visit: Visit) -> Answer {
    Ok(go(&format!("/ui/{}", visit.environment().await?)))
}

/// `GET /ui/search.json?environment=`: what the palette jumps to.
pub async fn search(visit: Visit, query: Fields) -> Answer {
    let environment = query.text("environment");
    let flags = visit.list_flags(&visit.who, environment, &FlagFilter::default()).await?;
    let base = format!("/ui/{environment}");
    let mut items = Vec::new();
    for (name, path) in [
        ("Overview", ""),
        ("Flags", "/flags"),
        ("New flag", "/flags/new"),
        ("Segments", "/segments"),
        ("Clients", "/clients"),
        ("Playbooks", "/playbooks"),
        ("Watch", "/watch"),
        ("Alerts", "/alerts"),
        ("Incidents", "/incidents"),
        ("Open an incident", "/incidents/new"),
        ("Sessions", "/watch/sessions"),
        ("Log", "/log"),
        ("Put the environment back to a moment", "/restore"),
    ] {
        items.push(
            json!({"kind": "page", "name": name, "hint": "", "url": format!("{base}{path}")}),
        );
    }
    for (name, url) in [
        ("Checks", "/ui/checks"),
        ("People", "/ui/settings/people"),
        ("Tokens", "/ui/settings/tokens"),
        ("Projects", "/ui/settings/projects"),
        ("Environments", "/ui/settings/environments"),
        ("Data sources", "/ui/settings/sources"),
        ("Components", "/ui/settings/components"),
        ("Uptime", "/ui/settings/uptime"),
        ("Channels", "/ui/settings/channels"),
        ("Messages", "/ui/settings/messages"),
        ("Subscribers", "/ui/settings/subscribers"),
        ("Templates", "/ui/settings/templates"),
        ("Automation", "/ui/settings/automation"),
        ("Status page", "/status"),
        ("API", "/docs/api"),
    ] {
        items.push(json!({"kind": "page", "name": name, "hint": "", "url": url}));
    }
    for row in flags {
        let key = row.flag.key.as_str();
        let url = format!("{base}/flags/{key}");
        let hint = row.flag.description;
        items.push(json!({"kind": "flag", "name": key, "hint": hint, "url": url, "tag": word(&row.flag.kind)}));
    }
    for playbook in visit.catalogue.load().playbooks.values() {
        let url = format!("{base}/playbooks/{}", playbook.name);
        items.push(
            json!({"kind": "playbook", "name": playbook.title, "hint": playbook.name, "url": url}),
        );
    }
    for pack in if_allowed(visit.check_health(&visit.who).await.map(|health| health.packs))? {
        let url = format!("/ui/checks/{}", pack.name);
        items.push(json!({"kind": "checks", "name": pack.title, "hint": pack.name, "url": url}));
    }
    for place in visit.list_environments(&visit.who).await? {
        let url = format!("/ui/{}", place.key);
        items.push(
            json!({"kind": "environment", "name": place.name, "hint": place.key, "url": url}),
        );
    }
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({"items": items})))
}

/// `POST /ui/theme`: keeps light, dark or automatic.
pub async fn theme(_visit: Visit, form: Fields) -> Answer {
    let back = form.text("back");
    let mut answer = go(if is_local(back) { back } else { "/" });
    let theme = match form.text("theme") {
        "light" => "light",
        "dark" => "dark",
        _ => "auto",
    };
    let _ = answer.add_cookie(&small_cookie(THEME, theme, 31_536_000));
    Ok(answer)
}
