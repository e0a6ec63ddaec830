//! The variables that tell an app where to listen, whatever its framework reads.
//!
//! Everything else that the platform set the app inherits, its tokens too (`ASPNETCORE_TOKEN`,
//! `HTTP_PLATFORM_TOKEN`): ASP.NET Core's IIS integration compares the token of every request, which
//! passes through, with its variable, and answers 400 without. The shutdown request ends at handoff.

use std::ffi::OsString;

use crate::process::template::Values;

/// Each set to the app's own port, also those that say the public one to us: an app that reads
/// `HTTP_PLATFORM_PORT` would otherwise try to listen there itself.
const PORTS: [&str; 4] = [
    "PORT",
    "HTTP_PLATFORM_PORT",
    "SERVER_PORT",
    "ASPNETCORE_PORT",
];

/// The variables of one launch.
pub(super) fn of(values: Values<'_>) -> Vec<(OsString, OsString)> {
    let port = values.port.to_string();
    let url = format!("http://{}:{port}", values.host);
    let mut variables: Vec<(OsString, OsString)> = PORTS
        .iter()
        .map(|&name| (name.into(), port.clone().into()))
        .collect();
    for (name, port) in values.ports {
        let name = name.to_uppercase().replace(['-', '.'], "_");
        variables.push((format!("PORT_{name}").into(), port.to_string().into()));
    }
    variables.push(("ASPNETCORE_URLS".into(), url.into()));
    variables.push(("SHARED_DIR".into(), values.shared.into()));
    variables
}
