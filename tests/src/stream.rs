//! A bare client of the stream: it sees every frame.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use switchback_core::wire::{ClientFrame, Hello, ServerFrame};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const FRAME_WITHIN: Duration = Duration::from_secs(10);

/// An open stream.
pub struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    /// Opens a socket with a token; the error is the handshake's.
    pub async fn open(url: &str, token: &str) -> Result<Self, Error> {
        let address = url.replace("http://", "ws://");
        let mut request = format!("{address}/api/v1/stream").into_client_request().unwrap();
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self(socket))
    }

    /// Opens a socket and says hello.
    pub async fn connect(url: &str, token: &str, hello: Hello) -> Self {
        let mut stream = Self::open(url, token).await.unwrap();
        stream.send(ClientFrame::Hello(hello)).await;
        stream
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: ClientFrame) {
        let text = serde_json::to_string(&frame).unwrap();
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next frame, as text; `None` when the server has closed.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            let next = timeout(FRAME_WITHIN, self.0.next()).await.expect("a frame within 10 s");
            match next {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        Some(serde_json::from_str(&self.text().await?).unwrap())
    }

    /// The next frame that is no heartbeat.
    pub async fn news(&mut self) -> ServerFrame {
        loop {
            match self.next().await.expect("the stream goes on") {
                ServerFrame::Heartbeat { .. } => {}
                frame => return frame,
            }
        }
    }

    /// The next frame as JSON.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await.expect("the stream goes on")).unwrap()
    }
}

/// A plain hello.
pub fn hello(app: &str) -> Hello {
    Hello { app: app.to_owned(), sdk: "test/1".to_owned(), ..Hello::default() }
}
