//! Signatures of orders, in minisign's format: who may write to the store may not for that reason run
//! code on machines that trust a key.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use minisign_verify::{PublicKey, Signature};

use crate::channel::{Channel, Order};

/// The key whose orders a machine follows.
#[derive(Clone, Debug)]
pub struct TrustedKey(PublicKey);

// === impl TrustedKey ===

impl TrustedKey {
    /// Reads the file of a public key.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(file: &Path) -> io::Result<Self> {
        let explain = |error: &dyn std::error::Error| {
            let file = file.display();
            io::Error::other(format!(
                "--trust {file}: {error}; expected a public key of minisign"
            ))
        };
        let text = fs::read_to_string(file).map_err(|error| explain(&error))?;
        let key = PublicKey::decode(text.trim()).map_err(|error| explain(&error))?;
        Ok(Self(key))
    }

    /// Checks the signature of a channel's order.
    ///
    /// # Errors
    /// The reason for which it must not be followed.
    pub fn check(&self, url: &str, channel: &Channel) -> Result<(), String> {
        let Some(signature) = &channel.signature else {
            return Err("its order is not signed, and --trust is set".to_owned());
        };
        let signature = Signature::decode(signature);
        let checked = signature.and_then(|signature| {
            let statement = statement(url, &channel.order);
            self.0.verify(statement.as_bytes(), &signature, false)
        });
        checked.map_err(|error| format!("the signature of its order: {error}"))
    }
}

/// Signs an order with a command that gets the name of a file, and writes `<file>.minisig`.
///
/// # Errors
/// When the command cannot be run, fails, or writes no such file.
pub fn sign(url: &str, order: &Order, command: &str) -> io::Result<String> {
    let failed = |reason: String| io::Error::other(format!("--sign-with {command:?}: {reason}"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("order");
    fs::write(&file, statement(url, order))?;
    let mut words = command.split_whitespace();
    let program = words
        .next()
        .ok_or_else(|| failed("it is empty".to_owned()))?;
    let status = Command::new(program)
        .args(words)
        .arg(&file)
        .status()
        .map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(status.to_string()));
    }
    fs::read_to_string(folder.path().join("order.minisig")).map_err(|error| {
        failed(format!(
            "it has written no signature beside the file: {error}"
        ))
    })
}

/// Returns the text that is signed. The URL is in it: an order for one channel is none for another.
fn statement(url: &str, order: &Order) -> String {
    let order = serde_json::to_string(order).unwrap_or_default();
    format!("{}\n{order}\n", url.trim_end_matches('/'))
}
