//! A way between a client and a server on which something happens just before the first change gets through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Starts one; `before` runs once, before the first request that is no `GET`. Returns its URL.
pub async fn before_first_change<F: Future<Output = ()> + Send + 'static>(
    server: &str,
    before: impl Fn() -> F + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (server, before) = (server.to_owned(), Arc::new(before));
    let is_done = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&server).await.unwrap();
            let (before, is_done) = (Arc::clone(&before), Arc::clone(&is_done));
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let asked = async {
                    let mut bytes = vec![0; 64 * 1024];
                    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                        let part = &bytes[..count];
                        let is_change = ["PUT ", "POST ", "PATCH ", "DELETE "].map(str::as_bytes);
                        if is_change.iter().any(|method| part.starts_with(method))
                            && !is_done.swap(true, Ordering::SeqCst)
                        {
                            before().await;
                        }
                        if to_server.write_all(part).await.is_err() {
                            break;
                        }
                    }
                    let _ = to_server.shutdown().await;
                };
                let answered = async {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                };
                tokio::join!(asked, answered);
            });
        }
    });
    url
}
