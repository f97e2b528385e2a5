//! Another system: an HTTP server on loopback that keeps what it was sent and answers by path.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST /jobs`.
    pub line: String,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

/// The other system. It ends with the test's process.
pub struct Sink {
    /// `http://127.0.0.1:port`.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Sink {
    /// Starts one. `answer` gives the status for a request that came the n-th time, from 1; `None` never answers.
    pub fn start(answer: fn(&str, usize) -> Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &seen, answer));
            }
        });
        Self { url, seen }
    }

    /// What it was sent so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<Seen>>, answer: fn(&str, usize) -> Option<u16>) {
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else { return };
    let line = request.line.clone();
    let nth = {
        let mut all = seen.lock().unwrap();
        all.push(request);
        all.iter().filter(|one| one.line == line).count()
    };
    match answer(&line, nth) {
        Some(status) => {
            let text =
                format!("HTTP/1.1 {status} OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            let _ = (&mut &*stream).write_all(text.as_bytes());
        }
        // Until the other side goes away.
        None => drop(reader.read_to_end(&mut Vec::new())),
    }
}

pub(crate) fn read(reader: &mut BufReader<&TcpStream>) -> Option<Seen> {
    let mut next = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let line = next()?.rsplit_once(' ')?.0.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let text = next()?;
        let Some((name, value)) = text.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line, headers, body: String::from_utf8(body).ok()? })
}
