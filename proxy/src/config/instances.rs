//! Settings of instances: their launch, checks, draining and stop.

use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, header};

use super::error::{ConfigError, at_least, positive};
use super::{environment, paths};
use crate::cli::Run;
use crate::cli::run::{AppProtocolOption, AutoRollback, Overlap};
use crate::control_plane::before_start::BeforeStartSettings;
use crate::control_plane::liveness::Liveness;
use crate::control_plane::probe::{ExpectedStatus, Probe};
use crate::control_plane::readiness::Readiness;
use crate::control_plane::settings::{SessionSettings, SupervisorSettings};
use crate::control_plane::step::StepSettings;
use crate::deployment::before_start::BeforeStartRuns;
use crate::deployment::canary::CanaryPlan;
use crate::process::template::Command;
use crate::process::words;

/// Maximum time from one status to the next at rest: commands take a sidecar for dead after ten
/// seconds.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The same for a sidecar whose page shows its traffic.
const HEARTBEAT_OF_PAGE: Duration = Duration::from_secs(1);

pub(super) fn supervisor(
    run: &Run,
    state: &Path,
    command: &Command,
) -> Result<SupervisorSettings, ConfigError> {
    let options = &run.reloadable;
    Ok(SupervisorSettings {
        command: command.clone(),
        environment: environment::of(run)?,
        shared: paths::shared(run, state),
        heartbeat: match run.observability.admin {
            Some(_) => HEARTBEAT_OF_PAGE,
            None => HEARTBEAT,
        },
        port_names: run.app.port_name.clone(),
        can_overlap: run.app.overlap == Overlap::Yes,
        readiness: readiness(run)?,
        before_start: before_start(run, state)?,
        verify: verify(run)?,
        start_timeout: positive("--start-timeout", options.readiness.start_timeout)?,
        deploy_timeout: positive("--deploy-timeout", options.readiness.deploy_timeout)?,
        sessions: sessions(run)?,
        canary: canary(run)?,
        liveness: liveness(run)?,
        unresponsive_after: *options.liveness.unresponsive_after,
        rapid_fails: options.liveness.rapid_fails.max(1),
        bake: bake(run)?,
        bake_max_errors: bake_max_errors(run)?,
        may_go_back: options.liveness.auto_rollback == AutoRollback::Always,
        drain_timeout: drain_timeout(run),
        tunnel_drain_timeout: *options.drain.tunnel_drain_timeout,
        max_draining: at_least("--max-draining", options.drain.max_draining, 1)?,
        stop: options.drain.stop.clone().unwrap_or_default(),
        stop_timeout: *options.drain.stop_timeout,
    })
}

fn readiness(run: &Run) -> Result<Readiness, ConfigError> {
    let options = &run.reloadable.readiness;
    let warmup = options.warmup.iter();
    let warmup = warmup.map(|path| path_and_query("--warmup", path));
    Ok(Readiness {
        probe: Probe {
            body: options.health_body.clone(),
            grpc: health_grpc(run)?,
            ..probe(run, "--health-path", &options.health_path)?
        },
        interval: positive("--health-interval", options.health_interval)?,
        rise: options.health_rise.max(1),
        warmup: warmup.collect::<Result<_, _>>()?,
        owner_check: options.health_identity,
    })
}

fn before_start(run: &Run, state: &Path) -> Result<Option<BeforeStartSettings>, ConfigError> {
    const OPTION: &str = "--before-start";
    let options = &run.reloadable.readiness;
    let timeout = positive("--before-start-timeout", options.before_start_timeout)?;
    let Some(text) = &options.before_start else {
        return Ok(None);
    };
    if text.contains("{port") {
        return Err(ConfigError::Value {
            key: OPTION.into(),
            value: text.clone(),
            expected: "a command without {port}: it runs before the app has one",
        });
    }
    Ok(Some(BeforeStartSettings {
        step: step(OPTION, text, timeout, &[])?,
        runs: BeforeStartRuns::of(state),
    }))
}

fn verify(run: &Run) -> Result<Option<StepSettings>, ConfigError> {
    let options = &run.reloadable.readiness;
    let timeout = positive("--verify-timeout", options.verify_timeout)?;
    let text = options.verify.as_deref();
    text.map(|text| step("--verify", text, timeout, &run.app.port_name))
        .transpose()
}

fn step(
    option: &'static str,
    text: &str,
    timeout: Duration,
    port_names: &[String],
) -> Result<StepSettings, ConfigError> {
    let words = words::split(text).filter(|words| !words.is_empty());
    let command = Command::new(words.ok_or_else(|| ConfigError::Value {
        key: option.into(),
        value: text.to_owned(),
        expected: "a program and its arguments, with each quote closed",
    })?);
    let checked = command.check_placeholders(port_names);
    checked.map_err(|typo| ConfigError::Placeholder {
        key: option.into(),
        typo,
    })?;
    Ok(StepSettings {
        option,
        command,
        timeout,
    })
}

fn liveness(run: &Run) -> Result<Liveness, ConfigError> {
    let options = &run.reloadable.liveness;
    let grpc = health_grpc(run)?;
    let probe = match (&options.live_path, grpc) {
        (Some(path), _) => Some(probe(run, "--live-path", path)?),
        (None, Some(service)) => Some(Probe {
            grpc: Some(service),
            ..probe(run, "--health-path", "/")?
        }),
        (None, None) => None,
    };
    Ok(Liveness {
        probe,
        interval: positive("--live-interval", options.live_interval)?,
        fall: options.health_fall.max(1),
    })
}

