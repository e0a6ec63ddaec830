//! A page in a real browser: Chromium without a window, led by its DevTools protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::spawn;
use crate::client::Connection;
use crate::wait::eventually;
use crate::websocket::{Message, WebSocket};

/// Its name on Debian.
pub const PROGRAM: &str = "chromium";

/// A browser that shows one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    devtools: WebSocket,
    calls: u64,
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Opens a page, which need not have been loaded yet.
    pub fn open(url: &str) -> Self {
        let profile = TempDir::new().expect("a folder");
        let mut command = Command::new(PROGRAM);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-background-networking"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn(&mut command).expect("a browser");
        let port_file = profile.path().join("DevToolsActivePort");
        let port: u16 = eventually(
            || "the browser says where it listens".to_owned(),
            || {
                let said = fs::read_to_string(&port_file).ok()?;
                said.lines().next()?.parse().ok()
            },
        );
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let target = eventually(|| "the browser has a page".to_owned(), || page_of(address));
        let connection = Connection::open(address).expect("the browser");
        let (devtools, _) = WebSocket::open_at(connection, &target, "localhost");
        let mut browser = Self {
            child,
            devtools,
            calls: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Page.navigate", &json!({ "url": url }));
        browser
    }

    /// Returns the value that a JavaScript expression evaluates to in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(result.get("exceptionDetails").is_none(), "{result}");
        result["result"]["value"].clone()
    }

    /// Waits until the text of the first element that `selector` finds has all of this in it.
    #[track_caller]
    pub fn await_shown(&mut self, selector: &str, parts: &[&str]) {
        let selector = json!(selector);
        let text = format!("(document.querySelector({selector}) || {{}}).innerText || ''");
        let last = std::cell::RefCell::new(String::new());
        eventually(
            || format!("{selector} shows {parts:?}; it shows {:?}", last.borrow()),
            || {
                let shown = self.evaluate(&text).as_str().unwrap_or_default().to_owned();
                let has_all = parts.iter().all(|part| shown.contains(part));
                *last.borrow_mut() = shown;
                has_all.then_some(())
            },
        );
    }

    /// Waits until there is an element that `selector` finds.
    #[track_caller]
    pub fn has(&mut self, selector: &str) {
        let found = format!("document.querySelector({}) !== null", json!(selector));
        eventually(
            || format!("the page has {selector}"),
            || (self.evaluate(&found) == true).then_some(()),
        );
    }

    /// Returns the errors and policy violations of the page, as its console says.
    pub fn complaints(&mut self) -> &[String] {
        // Answered after all that was said before.
        self.evaluate("0");
        &self.complaints
    }

    /// Shows the page in a window of this size, in dark colours or in light ones.
    pub fn resize(&mut self, width: u32, height: u32, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Writes what the whole page looks like to a PNG file.
    pub fn picture(&mut self, file: &Path) {
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let clip = json!({
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1,
        });
        let parameters = json!({ "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", &parameters);
        let data = picture["data"].as_str().expect("a picture");
        let data = BASE64_STANDARD.decode(data).expect("base64");
        fs::write(file, data).expect("a picture is written");
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let call = json!({ "id": id, "method": method, "params": parameters });
        self.devtools
            .send(Message::text(call.to_string()))
            .expect("the browser");
        loop {
            let said = self.devtools.receive_text().expect("the browser's answer");
            let said: Value = serde_json::from_str(&said).expect("JSON");
            if said["id"] == id {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].clone();
            }
            if matches!(
                said["method"].as_str(),
                Some("Runtime.exceptionThrown" | "Log.entryAdded")
            ) {
                self.complaints.push(said["params"].to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked, it ends its own children too.
        let _ = self
            .devtools
            .send(Message::text(r#"{"id":0,"method":"Browser.close"}"#));
        while self.devtools.receive().is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of the debugger of its one page.
fn page_of(address: SocketAddr) -> Option<String> {
    let mut connection = Connection::open(address).ok()?;
    let request = "GET /json/list HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.try_write(request.as_bytes()).ok()?;
    let answer = connection.answer().ok()?;
    let pages: Vec<Value> = serde_json::from_slice(&answer.body).ok()?;
    let page = pages.iter().find(|page| page["type"] == "page")?;
    let url = page["webSocketDebuggerUrl"].as_str()?;
    let path = url.find("/devtools/")?;
    Some(url[path..].to_owned())
}
