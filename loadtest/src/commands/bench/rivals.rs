//! The other proxies, each with its configuration from `loadtest/rivals`.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use crate::cli::bench::TargetName;
use crate::fixtures::{CADDY, Fixture, HAPROXY, KAMAL_PROXY, NGINX, Proxy};

/// Maximum time for kamal-proxy to take its deploy.
const DEPLOY: Duration = Duration::from_secs(5);

/// The app behind all of them.
pub const BACKEND: Fixture = Fixture {
    files: &[("nginx.conf", BACKEND_TEMPLATE)],
    ..NGINX
};
pub const BACKEND_TEMPLATE: &str = include_str!("../../../rivals/backend.conf");
pub const BACKEND_SCRIPT: &str = include_str!("../../../rivals/backend.sh");

/// Returns the setup of a proxy of others.
pub fn fixture(name: TargetName) -> Option<Fixture> {
    Some(match name {
        TargetName::Relay => Fixture {
            files: &[("haproxy.cfg", include_str!("../../../rivals/relay.cfg"))],
            ..HAPROXY
        },
        TargetName::Haproxy => Fixture {
            files: &[("haproxy.cfg", include_str!("../../../rivals/haproxy.cfg"))],
            ..HAPROXY
        },
        TargetName::Nginx => Fixture {
            files: &[("nginx.conf", include_str!("../../../rivals/nginx.conf"))],
            ..NGINX
        },
        TargetName::Caddy => Fixture {
            files: &[("Caddyfile", include_str!("../../../rivals/Caddyfile"))],
            ..CADDY
        },
        // Pingora is a library. A program made with it is measured when it takes these arguments; it
        // should keep upstream connections, set X-Forwarded-For, -Proto and -Host, and write no log.
        TargetName::Pingora => Fixture {
            program: "pingora-proxy",
            version: "--version",
            files: &[],
            arguments: &[
                "--listen",
                "127.0.0.1:{port}",
                "--upstream",
                "127.0.0.1:{backend}",
                "--threads",
                "{workers}",
            ],
            is_loud: false,
        },
        TargetName::KamalProxy => KAMAL_PROXY,
        TargetName::Direct | TargetName::Handoff | TargetName::HandoffMetrics => return None,
    })
}

/// Gives kamal-proxy its app, once it accepts commands.
pub async fn deploy_to_kamal(program: &Path, proxy: &Proxy) -> Result<(), String> {
    let target = format!("127.0.0.1:{}", proxy.places.backend);
    let deadline = Instant::now() + DEPLOY;
    loop {
        let mut command = Command::new(program);
        command.args(["deploy", "bench", "--target", &target]);
        command.args(["--health-check-path", "/small"]);
        command.envs(proxy.environment.clone()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("its deploy fails: {}", errors.trim()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::fixtures::tests::assert_filled;

    #[test]
    fn templates_are_filled_without_a_rest() {
        for name in TargetName::value_variants() {
            if let Some(fixture) = fixture(*name) {
                assert_filled(&fixture);
            }
        }
        assert_filled(&BACKEND);
    }
}
