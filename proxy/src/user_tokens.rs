//! Handlers of users' Windows tokens (`--windows-auth`): they join the data plane, which finds
//! tokens in requests, with the process seam, which knows their meaning.

use std::sync::Arc;

use http::HeaderValue;
use parking_lot::Mutex;

use crate::data_plane::{UserToken, UserTokens};
use crate::process::access_token::{AccessToken, Recipient};
use crate::process::command::Roots;
use crate::release::Generation;
use crate::router::Upstream;

/// Treatment of users' tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowsAuth {
    /// Tokens are ignored and stay open; the fields that name them are removed.
    Off,
    /// Tokens are closed.
    Close,
    /// Tokens are passed on to the app.
    Forward,
}

/// Closes each token when its request ends.
#[derive(Debug)]
struct CloseTokens;

/// Duplicates each token into the process of the app that serves its request.
#[derive(Debug)]
struct ForwardTokens(Arc<Recipients>);

/// The processes of the apps.
#[derive(Debug)]
struct Recipients {
    roots: Roots,
    last: Mutex<Option<LastRecipient>>,
}

/// The app that was to get a token last.
#[derive(Clone, Debug)]
struct LastRecipient {
    generation: Generation,
    /// The process; `None` if it could not be opened.
    process: Option<Arc<Recipient>>,
}

struct ClosedToken {
    _token: AccessToken,
}

struct ForwardedToken {
    token: AccessToken,
    recipients: Arc<Recipients>,
}

/// Returns the handler of users' tokens; `None` if they are ignored.
pub fn handler(windows_auth: WindowsAuth, roots: Roots) -> Option<Arc<dyn UserTokens>> {
    match windows_auth {
        WindowsAuth::Off => None,
        WindowsAuth::Close => Some(Arc::new(CloseTokens)),
        WindowsAuth::Forward => Some(Arc::new(ForwardTokens(Arc::new(Recipients {
            roots,
            last: Mutex::default(),
        })))),
    }
}

// === impl CloseTokens ===

impl UserTokens for CloseTokens {
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>> {
        let token = AccessToken::take(value.as_bytes())?;
        Some(Box::new(ClosedToken { _token: token }))
    }
}

impl UserToken for ClosedToken {
    fn for_app(&self, _: &Upstream) -> Option<HeaderValue> {
        None
    }
}

// === impl ForwardTokens ===

impl UserTokens for ForwardTokens {
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>> {
        let token = AccessToken::take(value.as_bytes())?;
        let recipients = Arc::clone(&self.0);
        Some(Box::new(ForwardedToken { token, recipients }))
    }
}

impl UserToken for ForwardedToken {
    fn for_app(&self, upstream: &Upstream) -> Option<HeaderValue> {
        let app = self.recipients.process_of(upstream)?;
        match self.token.give_to(&app) {
            Ok(handle) => HeaderValue::try_from(handle).ok(),
            Err(error) => {
                let generation = upstream.generation;
                tracing::debug!(
                    event = "user_token_lost",
                    generation = generation.0, %error, "a user's token could not be passed on to the app"
                );
                None
            }
        }
    }
}

// === impl Recipients ===

impl Recipients {
    /// Returns the app's process. It is opened once per generation.
    fn process_of(&self, upstream: &Upstream) -> Option<Arc<Recipient>> {
        let mut last = self.last.lock();
        let generation = upstream.generation;
        if let Some(app) = last.as_ref().filter(|app| app.generation == generation) {
            return app.process.clone();
        }
        let process = Recipient::open(self.roots.of(generation)?).inspect_err(|error| {
            tracing::warn!(
                event = "user_tokens_unavailable",
                generation = generation.0, %error, "users' tokens cannot be passed on to the app"
            );
        });
        let process = process.ok().map(Arc::new);
        *last = Some(LastRecipient {
            generation,
            process: process.clone(),
        });
        process
    }
}
