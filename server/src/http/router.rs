//! Every URL.

use std::sync::Arc;

use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App as WebApp, Error, HttpServer, body::MessageBody, web};

use super::{
    State, api, compat, endpoint, health, idempotency, observe, openapi, problem, status, stream,
    ui,
};
use crate::app::App;

/// Connections that wait to be accepted; a reconnecting fleet comes all at once.
const BACKLOG: u32 = 8_192;
/// How long requests in flight may take when the server ends, in seconds.
const SHUTDOWN_SECONDS: u64 = 8;

/// An HTTP server on a socket that is bound already.
pub fn server(app: &Arc<App>, listener: std::net::TcpListener) -> std::io::Result<Server> {
    let workers = app.config.workers;
    let app = Arc::clone(app);
    let mut server = HttpServer::new(move || web_app(Arc::clone(&app)))
        .backlog(BACKLOG)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .max_connections(200_000)
        .disable_signals();
    if workers > 0 {
        server = server.workers(workers);
    }
    Ok(server.listen(listener)?.run())
}

/// The application with every route.
fn web_app(
    app: Arc<App>,
) -> WebApp<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let compat_app = Arc::clone(&app);
    WebApp::new()
        .app_data(web::Data::new(State(app)))
        .app_data(problem::json_config())
        .app_data(problem::path_config())
        .app_data(problem::query_config())
        .configure(|config| compat::routes(config, &compat_app))
        .service(pages_and_api())
}

/// What people, our own SDKs and scripts ask for. (The other systems' SDKs ask far more often, and have a lighter way in.)
fn pages_and_api() -> impl actix_web::dev::HttpServiceFactory {
    web::scope("")
        .wrap(observe::security_headers())
        .wrap(from_fn(observe::observe))
        .route("/healthz", web::get().to(health::healthz))
        .route("/readyz", web::get().to(health::readyz))
        .route("/metrics", web::get().to(health::metrics))
        .route("/api/v1/stream", web::get().to(stream::open_stream))
        .service(
            web::scope("")
                .wrap(Compress::default())
                .route("/api/v1/openapi.json", web::get().to(openapi::openapi_json))
                .configure(status::routes)
                .configure(ui::routes)
                .service(
                    web::scope("")
                        .wrap(from_fn(idempotency::remember))
                        .configure(|config| endpoint::register(config, &api::endpoints()))
                        .default_service(web::to(problem::no_such_route)),
                ),
        )
}
