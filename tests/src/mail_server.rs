//! A real mail server (aiosmtpd) on loopback, whose letters Python's own parser reads.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Who signs in at it when it speaks TLS, as it stands in an address.
const SIGN_IN: &str = "switchback:hush%20%26%20hush%2F1";

/// The mail server. It ends with this value.
pub struct MailServer {
    /// Where it is: `127.0.0.1:port`, which is `localhost` too.
    pub port: u16,
    process: Child,
    letters: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    /// Starts one that takes anybody's letters in the clear.
    pub fn start() -> Self {
        Self::run(&[])
    }

    /// Starts one that takes letters only over TLS (STARTTLS), and only after a sign-in.
    pub fn start_with_tls() -> Self {
        Self::run(&[support("localhost-certificate.der"), support("localhost-key.der")])
    }

    fn run(arguments: &[PathBuf]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mail");
        let mut process = Command::new(folder.join(".venv/bin/python"))
            .arg(folder.join("serve.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("aiosmtpd: run the tests with `cargo xtask test`, which installs it");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().expect("it says its port").unwrap().parse().unwrap();
        let letters: Arc<Mutex<Vec<Value>>> = Arc::default();
        let shared = Arc::clone(&letters);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shared.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { port, process, letters }
    }

    /// `mail.url` for one that was started in the clear.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// `mail.url` for one that was started with TLS.
    pub fn url_with_tls(&self) -> String {
        format!("smtp://{SIGN_IN}@localhost:{}?tls=required", self.port)
    }

    /// The letters that it took so far, as they were read.
    pub fn letters(&self) -> Vec<Value> {
        self.letters.lock().unwrap().clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The authority that the mail server's certificate is from, as a PEM file for `mail.ca_file`.
pub fn authority(folder: &Path) -> PathBuf {
    let text = STANDARD.encode(std::fs::read(support("localhost-certificate.der")).unwrap());
    let path = folder.join("mail-authority.pem");
    std::fs::write(
        &path,
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
    )
    .unwrap();
    path
}

/// The certificate and the key that the Rust SDK's own test serves with.
fn support(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/rust/tests/support").join(name)
}
