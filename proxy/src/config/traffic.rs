//! Settings of requests and connections.

use std::thread::available_parallelism;

use super::Platform;
use super::error::{ConfigError, at_least, positive};
use crate::cli::Run;
use crate::data_plane::{self, AppLimits, ClientLimits, RequestLimits, TrustedProxies};
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
            idle_timeout: *upstream.upstream_idle_timeout,
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
        shutdown_request: platform.shutdown_request(),
        user_tokens: None,
        counters: None,
        access_log: None,
        request_id: run.observability.request_id,
    })
}
