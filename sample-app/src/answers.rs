//! The app's answers, word for word: it and whoever checks it have it from here.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Returns the receipt of an uploaded body, when its digest and its length in bytes are known.
pub fn receipt(sha256: Sha256, length: u64) -> String {
    let mut json = "{\"digest\":\"sha256:".to_owned();
    for byte in sha256.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(json, "{byte:02x}");
    }
    let _ = write!(json, "\",\"length\":{length}}}");
    json
}

/// Returns the receipt of a body that is there as a whole.
pub fn receipt_of(body: &[u8]) -> String {
    receipt(Sha256::new_with_prefix(body), body.len() as u64)
}

/// The page at `/`, and what comes late from `/slow`.
pub fn home(version: &str) -> String {
    format!("sample-app {version}\n")
}

/// The name of the cookie that `/session` sets.
pub const SESSION: &str = "session";

/// The answer of `/session` to the request of this number in its session.
pub fn session(version: &str, count: u64) -> String {
    format!("request {count} of the session at {version}\n")
}

/// The path of `/page`, which names the script of its release.
pub const PAGE: &str = "/page";

/// The page at `/page`: its script is a file of its release alone, as bundlers make them.
pub fn page(version: &str) -> String {
    let script = asset_path(version);
    format!("<!doctype html><title>sample-app</title><script src=\"{script}\"></script>\n")
}

/// The path of that script: the start of its digest is in the name.
pub fn asset_path(version: &str) -> String {
    let digest = Sha256::digest(asset(version));
    let [a, b, c, d, ..] = digest[..] else {
        unreachable!("a digest has 32 bytes")
    };
    format!("/assets/app-{a:02x}{b:02x}{c:02x}{d:02x}.js")
}

/// The script.
pub fn asset(version: &str) -> String {
    format!("console.log('sample-app {version}');\n")
}

/// One event of a stream of `total`, counted from 1.
pub fn event(number: u64, total: u64, version: &str) -> String {
    format!("id: {number}\ndata: {number} of {total} from {version}\n\n")
}
