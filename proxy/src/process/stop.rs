//! Ways to ask an app to stop (`--stop`).

use std::str::FromStr;

use http::Method;
use http::uri::PathAndQuery;

/// A way to ask an app to stop. One that still runs after `--stop-timeout` is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM. Unix only.
    Term,
    /// Ctrl-Break. Windows only.
    CtrlBreak,
    /// Ctrl-C: SIGINT, or on Windows the console event, in a console of the app's own.
    CtrlC,
    /// A request to the app's own address. A status below 400, or the end of the connection, means
    /// that the app has understood.
    Http {
        /// Method, usually `POST`.
        method: Method,
        /// Path and query.
        path: PathAndQuery,
    },
    /// End of its standard input, which is open until then.
    Stdin,
    /// Immediate kill, without a request.
    Kill,
}

/// A value of `--stop` that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// Unknown word.
    #[error("expected term, ctrl-break, ctrl-c, http:METHOD:/PATH, stdin or kill")]
    Unknown,
    /// `http:` without a valid method and path.
    #[error("expected http:METHOD:/PATH, such as http:POST:/shutdown")]
    Http,
    /// Ctrl-Break on Unix.
    #[error("Ctrl-Break exists on Windows only: use term (SIGTERM) or ctrl-c (SIGINT)")]
    NoCtrlBreak,
    /// SIGTERM on Windows.
    #[error("Windows has no SIGTERM: use ctrl-break, ctrl-c, http:METHOD:/PATH or stdin")]
    NoTerm,
}

/// An operating system, by its ways to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Unix, with signals.
    Unix,
    /// Windows, with console events.
    Windows,
}

// === impl Stop ===

impl Stop {
    /// Parses a value of `--stop` on `system`.
    ///
    /// # Errors
    /// [`StopError`] if it is not a way to stop on that system.
    pub fn parse(text: &str, system: System) -> Result<Self, StopError> {
        let stop = match text {
            "term" => Self::Term,
            "ctrl-break" => Self::CtrlBreak,
            "ctrl-c" => Self::CtrlC,
            "stdin" => Self::Stdin,
            "kill" => Self::Kill,
            _ => {
                let request = text.strip_prefix("http:").ok_or(StopError::Unknown)?;
                let (method, path) = parse_request(request).ok_or(StopError::Http)?;
                Self::Http { method, path }
            }
        };
        match (&stop, system) {
            (Self::CtrlBreak, System::Unix) => Err(StopError::NoCtrlBreak),
            (Self::Term, System::Windows) => Err(StopError::NoTerm),
            _ => Ok(stop),
        }
    }

    /// Returns the default on `system`.
    pub fn default_on(system: System) -> Self {
        match system {
            System::Unix => Self::Term,
            System::Windows => Self::CtrlBreak,
        }
    }
}

impl FromStr for Stop {
    type Err = StopError;

    fn from_str(text: &str) -> Result<Self, StopError> {
        Self::parse(text, System::HERE)
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::default_on(System::HERE)
    }
}

// === impl System ===

impl System {
    /// System that this program is built for.
    pub const HERE: Self = if cfg!(windows) {
        Self::Windows
    } else {
        Self::Unix
    };
}

/// Parses `METHOD:/PATH`.
pub(super) fn parse_request(request: &str) -> Option<(Method, PathAndQuery)> {
    let (method, path) = request.split_once(':')?;
    // Methods are case-sensitive, and `post` is hardly meant as an app's own method.
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !path.starts_with('/') {
        return None;
    }
    let method = method.parse().ok().filter(|m| *m != Method::CONNECT)?;
    Some((method, path.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Stop, StopError> {
        Stop::parse(text, System::Unix)
    }

    #[test]
    fn every_way_has_its_word() {
        assert_eq!(parse("term"), Ok(Stop::Term));
        assert_eq!(parse("ctrl-c"), Ok(Stop::CtrlC));
        assert_eq!(parse("stdin"), Ok(Stop::Stdin));
        assert_eq!(parse("kill"), Ok(Stop::Kill));
        let stop = Stop::parse("ctrl-break", System::Windows);
        assert_eq!(stop, Ok(Stop::CtrlBreak));
        let Ok(Stop::Http { method, path }) = parse("http:POST:/admin/stop?now=1:2") else {
            panic!("it is a request");
        };
        assert_eq!(
            (method, path.as_str()),
            (Method::POST, "/admin/stop?now=1:2")
        );
    }

    #[test]
    fn what_the_system_does_not_have_is_refused_with_what_it_has() {
        assert_eq!(parse("ctrl-break"), Err(StopError::NoCtrlBreak));
        let term = Stop::parse("term", System::Windows);
        assert_eq!(term, Err(StopError::NoTerm));
        for system in [System::Unix, System::Windows] {
            let default = match system {
                System::Unix => "term",
                System::Windows => "ctrl-break",
            };
            assert_eq!(
                Stop::parse(default, system),
                Ok(Stop::default_on(system)),
                "{system:?}"
            );
        }
    }

    #[test]
    fn what_is_no_way_to_stop_is_refused() {
        for word in ["", "TERM", "sigterm", "https:POST:/x", "http"] {
            assert_eq!(parse(word), Err(StopError::Unknown), "{word:?}");
        }
        for request in [
            "",
            "POST",
            "/x",
            "POST:",
            "POST:x",
            ":/x",
            "post:/x",
            "PO ST:/x",
            "POST:/a b",
            "CONNECT:/x",
        ] {
            let text = format!("http:{request}");
            assert_eq!(parse(&text), Err(StopError::Http), "{text:?}");
        }
    }
}
