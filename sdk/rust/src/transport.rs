//! The WebSocket to the server: address, token, TLS, small buffers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use crate::builder::BuildError;

/// How long connecting and shaking hands may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of each buffer of a connection; tungstenite's default of 128 KiB is for bulk.
const BUFFER_BYTES: usize = 8 * 1024;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A secret: nothing prints it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Token(Arc<str>);

impl Token {
    pub(crate) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the header and for hashing.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the server refuses the token ({0})")]
    Refused(StatusCode),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the server did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot connect: {0}")]
    Other(#[source] Box<tungstenite::Error>),
}

/// Where to connect, and how.
#[derive(Clone)]
pub(crate) struct Endpoint {
    uri: Uri,
    token: Token,
    connector: Connector,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Endpoint").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(url: &str, token: Token, roots: &[Vec<u8>]) -> Result<Self, BuildError> {
        let is_token = |byte: u8| byte.is_ascii_graphic();
        if token.text().is_empty() || !token.text().bytes().all(is_token) {
            return Err(BuildError::Token);
        }
        let uri = stream_uri(url).map_err(|reason| {
            let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
            BuildError::Url { url: shown.to_owned(), reason }
        })?;
        let connector = if uri.scheme_str() == Some("wss") {
            Connector::Rustls(Arc::new(tls(roots)?))
        } else {
            Connector::Plain
        };
        Ok(Self { uri, token, connector })
    }

    pub(crate) async fn connect(&self) -> Result<Socket, ConnectError> {
        let request = ClientRequestBuilder::new(self.uri.clone())
            .with_header("Authorization", format!("Bearer {}", self.token.text()));
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES);
        let connecting = tokio_tungstenite::connect_async_tls_with_config(
            request,
            Some(config),
            true, // acknowledgements are small and must not wait for more
            Some(self.connector.clone()),
        );
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Err(_) => Err(ConnectError::Timeout),
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => match response.status() {
                refused @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    Err(ConnectError::Refused(refused))
                }
                status => Err(ConnectError::Status(status)),
            },
            Ok(Err(error)) => Err(ConnectError::Other(Box::new(error))),
        }
    }
}

fn stream_uri(url: &str) -> Result<Uri, &'static str> {
    let (scheme, rest) = url.trim().split_once("://").ok_or("it has no scheme")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err("the scheme must be http, https, ws or wss"),
    };
    if rest.contains(['?', '#']) {
        return Err("it must end with the host or a path");
    }
    let uri: Uri = format!("{scheme}://{}/api/v1/stream", rest.trim_end_matches('/'))
        .parse()
        .map_err(|_| "it cannot be read")?;
    match (uri.host(), uri.authority()) {
        (None | Some(""), _) => Err("it has no host"),
        (_, Some(authority)) if authority.as_str().contains('@') => {
            Err("it must not hold a user name or password")
        }
        _ => Ok(uri),
    }
}

/// The provider is named: the process-wide one belongs to the app, and there may be two.
fn tls(roots: &[Vec<u8>]) -> Result<ClientConfig, BuildError> {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, der) in roots.iter().enumerate() {
        store
            .add(CertificateDer::from(der.clone()))
            .map_err(|_| BuildError::Certificate { index })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| BuildError::Url { url: String::new(), reason: "TLS is not available" })?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_the_stream() {
        let of = |url| stream_uri(url).map(|uri| uri.to_string());

        assert_eq!(of("http://127.0.0.1:8080").unwrap(), "ws://127.0.0.1:8080/api/v1/stream");
        assert_eq!(of("HTTPS://f.example/x/").unwrap(), "wss://f.example/x/api/v1/stream");
        for wrong in
            ["", "localhost:8080", "ftp://h", "http://", "http://u:p@h", "http://h?x", "http://a b"]
        {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let endpoint = |url: &str, token: &str| Endpoint::new(url, Token::new(token.into()), &[]);

        let good = endpoint("https://localhost", "sb-secret").unwrap();
        assert!(!format!("{good:?} {:?}", good.token).contains("sb-secret"));
        let bad = endpoint("http://me:secret@localhost", "t").unwrap_err();
        assert!(!bad.to_string().contains("secret"), "{bad}");
        assert_eq!(endpoint("http://localhost", "a b").unwrap_err(), BuildError::Token);
    }
}
