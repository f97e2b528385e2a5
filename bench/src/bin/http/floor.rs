//! The floor: routes of a bare actix-web that check nothing and send the same.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::Value;
use switchback_core::{Context, Ruleset};
use switchback_formats::unleash;

struct Material {
    features: Bytes,
    ruleset: Ruleset,
}

/// Serves until its parent ends. The file holds the features document.
pub fn serve(file: &str) {
    let features = std::fs::read(file).expect("the document is there");
    let document: Value = serde_json::from_slice(&features).expect("it is JSON");
    let document = serde_json::from_value(document).expect("it is a features document");
    let ruleset = Ruleset::compile(&unleash::read(&document).document);
    let material = Arc::new(Material { features: features.into(), ruleset });
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    actix_web::rt::System::new()
        .block_on(async move {
            HttpServer::new(move || {
                App::new()
                    .app_data(Data::from(Arc::clone(&material)))
                    .route("/304", web::get().to(not_modified))
                    .route("/200", web::get().to(features_as_they_are))
                    .route("/front", web::get().to(front))
            })
            .listen(listener)
            .expect("the socket can be served")
            .run()
            .await
        })
        .expect("the floor runs");
}

async fn not_modified(request: HttpRequest) -> HttpResponse {
    let etag = request.headers().get(header::IF_NONE_MATCH).cloned();
    let etag = etag.unwrap_or_else(|| header::HeaderValue::from_static("\"none\""));
    HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish()
}

async fn features_as_they_are(material: Data<Material>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(material.features.clone())
}

/// Evaluates all flags and writes those that are on.
async fn front(request: HttpRequest, material: Data<Material>) -> HttpResponse {
    let query = request.query_string();
    let user = query.split('&').find_map(|pair| pair.strip_prefix("userId=")).unwrap_or_default();
    let context = Context::new().user_id(user);
    let mut body = Vec::with_capacity(160_000);
    body.extend_from_slice(b"{\"toggles\":[");
    material.ruleset.evaluate_all(&context, |key, evaluation| {
        if !evaluation.enabled {
            return;
        }
        if body.last() == Some(&b'}') {
            body.push(b',');
        }
        let (name, has) = (evaluation.variant.unwrap_or("disabled"), evaluation.variant.is_some());
        let _ = write!(
            body,
            "{{\"name\":\"{key}\",\"enabled\":true,\"impressionData\":false,\"impression_data\":false,\"variant\":{{\"name\":\"{name}\",\"enabled\":{has},\"feature_enabled\":true,\"featureEnabled\":true}}}}"
        );
    });
    body.extend_from_slice(b"]}");
    HttpResponse::Ok().content_type("application/json").body(body)
}
