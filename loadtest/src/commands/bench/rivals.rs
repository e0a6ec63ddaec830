//! The other proxies, each with its configuration from `loadtest/rivals`.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::sleep;

use crate::cli::bench::TargetName;
use crate::fixtures::{Fixture, Proxy};

/// Maximum time for kamal-proxy to take its deploy.
const DEPLOY: Duration = Duration::from_secs(5);

const NGINX_ARGUMENTS: &[&str] = &[
    // Without it, nginx opens the system's log before it reads its configuration.
    "-e",
    "{dir}/nginx-error.log",
    "-p",
    "{dir}",
    "-c",
    "{dir}/nginx.conf",
];

/// The app behind all of them.
pub const BACKEND: Fixture = Fixture {
    program: "nginx",
    version: "-v",
    files: &[("nginx.conf", BACKEND_TEMPLATE)],
    arguments: NGINX_ARGUMENTS,
    is_loud: false,
};
pub const BACKEND_TEMPLATE: &str = include_str!("../../../rivals/backend.conf");
pub const BACKEND_SCRIPT: &str = include_str!("../../../rivals/backend.sh");

/// Returns the setup of a proxy of others.
pub fn fixture(name: TargetName) -> Option<Fixture> {
    let haproxy = |files| Fixture {
        program: "haproxy",
        version: "-v",
        files,
        arguments: &["-db", "-f", "{dir}/haproxy.cfg"],
        is_loud: false,
    };
    Some(match name {
        TargetName::Relay => haproxy(&[("haproxy.cfg", include_str!("../../../rivals/relay.cfg"))]),
        TargetName::Haproxy => {
            haproxy(&[("haproxy.cfg", include_str!("../../../rivals/haproxy.cfg"))])
        }
        TargetName::Nginx => Fixture {
            files: &[("nginx.conf", include_str!("../../../rivals/nginx.conf"))],
            ..BACKEND
        },
        TargetName::Caddy => Fixture {
            program: "caddy",
            version: "version",
            files: &[("Caddyfile", include_str!("../../../rivals/Caddyfile"))],
            arguments: &[
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                "{dir}/Caddyfile",
            ],
            is_loud: false,
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
        // It has no configuration file, and learns of the app by a command.
        TargetName::KamalProxy => Fixture {
            program: "kamal-proxy",
            version: "--version",
            files: &[],
            arguments: &["run", "--http-port", "{port}", "--https-port", "{admin}"],
            is_loud: true,
        },
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
