//! The variables that tell an app where to listen, whatever its framework reads.
//!
//! Everything else that the platform set the app inherits, its tokens too (`ASPNETCORE_TOKEN`,
//! `HTTP_PLATFORM_TOKEN`): ASP.NET Core's IIS integration compares the token of every request, which
//! passes through, with its variable, and answers 400 without. The shutdown request ends at handoff.

use crate::process::template::Values;
use crate::process::variables::Variables;

/// Each set to the app's own port, also those that say the public one to us: an app that reads
/// `HTTP_PLATFORM_PORT` would otherwise try to listen there itself.
const PORTS: [&str; 4] = [
    "PORT",
    "HTTP_PLATFORM_PORT",
    "SERVER_PORT",
    "ASPNETCORE_PORT",
];

/// The variables of one launch: `own` ones of the app, and where to listen.
pub(super) fn launch_variables(own: &Variables, values: Values<'_>) -> Variables {
    let port = values.port.to_string();
    let url = format!("http://{}:{port}", values.host);
    let mut variables = own.clone();
    for name in PORTS {
        variables.set(name, &port);
    }
    for (name, port) in values.ports {
        let name = name.to_uppercase().replace(['-', '.'], "_");
        variables.set(format!("PORT_{name}"), port.to_string());
    }
    variables.set("ASPNETCORE_URLS", url);
    variables.set("SHARED_DIR", values.shared);
    variables
}
