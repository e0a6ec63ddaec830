//! Settings of requests and connections.

use std::sync::Arc;
use std::thread::available_parallelism;

use super::Platform;
use super::error::{ConfigError, at_least, positive};
use super::error_pages::PageFolder;
use crate::cli::Run;
use crate::control_plane::artifact::AssetSettings;
use crate::data_plane::{
    self, AppLimits, ClientLimits, OldAssets, RequestLimits, TesterField, TrustedProxies,
};
use crate::router::HoldLimits;

pub(super) fn hold(run: &Run) -> HoldLimits {
    HoldLimits {
        first_timeout: *run.hold.first_hold_timeout,
        timeout: *run.hold.hold_timeout,
        max: run.hold.max_held,
    }
}

pub(super) fn data_plane(
    run: &Run,
    platform: &Platform<'_>,
    pages: Option<&PageFolder>,
    assets: Option<&AssetSettings>,
) -> Result<data_plane::DataPlaneSettings, ConfigError> {
    let (clients, upstream) = (&run.clients, &run.upstream);
    let processors = || available_parallelism().map_or(1, Into::into);
    Ok(data_plane::DataPlaneSettings {
        workers: clients.workers.unwrap_or_else(processors),
        forwarded: upstream.forwarded,
        trusted_proxies: TrustedProxies::new(upstream.trusted_proxies.clone()),
        app: AppLimits {
            connect_timeout: positive("--connect-timeout", upstream.connect_timeout)?,
            response_timeout: positive("--response-timeout", upstream.response_timeout)?,
            response_idle_timeout: upstream
                .response_idle_timeout
                .map(|time| positive("--response-idle-timeout", time))
                .transpose()?,
            idle_timeout: *upstream.upstream_idle_timeout,
            event_retry: run.responses.event_retry.map(|time| *time),
        },
        client: ClientLimits {
            header_timeout: positive("--header-timeout", clients.header_timeout)?,
            idle_timeout: positive("--idle-timeout", clients.idle_timeout)?,
            timeout: positive("--client-timeout", clients.client_timeout)?,
            min_rate: clients.min_rate.0,
        },
        request: RequestLimits {
            max_target: clients.max_target,
            hold_timeout: *run.hold.hold_timeout,
        },
        max_header_size: at_least("--max-header-size", clients.max_header_size, 1024)?,
        max_headers: at_least("--max-headers", clients.max_headers, 10)?,
        max_connections: at_least("--max-connections", clients.max_connections, 1)?,
        half_close: clients.half_close,
        http2: platform.http2(run),
        shutdown_request: platform.shutdown_request(),
        public_health: public_health(run)?,
        error_pages: pages.map(PageFolder::pages),
        old_assets: assets.map(old_assets),
        websocket_close_code: run.responses.websocket_close_code,
        session_cookie: run.sessions.sticky.clone(),
        tester_field: tester_field(run)?,
        user_tokens: None,
        counters: None,
        access_log: None,
        request_id: run.observability.request_id,
    })
}

fn tester_field(run: &Run) -> Result<Option<TesterField>, ConfigError> {
    match &run.sessions.canary_header {
        Some(field) if run.sessions.sticky.is_none() => Err(ConfigError::Value {
            key: "--canary-header".into(),
            value: field.to_string(),
            expected: "--sticky cookie with it: there is no canary without",
        }),
        field => Ok(field.clone()),
    }
}

fn public_health(run: &Run) -> Result<Option<String>, ConfigError> {
    let path = run.responses.public_health.clone();
    let is_path = |path: &String| path.starts_with('/') && !path.contains(['?', '#', ' ']);
    match path {
        Some(path) if !is_path(&path) => Err(ConfigError::Value {
            key: "--public-health".into(),
            value: path,
            expected: "a path that starts with /, such as /up",
        }),
        path => Ok(path),
    }
}

fn old_assets(assets: &AssetSettings) -> Arc<OldAssets> {
    let prefixes = assets.folders.iter().map(|folder| folder.prefix.clone());
    Arc::new(OldAssets {
        prefixes: prefixes.collect(),
        kept: Arc::clone(&assets.kept),
    })
}
