//! The floor: what a bare broadcast over WebSockets costs, with the same library as the clients', small
//! buffers, one task per socket and nothing else. It sends each line of its input to everybody.
#![expect(clippy::print_stdout, reason = "its output is read by the process that started it")]
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on says where and ends"
)]

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Serves until its input ends.
pub async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let (sender, receiver) = watch::channel(Utf8Bytes::default());
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(follow(socket, receiver.clone()));
        }
    });
    // This is the main thread, which serves nobody: it may block.
    for line in std::io::stdin().lines().map_while(Result::ok) {
        sender.send_replace(line.into());
    }
    accepting.abort();
}

async fn follow(socket: TcpStream, mut news: watch::Receiver<Utf8Bytes>) {
    let config = Some(switchback_tests::fleet::small_buffers());
    let _ = socket.set_nodelay(true);
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(socket, config).await else {
        return;
    };
    news.mark_unchanged();
    loop {
        tokio::select! {
            changed = news.changed() => {
                let text = news.borrow_and_update().clone();
                if changed.is_err() || socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                // The hello is answered, so that a client knows that it is in.
                Some(Ok(Message::Text(text))) if text.contains("hello") => {
                    let full = Utf8Bytes::from_static("{\"type\":\"full\",\"epoch\":\"floor\"}");
                    if socket.send(Message::Text(full)).await.is_err() {
                        return;
                    }
                }
                Some(Ok(_)) => {} // an acknowledgement: read, and nothing done with it
                _ => return,
            }
        }
    }
}
