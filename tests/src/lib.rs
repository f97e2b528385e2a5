//! What the tests share: a real server process on a database of its own, an API client, a bare
//! stream client, a fleet of light ones, a browser. `cargo xtask test` provides the PostgreSQL.

pub mod api;
pub mod backend;
pub mod browser;
pub mod fleet;
pub mod foreign;
pub mod instatus;
pub mod interrupt;
pub mod link;
pub mod mail;
pub mod mail_server;
pub mod people;
pub mod server;
pub mod shop;
pub mod sink;
pub mod stream;
pub mod wait;

pub use api::Api;
pub use backend::Backend;
pub use instatus::Instatus;
pub use mail::MailSink;
pub use mail_server::MailServer;
pub use server::Server;
pub use sink::Sink;
pub use stream::Stream;
pub use wait::eventually;

/// Declares tests that run on SQLite and on PostgreSQL, each with a fresh database.
#[macro_export]
macro_rules! on_both {
    ($($(#[doc = $doc:literal])* async fn $name:ident($backend:ident: Backend) $body:block)*) => {
        $(
            $(#[doc = $doc])*
            mod $name {
                use super::*;

                async fn run($backend: $crate::Backend) $body

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn sqlite() {
                    run($crate::Backend::sqlite()).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn postgres() {
                    run($crate::Backend::postgres().await).await;
                }
            }
        )*
    };
}
