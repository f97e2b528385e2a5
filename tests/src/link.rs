//! A way to a database that can be cut and mended while a server uses it.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A port of loopback that leads to another. While it is cut nothing gets through, old connections neither.
pub struct Link {
    is_cut: Arc<watch::Sender<bool>>,
    /// `127.0.0.1:port`.
    pub address: String,
}

impl Link {
    /// Leads to `host:port`.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_cut = Arc::new(watch::Sender::new(false));
        let (target, state) = (target.to_owned(), Arc::clone(&is_cut));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.subscribe());
                tokio::spawn(async move {
                    if *state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut server) = TcpStream::connect(&target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Self { is_cut, address }
    }

    /// Drops every connection, and each new one.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets new connections through.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}
