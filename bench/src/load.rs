//! A bare HTTP client: one request at a time on each of many kept connections.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot go on says where and ends"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request's text.
pub fn request(host: &str, path: &str, token: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nUnleash-Client-Spec: 5.2.0\r\n\
         unleash-appname: bench\r\nunleash-instanceid: bench\r\n{more}\r\n"
    )
}

/// One answer, head and body.
pub async fn once(host: &str, request: &str) -> String {
    String::from_utf8(once_bytes(host, request).await).expect("the answer is text")
}

/// One answer, head and body, as it came.
pub async fn once_bytes(host: &str, request: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(host).await.expect("the server accepts");
    let mut buffer = Vec::new();
    ask(&mut socket, request, &mut buffer).await;
    buffer
}

/// A header of an answer.
pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split_once("\r\n\r\n")?.0;
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// How many answers a second all connections together get.
pub async fn requests_per_second(
    host: &str,
    request: &str,
    connections: usize,
    time: Duration,
) -> f64 {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            let (host, request) = (host.to_owned(), request.to_owned());
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(&host).await.expect("the server accepts");
                let _ = socket.set_nodelay(true);
                let mut buffer = Vec::with_capacity(1 << 20);
                while !stop.load(Ordering::Relaxed) {
                    ask(&mut socket, &request, &mut buffer).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await; // the connections are made
    let (began, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let answers = count.load(Ordering::Relaxed) - before;
    let seconds = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("each connection is answered");
    }
    answers as f64 / seconds
}

/// Asks so many times over one connection; how often each status came.
pub async fn statuses(host: &str, request: &str, times: usize) -> BTreeMap<u16, usize> {
    let mut socket = TcpStream::connect(host).await.expect("the server accepts");
    let (mut buffer, mut seen) = (Vec::with_capacity(1 << 16), BTreeMap::new());
    for _ in 0..times {
        ask(&mut socket, request, &mut buffer).await;
        let line = String::from_utf8_lossy(buffer.get(..12).unwrap_or_default()).into_owned();
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        *seen.entry(status).or_default() += 1;
    }
    seen
}

async fn ask(socket: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) {
    socket.write_all(request.as_bytes()).await.expect("the request is taken");
    buffer.clear();
    let (mut head, mut length) = (None, 0);
    loop {
        let read = socket.read_buf(buffer).await.expect("the answer comes");
        assert!(read > 0, "the server closed the connection");
        if head.is_none()
            && let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let said = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            length = said.and_then(|text| text.parse().ok()).unwrap_or(0);
            head = Some(end + 4);
        }
        if head.is_some_and(|head| buffer.len() >= head + length) {
            return;
        }
    }
}
