//! The client over TLS, with a certificate of one's own and no process-wide provider.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use switchback_sdk::{Context, Switchback};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_tungstenite::tungstenite::Message;

/// For `localhost`, signed by itself, good for a hundred years; protects nothing but this test.
/// Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 36500 -subj
/// /CN=localhost -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost`.
const CERTIFICATE: &[u8] = include_bytes!("support/localhost-certificate.der");
const KEY: &[u8] = include_bytes!("support/localhost-key.der");

#[tokio::test]
async fn follows_over_tls_and_trusts_only_what_it_is_told_to() {
    let certificate = CertificateDer::from(CERTIFICATE);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let client = |roots: Vec<Vec<u8>>| {
        Switchback::builder()
            .url(&url)
            .token("t")
            .root_certificates(roots)
            .ready_timeout(Duration::from_secs(10))
    };

    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let full = json!({"type": "full", "epoch": "e", "environment": "p", "revision": 1,
            "flags": [{"key": "a", "project": "p", "salt": "a", "state": {"enabled": true}}],
            "segments": {}});
        socket.send(Message::text(full.to_string())).await.unwrap();
        socket
    };
    let (flags, socket) = tokio::join!(client(vec![certificate.to_vec()]).build(), serve);
    let flags = flags.unwrap();
    assert!(flags.is_enabled("a", &Context::new()));
    drop((flags, socket));

    let refuse = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.err()
    };
    let build = client(Vec::new()).ready_timeout(Duration::from_millis(500)).build();
    let (flags, refused) = tokio::join!(build, refuse);
    assert!(refused.is_some());
    assert!(!flags.unwrap().status().live);
}
