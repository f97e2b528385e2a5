//! Every URL.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App as WebApp, Error, HttpServer, body::MessageBody, web};
use switchback_app::App;
use switchback_app::config::Config;
use switchback_app::ids::Clock;
use switchback_app::status_page::StatusBoard;

use super::status::StatusPages;
use super::{
    State, api, compat, endpoint, health, hooks, idempotency, observe, openapi, problem, status,
    stream, ui,
};

/// The kernel gives a socket up that takes nothing for this many write timeouts, at one of the next times that it looks:
/// it looks ever less often, so that it can be three times as long.
const SILENT_WRITES_MAX: u32 = 3;
/// Connections that wait to be accepted; a reconnecting fleet comes all at once.
const BACKLOG: u32 = 8_192;
/// How long requests in flight may take when the server ends, in seconds.
const SHUTDOWN_SECONDS: u64 = 8;
/// How long connections of the server that had no database may live on when there is one, in seconds.
const HANDOVER_SECONDS: u64 = 2;

/// An HTTP server on a socket that is bound already.
pub fn server(app: &Arc<App>, listener: std::net::TcpListener) -> std::io::Result<Server> {
    let workers = app.config.workers;
    let silence = Duration::from_millis(app.config.stream.write_timeout_ms) * SILENT_WRITES_MAX;
    let app = Arc::clone(app);
    let pages = web::Data::new(StatusPages::new(Arc::clone(&app.status), Arc::clone(&app.clock)));
    let mut server = HttpServer::new(move || web_app(Arc::clone(&app), pages.clone()))
        .backlog(BACKLOG)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .max_connections(200_000)
        .on_connect(move |socket, _| give_up_after(socket, silence))
        .disable_signals();
    if workers > 0 {
        server = server.workers(workers);
    }
    Ok(server.listen(listener)?.run())
}

/// A server while there is no database: the status page as it was, and nothing else.
pub fn waiting_server(
    config: &Config,
    board: Arc<StatusBoard>,
    clock: Arc<dyn Clock>,
    listener: std::net::TcpListener,
) -> std::io::Result<Server> {
    let silence = Duration::from_millis(config.stream.write_timeout_ms) * SILENT_WRITES_MAX;
    let pages = web::Data::new(StatusPages::new(board, clock));
    let mut server = HttpServer::new(move || {
        WebApp::new()
            .app_data(pages.clone())
            .app_data(problem::query_config())
            .configure(status::routes)
            .configure(status::rarer_routes)
            .route("/healthz", web::get().to(health::healthz))
            .route("/readyz", web::get().to(health::no_database))
            .default_service(web::to(status::waiting))
    })
    .backlog(BACKLOG)
    .shutdown_timeout(HANDOVER_SECONDS)
    .on_connect(move |socket, _| give_up_after(socket, silence))
    .disable_signals();
    if config.workers > 0 {
        server = server.workers(config.workers);
    }
    Ok(server.listen(listener)?.run())
}

/// Lets the kernel close a socket that takes nothing for so long. Without that, one whose peer lives and never
/// reads is held for ever, with all that is queued for it: its session can end, but what it wrote cannot leave.
fn give_up_after(socket: &dyn std::any::Any, silence: Duration) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = socket.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(silence))
    {
        tracing::debug!("a socket's time to take what is sent is not limited: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, silence);
}

/// The application with every route.
fn web_app(
    app: Arc<App>,
    pages: web::Data<StatusPages>,
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
        .app_data(pages)
        .app_data(problem::json_config())
        .app_data(problem::path_config())
        .app_data(problem::query_config())
        .configure(status::routes)
        .configure(|config| compat::routes(config, &compat_app))
        .configure(status::rarer_routes)
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
                .service(
                    web::scope(endpoint::ROOT)
                        .wrap(from_fn(idempotency::remember))
                        .configure(|config| endpoint::register(config, &api::endpoints()))
                        .default_service(web::to(problem::no_such_route)),
                )
                .configure(hooks::routes)
                .configure(compat::statuspage::routes)
                .configure(compat::inlets::routes)
                .configure(status::subscribe::routes)
                .configure(ui::routes)
                .default_service(web::to(problem::no_such_address)),
        )
}
