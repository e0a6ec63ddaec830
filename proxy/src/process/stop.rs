//! The ways to ask an app to stop (`--stop`).

use std::str::FromStr;

use http::Method;
use http::uri::PathAndQuery;

/// How an app is asked to stop. What does not by `--stop-timeout` is killed, whatever the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM. Unix only.
    Term,
    /// Ctrl-Break. Windows only.
    CtrlBreak,
    /// Ctrl-C: SIGINT, or on Windows the console event, in a console of the app's own.
    CtrlC,
    /// A request to the app's own address. An answer below 400, or the connection's end, says that
    /// it was understood.
    Http {
        /// `POST`, as a rule.
        method: Method,
        /// Where to.
        path: PathAndQuery,
    },
    /// The end of its standard input, which is open until then.
    Stdin,
    /// Not at all: it is killed at once.
    Kill,
}

/// Why a way to stop is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// It is not among the words.
    #[error("expected term, ctrl-break, ctrl-c, http:METHOD:/PATH, stdin or kill")]
    Unknown,
    /// What follows `http:` is no method and path.
    #[error("expected http:METHOD:/PATH, such as http:POST:/shutdown")]
    Http,
    /// Unix has no such thing.
    #[error("Ctrl-Break exists on Windows only: use term (SIGTERM) or ctrl-c (SIGINT)")]
    NoCtrlBreak,
    /// Windows has no such thing.
    #[error("Windows has no SIGTERM: use ctrl-break, ctrl-c, http:METHOD:/PATH or stdin")]
    NoTerm,
}

/// Which of them there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Signals.
    Unix,
    /// Console events.
    Windows,
}

// === impl Stop ===

impl Stop {
    /// Reads `--stop` as it is meant on `system`.
    ///
    /// # Errors
    /// [`StopError`], when it is none of the ways that there are.
    pub fn parse(text: &str, system: System) -> Result<Self, StopError> {
        let stop = match text {
            "term" => Self::Term,
            "ctrl-break" => Self::CtrlBreak,
            "ctrl-c" => Self::CtrlC,
            "stdin" => Self::Stdin,
            "kill" => Self::Kill,
            _ => {
                let request = text.strip_prefix("http:").ok_or(StopError::Unknown)?;
                http(request).ok_or(StopError::Http)?
            }
        };
        match (&stop, system) {
            (Self::CtrlBreak, System::Unix) => Err(StopError::NoCtrlBreak),
            (Self::Term, System::Windows) => Err(StopError::NoTerm),
            _ => Ok(stop),
        }
    }

    /// What is customary on `system`.
    pub fn customary(system: System) -> Self {
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
        Self::customary(System::HERE)
    }
}

// === impl System ===

impl System {
    /// The one that this program is built for.
    pub const HERE: Self = if cfg!(windows) {
        Self::Windows
    } else {
        Self::Unix
    };
}

/// `METHOD:/PATH`.
fn http(request: &str) -> Option<Stop> {
    let (method, path) = request.split_once(':')?;
    // Methods are case-sensitive, and a method of an app's own is hardly meant by `post`.
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !path.starts_with('/') {
        return None;
    }
    let method = method.parse().ok().filter(|m| *m != Method::CONNECT)?;
    let path = path.parse().ok()?;
    Some(Stop::Http { method, path })
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
            let customary = match system {
                System::Unix => "term",
                System::Windows => "ctrl-break",
            };
            assert_eq!(
                Stop::parse(customary, system),
                Ok(Stop::customary(system)),
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