fn probe(run: &Run, key: &'static str, path: &str) -> Result<Probe, ConfigError> {
    let options = &run.reloadable.readiness;
    let host = options.health_host.as_deref().map(|host| {
        HeaderValue::from_str(host).map_err(|_| ConfigError::Value {
            key: "--health-host".into(),
            value: host.to_owned(),
            expected: "a host name, such as example.org",
        })
    });
    let headers = options.health_header.iter().map(|text| header(text));
    Ok(Probe {
        path: path_and_query(key, path)?,
        host: host.transpose()?,
        timeout: positive("--health-timeout", options.health_timeout)?,
        headers: headers.collect::<Result<_, _>>()?,
        expected: match (&options.health_status, path) {
            (Some(named), _) => ExpectedStatus::Named(named.0.clone()),
            (None, "/") => ExpectedStatus::AnyOfRoot,
            (None, _) => ExpectedStatus::Good,
        },
        body: None,
        active: None,
        grpc: None,
        protocol: run.upstream.app_protocol.protocol(),
    })
}

fn health_grpc(run: &Run) -> Result<Option<String>, ConfigError> {
    let service = run.reloadable.readiness.health_grpc.clone();
    match (service, run.upstream.app_protocol) {
        (Some(value), AppProtocolOption::Http1) => Err(ConfigError::Value {
            key: "--health-grpc".into(),
            value,
            expected: "--app-protocol h2c with it: gRPC needs HTTP/2",
        }),
        (service, _) => Ok(service),
    }
}

/// Parses `NAME: VALUE`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name: HeaderName = name.trim().parse().ok()?;
        Some((name, value.trim().parse().ok()?))
    });
    let is_ours = |name: &HeaderName| {
        let ours = [header::HOST, header::CONNECTION, header::CONTENT_LENGTH];
        ours.contains(name) || *name == header::TRANSFER_ENCODING
    };
    let parsed = parsed.filter(|(name, _)| !is_ours(name));
    parsed.ok_or_else(|| ConfigError::Value {
        key: "--health-header".into(),
        value: text.to_owned(),
        expected: "NAME: VALUE, such as 'X-Forwarded-Proto: https'; --health-host sets Host, and \
                   handoff sets Connection and the fields of the body",
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

/// Without overlap, new requests wait while the old release drains: it has to end, and the next one
/// to become ready, before they time out.
fn drain_timeout(run: &Run) -> Duration {
    let configured = *run.reloadable.drain.drain_timeout;
    match run.app.overlap {
        Overlap::Yes => configured,
        Overlap::No => configured.min(*run.hold.hold_timeout / 2),
    }
}

fn sessions(run: &Run) -> Result<Option<SessionSettings>, ConfigError> {
    let options = &run.sessions;
    let settings = SessionSettings {
        timeout: positive("--session-timeout", options.session_timeout)?,
        idle: positive("--session-idle", options.session_idle)?,
    };
    if run.app.overlap == Overlap::No && options.sticky.is_some() {
        return Err(ConfigError::Value {
            key: "--sticky".into(),
            value: "cookie".to_owned(),
            expected: "nothing with --overlap no: the superseded release ends before the new one \
                       starts",
        });
    }
    Ok(options.sticky.as_ref().map(|_| settings))
}

fn canary(run: &Run) -> Result<Option<CanaryPlan>, ConfigError> {
    match &run.sessions.canary {
        Some(plan) if run.sessions.sticky.is_none() => Err(ConfigError::Value {
            key: "--canary".into(),
            value: plan.to_string(),
            expected: "--sticky cookie with it: clients keep their side by that cookie",
        }),
        plan => Ok(plan.clone()),
    }
}

fn bake(run: &Run) -> Result<Duration, ConfigError> {
    let bake = run.reloadable.liveness.bake;
    if run.app.overlap == Overlap::No && !bake.is_zero() {
        return Err(ConfigError::Value {
            key: "--bake".into(),
            value: bake.to_string(),
            expected: "nothing with --overlap no: a standby would run beside the new release",
        });
    }
    Ok(*bake)
}

fn bake_max_errors(run: &Run) -> Result<Option<f64>, ConfigError> {
    let options = &run.reloadable.liveness;
    match options.bake_max_errors {
        Some(share) if options.bake.is_zero() => Err(ConfigError::Value {
            key: "--bake-max-errors".into(),
            value: format!("{}%", (share * 10_000.0).round() / 100.0),
            expected: "--bake with it, such as --bake 10m: errors are counted while a release is \
                       on trial",
        }),
        share => Ok(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_program_with_arguments() {
        let parsed = |text| step("--verify", text, Duration::from_secs(1), &[]);
        let command = parsed(r#"sh -c "curl {dir}""#).unwrap().command;
        assert_eq!(command.to_string(), "sh -c curl {dir}");
        for (bad, part) in [
            ("", "a program"),
            ("sh -c 'x", "each quote closed"),
            ("./check {prot}", "write {port}"),
        ] {
            let error = parsed(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("--verify") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn a_field_of_checks_has_a_name_and_a_value_and_is_not_one_of_ours() {
        let parsed = header("X-Forwarded-Proto:https").unwrap();
        assert_eq!(
            (parsed.0.as_str(), &parsed.1),
            ("x-forwarded-proto", &"https".parse().unwrap())
        );
        assert_eq!(header("Authorization: Basic a:b").unwrap().1, "Basic a:b");
        for bad in [
            "",
            "a",
            ": b",
            "a b: c",
            "a: b\nc: d",
            "Host: a",
            "connection: close",
        ] {
            let error = header(bad).unwrap_err().to_string();
            assert!(error.contains("--health-header"), "{error}");
        }
    }
}
