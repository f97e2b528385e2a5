//! A headless Chromium, driven through chromedriver.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use thirtyfour::prelude::*;

use crate::wait::eventually;

/// Flags that keep the browser off the network and out of the way.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
];

/// A browser window with a profile of its own.
pub struct Browser {
    driver: Child,
    /// The window.
    pub window: WebDriver,
}

impl Browser {
    /// Starts a browser; `dark` prefers dark pages.
    pub async fn start(width: u32, height: u32, dark: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: run the tests with `cargo xtask test`, which installs it");
        let url = format!("http://127.0.0.1:{port}");
        let window = eventually("a browser", || async {
            let mut capabilities = DesiredCapabilities::chrome();
            for flag in FLAGS {
                capabilities.add_arg(flag).unwrap();
            }
            capabilities.add_arg(&format!("--window-size={width},{height}")).unwrap();
            if dark {
                capabilities.add_arg("--force-dark-mode").unwrap();
                capabilities.add_arg("--enable-features=WebContentsForceDark").unwrap();
            }
            WebDriver::new(&url, capabilities).await.ok()
        })
        .await;
        Self { driver, window }
    }

    /// Ends the browser.
    pub async fn quit(mut self) {
        let _ = self.window.clone().quit().await;
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
