//! A mail server: takes what it is sent over SMTP on loopback and keeps it. It refuses recipients whose address says `refused`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A mail as it came.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom the envelope names.
    pub to: Vec<String>,
    /// Headers and body.
    pub data: String,
}

impl Mail {
    /// A header's value, its lines joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.data.split_once("\r\n\r\n")?;
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// The mail server. It ends with the test's process.
pub struct MailSink {
    /// `smtp://127.0.0.1:port`.
    pub url: String,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl MailSink {
    /// Starts one that takes this long for each mail.
    pub fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let shared = Arc::clone(&mails);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mails = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &mails, takes));
            }
        });
        Self { url, mails }
    }

    /// How many it took so far.
    pub fn count(&self) -> usize {
        self.mails.lock().unwrap().len()
    }

    /// What it took so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, mails: &Mutex<Vec<Mail>>, takes: Duration) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let say = |text: &str| (&mut &*stream).write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 sink")?;
    let mut to = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "EHLO" | "HELO" => say("250 sink")?,
            "RCPT" if line.contains("refused") => say("550 5.1.1 no such mailbox")?,
            "RCPT" => {
                let (_, rest) = line.split_once('<')?;
                to.push(rest.split('>').next()?.to_owned());
                say("250 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                let data = read_data(&mut reader)?;
                std::thread::park_timeout(takes); // as slow as a mail server is
                // Kept before it is acknowledged, as a real one does.
                mails.lock().unwrap().push(Mail { to: std::mem::take(&mut to), data });
                say("250 taken")?;
            }
            "RSET" => {
                to.clear();
                say("250 ok")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return Some(());
            }
            _ => say("250 ok")?,
        }
    }
}

fn read_data(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(data);
        }
        data.push_str(line.strip_prefix("..").map_or(line.as_str(), |_| &line[1..]));
    }
}
