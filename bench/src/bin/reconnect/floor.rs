//! The floor of a herd: a bare WebSocket server that answers each hello with the same bytes, once.

use futures_util::{SinkExt as _, StreamExt as _};
use switchback_tests::fleet::small_buffers;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// As many connections may wait to be accepted as our server lets wait.
const BACKLOG: u32 = 8_192;

/// Reads the bytes from its input, listens, and serves inside the present runtime until its input ends.
pub fn serve(address: &str) {
    let mut input = std::io::stdin().lines().map_while(Result::ok);
    let frame = Utf8Bytes::from(input.next().expect("the bytes come first"));
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_reuseaddr(true).expect("a socket takes its options");
    socket.bind(address.parse().expect("the address is one")).expect("the port is free");
    let listener = socket.listen(BACKLOG).expect("the socket listens");
    println!("{}", listener.local_addr().expect("it is bound"));
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, frame.clone()));
        }
    });
    // This is the main thread, which serves nobody: it may block.
    input.for_each(drop);
    accepting.abort();
}

async fn answer(socket: TcpStream, frame: Utf8Bytes) {
    let _ = socket.set_nodelay(true);
    let config = Some(small_buffers());
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(socket, config).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        // Whatever follows the hello is an acknowledgement: read, and nothing done with it.
        if text.contains("hello") && socket.send(Message::Text(frame.clone())).await.is_err() {
            return;
        }
    }
}
