//! The variables that tell an app its port, for every framework.
//!
//! The app inherits all other variables of the platform, also its tokens (`ASPNETCORE_TOKEN`,
//! `HTTP_PLATFORM_TOKEN`): ASP.NET Core's IIS integration compares the token of every request,
//! which handoff forwards, with its variable, and answers 400 without it. The shutdown request ends
//! at handoff.

use crate::process::template::Values;
use crate::process::variables::Variables;

/// Variables that are set to the app's own port, also those that contain the public one: an app
/// that reads `HTTP_PLATFORM_PORT` would otherwise listen there.
const PORTS: [&str; 4] = [
    "PORT",
    "HTTP_PLATFORM_PORT",
    "SERVER_PORT",
    "ASPNETCORE_PORT",
];

/// Variables that tell some frameworks their address (Next.js reads `HOSTNAME`). Others use them as
/// the name of the machine: they are set only where nothing has set them.
const HOSTS: [&str; 2] = ["HOST", "HOSTNAME"];

/// Returns the variables of one launch: the app's `own` ones, and its ports.
pub(super) fn launch_variables(own: &Variables, values: Values<'_>) -> Variables {
    let is_inherited = |name: &str| std::env::var_os(name).is_some();
    with_inherited(own, values, is_inherited)
}

fn with_inherited(
    own: &Variables,
    values: Values<'_>,
    is_inherited: impl Fn(&str) -> bool,
) -> Variables {
    let port = values.port.to_string();
    let url = format!("http://{}:{port}", values.host);
    let mut variables = own.clone();
    for name in PORTS {
        variables.set(name, &port);
    }
    for name in HOSTS {
        let is_own = own.names().any(|known| known == name);
        if !is_own && !is_inherited(name) {
            variables.set(name, values.host);
        }
    }
    for (name, port) in values.ports {
        let name = name.to_uppercase().replace(['-', '.'], "_");
        variables.set(format!("PORT_{name}"), port.to_string());
    }
    variables.set("ASPNETCORE_URLS", url);
    variables.set("SHARED_DIR", values.shared);
    variables
}

/// Returns the variables of a command that runs before the app has a port.
pub(super) fn portless_variables(own: &Variables, values: Values<'_>) -> Variables {
    let mut variables = own.clone();
    variables.set("SHARED_DIR", values.shared);
    variables.set("RELEASE", values.release.id.as_str());
    variables
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::release::{Digest, Release, ReleaseId};

    #[test]
    fn the_host_is_a_variable_unless_the_operator_or_the_system_has_set_it() {
        let release = Release {
            id: ReleaseId::new("v1"),
            digest: Digest::finish(Sha256::new()),
            shape: String::new(),
            artifact: "/cache/app".into(),
            dir: "/site".into(),
        };
        let values = Values {
            release: &release,
            port: 4001,
            ports: &[],
            host: "127.0.0.1",
            shared: "/state/shared".as_ref(),
        };
        let hosts = |own: &Variables, inherited: &str| {
            let variables = with_inherited(own, values, |name| name == inherited);
            HOSTS.map(|name| {
                let mut all = variables.iter();
                let found = all.find(|(known, _)| *known == name);
                found.map(|(_, value)| value.to_string_lossy().into_owned())
            })
        };
        let (local, own) = (Some("127.0.0.1".to_owned()), Some("::1".to_owned()));
        let none = Variables::default();
        assert_eq!(hosts(&none, ""), [local.clone(), local.clone()]);
        assert_eq!(hosts(&none, "HOSTNAME"), [local.clone(), None]);
        let variables = [("HOST", "::1")].into_iter().collect();
        assert_eq!(hosts(&variables, ""), [own, local]);
    }
}
