//! News for pages that are open: one stream of events each.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::stream;
use switchback_app::live::News;
use switchback_store::Role;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::visit::Visit;
use super::{Answer, fields::Fields};

/// How often the stream looks whether the server is asked to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many such looks without news before the page is told that the stream lives.
const QUIET_LOOKS: u32 = 5;

/// `GET /ui/events?environment=`: `environment`, `clients`, `run` and `status` events. An event says
/// that something moved; the page fetches what.
pub async fn events(visit: Visit, query: Fields) -> Answer {
    let environment = query.text("environment").to_owned();
    visit.who.must(Role::Viewer, &environment, "look")?;
    let revision = visit.get_environment(&environment).await?.revision;
    let revision = visit.hub.convergence_here(&environment, None).revision.max(revision);
    let hello = format!("retry: 1000\nevent: environment\ndata: {revision}\n\n");
    let news = visit.hub.subscribe();
    let start = (visit, environment, news, Some(hello));
    let events = stream::unfold(start, |(visit, environment, mut news, first)| async move {
        if let Some(first) = first {
            let bytes = Bytes::from(first);
            return Some((Ok::<_, actix_web::Error>(bytes), (visit, environment, news, None)));
        }
        let mut quiet = 0;
        loop {
            if visit.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                return None;
            }
            let text = match timeout(LOOK_EVERY, news.recv()).await {
                Err(_) if quiet < QUIET_LOOKS => {
                    quiet += 1;
                    continue;
                }
                Err(_) => Some("event: alive\ndata: \n\n".to_owned()),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(_))) => Some("event: missed\ndata: \n\n".to_owned()),
                Ok(Ok(news)) => event(&visit, &environment, news),
            };
            if let Some(text) = text {
                return Some((Ok(Bytes::from(text)), (visit, environment, news, None)));
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::CONTENT_ENCODING, "identity")) // compressed it would wait to fill a block
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events))
}

fn event(visit: &Visit, environment: &str, news: News) -> Option<String> {
    match news {
        News::Environment(key) if key == environment => {
            let revision = visit.hub.convergence_here(environment, None).revision;
            Some(format!("event: environment\ndata: {revision}\n\n"))
        }
        News::Clients(key) if key == environment => Some("event: clients\ndata: \n\n".to_owned()),
        News::Run(id) => Some(format!("event: run\ndata: {id}\n\n")),
        News::Status => Some("event: status\ndata: \n\n".to_owned()),
        _ => None,
    }
}
