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

/// Returns the variables of one launch: the app's `own` ones, and its ports.
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
