//! A headless Chromium, driven through chromedriver.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use thirtyfour::prelude::*;

use crate::server::{EMAIL, PASSWORD, Server};
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
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/node_modules/axe-core/axe.min.js");

/// A browser window with a profile of its own.
pub struct Browser {
    driver: Child,
    /// The window.
    pub window: WebDriver,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether the person prefers dark pages.
    pub dark: bool,
}

/// A desk, light.
pub const WIDE: Look = Look { width: 1280, height: 900, dark: false };
/// A phone, dark.
pub const NARROW_DARK: Look = Look { width: 390, height: 844, dark: true };

impl Browser {
    /// Starts a browser.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
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
            WebDriver::new(&url, capabilities).await.ok()
        })
        .await;
        let browser = Self { driver, window };
        browser.look(WIDE).await;
        browser
    }

    /// Changes the window's size and the person's preference.
    pub async fn look(&self, look: Look) {
        let tools = self.window.cdp();
        let Look { width, height, dark } = look;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        tools.send_raw("Emulation.setDeviceMetricsOverride", size).await.unwrap();
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        tools.send_raw("Emulation.setEmulatedMedia", media).await.unwrap();
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.window.goto(url).await.unwrap();
    }

    /// Signs in as the first administrator.
    pub async fn sign_in(&self, server: &Server) {
        self.open(&format!("{}/sign-in", server.url)).await;
        self.fill("[name=email]", EMAIL).await;
        self.fill("[name=password]", PASSWORD).await;
        self.click("#sign-in button").await;
        self.see("nav.rail", "Overview").await;
    }

    /// The first element that matches, once there is one.
    pub async fn find(&self, css: &str) -> WebElement {
        let what = format!("an element {css}");
        eventually(&what, || async { self.window.find(By::Css(css)).await.ok() }).await
    }

    /// Replaces a field's text.
    pub async fn fill(&self, css: &str, text: &str) {
        let what = format!("typing into {css}");
        eventually(&what, || async {
            let field = self.window.find(By::Css(css)).await.ok()?;
            field.clear().await.ok()?;
            field.send_keys(text).await.ok()
        })
        .await;
    }

    /// The left arrow key, on an element that takes keys.
    pub async fn press_left(&self, css: &str) {
        self.find(css).await.send_keys(Key::Left + "").await.unwrap();
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        self.window.action_chain().send_keys(keys).perform().await.unwrap();
    }

    /// What a script of the page returns.
    pub async fn ask(&self, script: &str) -> Value {
        self.window.execute(script, vec![]).await.unwrap().json().clone()
    }

    /// Waits until a script of the page returns this.
    pub async fn becomes(&self, script: &str, wanted: &str) {
        let what = format!("`{wanted}` from {script}");
        eventually(&what, || async { (self.ask(script).await == wanted).then_some(()) }).await;
    }

    /// Clicks, once the element is there and can be clicked.
    pub async fn click(&self, css: &str) {
        let what = format!("a click on {css}");
        eventually(&what, || async {
            self.window.find(By::Css(css)).await.ok()?.click().await.ok()
        })
        .await;
    }

    /// Presses an element until its text or the page changes: `done` is asked meanwhile.
    pub async fn hold_until(&self, css: &str, address_part: &str) {
        let element = self.find(css).await;
        element.scroll_into_view().await.unwrap();
        self.window.action_chain().click_and_hold_element(&element).perform().await.unwrap();
        let what = format!("an address with {address_part}");
        eventually(&what, || async {
            let url = self.window.current_url().await.ok()?;
            url.as_str().contains(address_part).then_some(())
        })
        .await;
        let _ = self.window.action_chain().release().perform().await;
    }

    /// Presses an element until another one holds a text.
    pub async fn hold_and_see(&self, css: &str, seen: &str, text: &str) {
        let element = self.find(css).await;
        element.scroll_into_view().await.unwrap();
        self.window.action_chain().click_and_hold_element(&element).perform().await.unwrap();
        self.see(seen, text).await;
        let _ = self.window.action_chain().release().perform().await;
    }

    /// Drags one element onto another with the mouse.
    pub async fn drag(&self, from: &str, to: &str) {
        let (from, to) = (self.find(from).await, self.find(to).await);
        from.scroll_into_view().await.unwrap();
        self.window.action_chain().drag_and_drop_element(&from, &to).perform().await.unwrap();
    }

    /// Waits until an element holds a text.
    pub async fn see(&self, css: &str, text: &str) {
        let what = format!("`{text}` in {css}");
        eventually(&what, || async {
            let element = self.window.find(By::Css(css)).await.ok()?;
            element.text().await.ok()?.contains(text).then_some(())
        })
        .await;
    }

    /// What the accessibility checker finds on this page; empty is good.
    pub async fn violations(&self) -> Vec<String> {
        let axe =
            std::fs::read_to_string(AXE).expect("axe-core: run the tests with `cargo xtask test`");
        self.window.execute(format!("{axe}; window.axe = axe;"), vec![]).await.unwrap();
        let run = "const done = arguments[0]; axe.run().then(r => done(r.violations), e => done([{id: String(e), nodes: []}]));";
        let found = self.window.execute_async(run, vec![]).await.unwrap();
        let found: Vec<Value> = found.convert().unwrap();
        let line = |one: &Value| {
            let nodes = one["nodes"].as_array().into_iter().flatten();
            let places: Vec<String> = nodes.map(|node| node["html"].to_string()).take(3).collect();
            format!("{}: {}", one["id"], places.join(" | "))
        };
        found.iter().map(line).collect()
    }

    /// Writes a picture of the window.
    pub async fn shoot(&self, file: &Path) {
        self.window.screenshot(file).await.unwrap();
    }

    /// Ends the browser.
    pub async fn quit(self) {
        let _ = self.window.clone().quit().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: the driver then ends its browser too.
        let _ = Command::new("kill").args(["-TERM", &self.driver.id().to_string()]).status();
        let _ = self.driver.wait();
    }
}
