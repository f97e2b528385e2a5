//! A small server for tests: accepts, says what it is told to say, keeps what it hears.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use switchback_sdk::{Builder, Switchback};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;

/// Everything in these tests happens within this time, or the test fails.
pub const SOON: Duration = Duration::from_secs(10);

pub struct Server {
    listener: TcpListener,
}

/// One connection, seen from the server.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub authorization: String,
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    pub fn client(&self) -> Builder {
        client(&self.url())
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.unwrap().unwrap();
        let mut authorization = String::new();
        let look = |request: &Request, response: Response| {
            assert_eq!(request.uri().path(), "/api/v1/stream");
            request.headers()["authorization"].to_str().unwrap().clone_into(&mut authorization);
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap();
        Peer { socket, authorization }
    }

    /// Accepts, and never says a word.
    pub async fn accept_silently(&self) -> TcpStream {
        timeout(SOON, self.listener.accept()).await.unwrap().unwrap().0
    }

    pub async fn refuse(&self, status: StatusCode) {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.unwrap().unwrap();
        let refuse = |_: &Request, _: Response| {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = status;
            Err(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, refuse).await.unwrap_err();
    }

    /// Accepts, reads the hello and sends a document at revision 1.
    pub async fn serve(&self, flags: Value) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.hear().await["type"], "hello");
        peer.say(full("e1", 1, flags)).await;
        assert_eq!(peer.hear().await, ack("e1", 1));
        peer
    }
}

impl Peer {
    pub async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub async fn ping(&mut self) {
        self.socket.send(Message::Ping("are you there?".into())).await.unwrap();
        loop {
            let message = timeout(SOON, self.socket.next()).await.unwrap().unwrap().unwrap();
            if let Message::Pong(payload) = message {
                return assert_eq!(&payload[..], b"are you there?");
            }
        }
    }

    /// The next frame of the client.
    pub async fn hear(&mut self) -> Value {
        loop {
            let message = timeout(SOON, self.socket.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next acknowledgement; reports may come before it.
    pub async fn hear_ack(&mut self) -> Value {
        loop {
            let frame = self.hear().await;
            if frame["type"] == "ack" {
                return frame;
            }
        }
    }

    /// Waits until the client has gone.
    pub async fn hear_the_end(&mut self) {
        while let Ok(Some(Ok(_))) = timeout(SOON, self.socket.next()).await {}
    }
}

pub fn client(url: &str) -> Builder {
    Switchback::builder()
        .url(url)
        .token("sb-token")
        .app("shop")
        .instance("one")
        .ready_timeout(SOON)
        .report_every(Duration::from_millis(100))
}

pub fn flag(key: &str, enabled: bool) -> Value {
    json!({"key": key, "project": "p", "salt": key, "state": {"enabled": enabled}})
}

pub fn full(epoch: &str, revision: u64, flags: Value) -> Value {
    json!({"type": "full", "epoch": epoch, "environment": "production", "revision": revision,
        "flags": flags, "segments": {}})
}

pub fn delta(from: u64, to: u64, flags: Value) -> Value {
    json!({"type": "delta", "epoch": "e1", "from": from, "to": to, "flags": flags})
}

pub fn ack(epoch: &str, revision: u64) -> Value {
    json!({"type": "ack", "epoch": epoch, "revision": revision})
}

/// Waits until `what` holds, looking again at every tick of a short clock.
pub async fn until(what: impl Fn() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !what() {
            tick.tick().await;
        }
    };
    timeout(SOON, waiting).await.expect("it never came to be");
}
