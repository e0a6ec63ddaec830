//! How it is found out whether an instance is well.

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::error::{ConfigError, positive};
use crate::cli::Run;
use crate::control_plane::liveness::Liveness;
use crate::control_plane::probe::Probe;
use crate::control_plane::readiness::Readiness;

pub(super) fn readiness(run: &Run) -> Result<Readiness, ConfigError> {
    let options = &run.supervision;
    let warmup = options
        .warmup
        .iter()
        .map(|path| path_and_query("--warmup", path));
    Ok(Readiness {
        probe: probe(run, "--health-path", &run.health_path)?,
        interval: positive("--health-interval", run.health_interval)?,
        rise: options.health_rise.max(1),
        warmup: warmup.collect::<Result<_, _>>()?,
        owner_check: options.health_identity,
    })
}

pub(super) fn live(run: &Run) -> Result<Liveness, ConfigError> {
    let options = &run.supervision;
    let probe = |path: &String| probe(run, "--live-path", path);
    Ok(Liveness {
        probe: options.live_path.as_ref().map(probe).transpose()?,
        interval: positive("--live-interval", options.live_interval)?,
        fall: options.health_fall.max(1),
    })
}

fn probe(run: &Run, key: &'static str, path: &str) -> Result<Probe, ConfigError> {
    let host = run.health_host.as_deref().map(|host| {
        HeaderValue::from_str(host).map_err(|_| ConfigError::Value {
            key: "--health-host".into(),
            value: host.to_owned(),
            expected: "a host name, such as example.org",
        })
    });
    Ok(Probe {
        path: path_and_query(key, path)?,
        host: host.transpose()?,
        timeout: positive("--health-timeout", run.health_timeout)?,
        // Most apps answer something at `/`, if only a redirect or a login; it shows that they run.
        expected: match (&run.supervision.health_status, path) {
            (Some(expected), _) => expected.0.clone(),
            (None, "/") => 200..=499,
            (None, _) => 200..=399,
        },
    })
}

fn path_and_query(key: &'static str, path: &str) -> Result<PathAndQuery, ConfigError> {
    let parsed = path.parse().ok().filter(|_| path.starts_with('/'));
    parsed.ok_or_else(|| ConfigError::Value {
        key: key.into(),
        value: path.to_owned(),
        expected: "a path that starts with /, such as /health",
    })
}
