//! The process manager that has started handoff, as its variables describe it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigError, ShutdownSettings};
use crate::cli::Run;
use crate::cli::run::Switch;
use crate::cli::words::word;
use crate::data_plane::ShutdownRequest;
use crate::user_tokens::WindowsAuth;

const DEFAULT_PORT: u16 = 8080;
/// Variable with the port to listen on. Its presence shows that there is a platform.
const PORT: &str = "HTTP_PLATFORM_PORT";
/// Variables with the token of genuine shutdown requests: of HttpPlatformHandler, and of ASP.NET
/// Core's module.
const TOKENS: [&str; 2] = ["HTTP_PLATFORM_TOKEN", "ASPNETCORE_TOKEN"];
/// Variables with the application's path within the site.
const PATHS: [&str; 2] = ["HTTP_PLATFORM_APPL_PATH", "ASPNETCORE_APPL_PATH"];
/// The module watches the processes that it finds in its job when it sees the port open, and a later
/// end of one of them can blind it to ours. It looks every quarter of a second.
const FIRST_LAUNCH_DELAY: Duration = Duration::from_secs(5);
/// HttpPlatformHandler v2 and ASP.NET Core's module kill ten seconds after their shutdown request.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);
const SHUTDOWN_TIMEOUT_ELSEWHERE: Duration = Duration::from_secs(40);

/// HttpPlatformHandler or ASP.NET Core's module, if one of them has started this process.
pub(super) struct Platform<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

// === impl Platform ===

impl<'a> Platform<'a> {
    /// Reads the environment with `variable`.
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { variable }
    }

    fn is_present(&self) -> bool {
        (self.variable)(PORT).is_some()
    }

    /// Returns the public address: by default, the platform's port.
    pub(super) fn listen(&self, run: &Run) -> Result<SocketAddr, ConfigError> {
        if let Some(listen) = run.clients.listen {
            return Ok(listen);
        }
        let port = match (self.variable)(PORT) {
            None => DEFAULT_PORT,
            Some(port) => port.parse().map_err(|_| ConfigError::Value {
                key: PORT.into(),
                value: port,
                expected: "a port number, as HttpPlatformHandler sets it",
            })?,
        };
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Returns the request by which the platform ends this process.
    pub(super) fn shutdown_request(&self) -> Option<ShutdownRequest> {
        let first_of = |names: [&str; 2]| {
            let mut values = names.into_iter().filter_map(self.variable);
            values.find(|value| !value.is_empty())
        };
        let token = first_of(TOKENS)?;
        let path = first_of(PATHS);
        Some(ShutdownRequest::new(path.as_deref().unwrap_or("/"), &token))
    }

    /// Returns true if clients may speak HTTP/2: this platform does not.
    pub(super) fn http2(&self, run: &Run) -> bool {
        match run.clients.http2 {
            Some(switch) => switch == Switch::On,
            None => !self.is_present(),
        }
    }

    pub(super) fn first_launch_delay(&self, run: &Run) -> Duration {
        let default = if self.is_present() {
            FIRST_LAUNCH_DELAY
        } else {
            Duration::ZERO
        };
        run.app.first_launch_delay.map_or(default, Into::into)
    }

    pub(super) fn shutdown(&self, run: &Run) -> ShutdownSettings {
        let timeout = if self.is_present() {
            SHUTDOWN_TIMEOUT
        } else {
            SHUTDOWN_TIMEOUT_ELSEWHERE
        };
        ShutdownSettings {
            delay: *run.shutdown.shutdown_delay,
            timeout: run.shutdown.shutdown_timeout.map_or(timeout, Into::into),
        }
    }

    /// Returns the log file on Azure App Service: the platform's own file is one per process and
    /// never ends, while Azure's log stream shows this folder.
    pub(super) fn log_file(&self) -> Option<PathBuf> {
        let home = (self.variable)("HOME")?;
        (self.variable)("WEBSITE_SITE_NAME").filter(|_| self.is_present())?;
        let folder = Path::new(&home).join("LogFiles");
        Some(folder.join("handoff-{sidecar}.log"))
    }

    /// Refuses an anchor where there is none, and what needs one without it.
    pub(super) fn check_anchor(run: &Run) -> Result<(), ConfigError> {
        if run.anchor.upgrade_on_change == Switch::On && run.anchor.anchor == Switch::Off {
            return Err(ConfigError::Value {
                key: "--upgrade-on-change".into(),
                value: word(&run.anchor.upgrade_on_change),
                expected: "off without --anchor on",
            });
        }
        if cfg!(windows) && run.anchor.anchor == Switch::On {
            return Err(ConfigError::Value {
                key: "--anchor".into(),
                value: word(&run.anchor.anchor),
                expected: "off: only Linux has an anchor so far",
            });
        }
        Ok(())
    }

    /// Returns the treatment of users' tokens, which only this platform leaves behind.
    pub(super) fn windows_auth(&self, run: &Run) -> Result<WindowsAuth, ConfigError> {
        let configured = run.upstream.windows_auth;
        match configured {
            WindowsAuth::Off => Ok(configured),
            WindowsAuth::Close | WindowsAuth::Forward if !cfg!(windows) => {
                Err(ConfigError::Value {
                    key: "--windows-auth".into(),
                    value: word(&configured),
                    expected: "off: only Windows has access tokens",
                })
            }
            // The same settings may serve for a try without IIS.
            WindowsAuth::Close | WindowsAuth::Forward if !self.is_present() => Ok(WindowsAuth::Off),
            WindowsAuth::Close | WindowsAuth::Forward => Ok(configured),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_shutdown_request_is_what_its_variables_say() {
        let expected = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let known = variables.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| (*value).to_owned())
            };
            let request = Platform::new(&variable).shutdown_request();
            request.map(|request| format!("{request:?}"))
        };
        assert_eq!(expected(&[]), None);
        assert_eq!(expected(&[("ASPNETCORE_TOKEN", "")]), None);
        for token in ["ASPNETCORE_TOKEN", "HTTP_PLATFORM_TOKEN"] {
            let request = expected(&[(token, "t")]).unwrap();
            assert!(request.contains("\"/iisintegration\""), "{request}");
            let below = [(token, "t"), ("HTTP_PLATFORM_APPL_PATH", "/shop")];
            let request = expected(&below).unwrap();
            assert!(request.contains("\"/shop/iisintegration\""), "{request}");
        }
    }

    #[test]
    fn an_anchor_is_refused_where_there_is_none() {
        use clap::Parser as _;

        let args = ["handoff", "run", "--artifact", "/a", "--anchor", "on"];
        let crate::cli::Subcommands::Run(run) = crate::cli::Cli::parse_from(args).command else {
            unreachable!("nothing else was asked for");
        };
        assert_eq!(Platform::check_anchor(&run).is_err(), cfg!(windows));
    }
}
