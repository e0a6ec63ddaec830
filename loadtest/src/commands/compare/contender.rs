//! A proxy of others, and the script that deploys behind it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::cli::compare::ContenderName;
use crate::deploy::release::Release;
use crate::deploy::swap::Swap;
use crate::deploy::{Strategy, StrategyError, hook};
use crate::fixtures::{CADDY, Fixture, HAPROXY, KAMAL_PROXY, NGINX, Places, Proxy};
use crate::host::install::find;

/// Script that all deploy scripts source.
const APP: &str = include_str!("../../../contenders/app.sh");
const HAPROXY_COMMANDS: (&str, &str) = (
    "haproxy.sh",
    include_str!("../../../contenders/haproxy/haproxy.sh"),
);

/// Programs that the scripts run.
const TOOLS: [&str; 4] = ["bash", "curl", "pgrep", "sed"];

/// A proxy and its deploy script, from `loadtest/contenders`.
#[derive(Debug)]
pub struct Setup {
    pub fixture: Fixture,
    deploy: &'static str,
    /// Template of a file that exists before the first deploy.
    first: Option<(&'static str, &'static str)>,
}

const NGINX_UPSTREAM: &str = include_str!("../../../contenders/nginx/upstream.conf");

/// A running proxy with the app behind it. Dropping it kills both.
#[derive(Debug)]
pub struct Contender {
    proxy: Proxy,
    program: &'static str,
    releases: PathBuf,
}

// === impl Setup ===

impl Setup {
    /// Returns the setup of a proxy of others.
    pub fn of(name: ContenderName) -> Option<Self> {
        let setup = |fixture, files, deploy| Self {
            fixture: Fixture { files, ..fixture },
            deploy,
            first: None,
        };
        match name {
            ContenderName::Haproxy => Some(setup(
                HAPROXY,
                &[
                    (
                        "haproxy.cfg",
                        include_str!("../../../contenders/haproxy/haproxy.cfg"),
                    ),
                    HAPROXY_COMMANDS,
                ],
                include_str!("../../../contenders/haproxy/deploy.sh"),
            )),
            ContenderName::HaproxySticky => Some(setup(
                HAPROXY,
                &[
                    (
                        "haproxy.cfg",
                        include_str!("../../../contenders/haproxy-sticky/haproxy.cfg"),
                    ),
                    HAPROXY_COMMANDS,
                ],
                include_str!("../../../contenders/haproxy-sticky/deploy.sh"),
            )),
            ContenderName::Nginx => Some(Self {
                // It does not start without one; the first deploy replaces it before a request comes.
                first: Some(("upstream.conf", NGINX_UPSTREAM)),
                ..setup(
                    NGINX,
                    &[
                        (
                            "nginx.conf",
                            include_str!("../../../contenders/nginx/nginx.conf"),
                        ),
                        ("upstream.template", NGINX_UPSTREAM),
                    ],
                    include_str!("../../../contenders/nginx/deploy.sh"),
                )
            }),
            ContenderName::Caddy => Some(setup(
                CADDY,
                &[(
                    "Caddyfile",
                    include_str!("../../../contenders/caddy/Caddyfile"),
                )],
                include_str!("../../../contenders/caddy/deploy.sh"),
            )),
            ContenderName::KamalProxy => Some(setup(
                KAMAL_PROXY,
                &[],
                include_str!("../../../contenders/kamal-proxy/deploy.sh"),
            )),
            ContenderName::Handoff | ContenderName::StopAndStart | ContenderName::Article => None,
        }
    }

    /// Finds the program.
    pub fn find(&self) -> Result<PathBuf, String> {
        if let Some(tool) = TOOLS.into_iter().find(|tool| find(tool).is_none()) {
            return Err(format!("{tool} is not installed"));
        }
        self.fixture.find()
    }

    fn write(&self, places: &Places) -> std::io::Result<()> {
        let folder = &places.folder;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("app.sh"), APP)?;
        fs::write(folder.join("deploy.sh"), self.deploy)?;
        let Some((name, template)) = self.first else {
            return Ok(());
        };
        let blue = template.replace("{app}", &places.blue.to_string());
        fs::write(folder.join(name), blue)
    }
}

// === impl Contender ===

impl Contender {
    /// Starts it, and deploys the first release.
    pub async fn start(
        setup: &Setup,
        program: &Path,
        folder: PathBuf,
        first: &Release,
    ) -> Result<Self, StrategyError> {
        let places = Places::find(folder).map_err(StrategyError::Port)?;
        let written = setup.write(&places);
        written.map_err(StrategyError::spawn(program))?;
        let releases = first.file.parent().unwrap_or_else(|| Path::new("."));
        let contender = Self {
            proxy: setup.fixture.start(program, places).await?,
            program: setup.fixture.program,
            releases: releases.to_owned(),
        };
        contender.run_script(first).await?;
        Ok(contender)
    }

    async fn run_script(&self, release: &Release) -> Result<(), StrategyError> {
        let folder = &self.proxy.places.folder;
        let mut command = Command::new("bash");
        command.arg("deploy.sh").arg(release.number.to_string());
        command
            .current_dir(folder)
            .envs(self.proxy.environment.clone());
        command.env("RELEASES", &self.releases);
        // The app then ends with the proxy, however the script ended.
        command.process_group(self.proxy.group());
        let line = format!("{}/deploy.sh {}", self.program, release.number);
        let log = folder.join(format!("deploy-{}.log", release.number));
        hook::run_command(command, &line, release, log).await
    }
}

impl Strategy for Contender {
    fn server(&self) -> SocketAddr {
        self.proxy.server()
    }

    async fn deploy(&mut self, release: &Release, swap: &mut Swap) -> Result<(), StrategyError> {
        hook::time_deploy(self.run_script(release), swap).await
    }

    fn observe(&mut self, _swaps: &mut [Swap]) -> Result<(), StrategyError> {
        self.proxy.check_running()
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        self.proxy.stop().await
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::fixtures::tests::assert_filled;

    #[test]
    fn scripts_find_the_variables_that_they_use() {
        for name in ContenderName::value_variants() {
            let Some(setup) = Setup::of(*name) else {
                continue;
            };
            assert_filled(&setup.fixture);
            let folder = tempfile::tempdir().unwrap();
            let places = Places::find(folder.path().to_owned()).unwrap();
            setup.write(&places).unwrap();
            let environment = setup.fixture.environment(Path::new("/bin/x"), &places);
            let script = fs::read_to_string(folder.path().join("deploy.sh")).unwrap();
            for word in script.split(|c: char| !c.is_ascii_uppercase() && c != '_' && c != '$') {
                let Some(used) = word.strip_prefix('$').filter(|name| name.len() > 2) else {
                    continue;
                };
                let is_set = used == "RELEASES" || environment.iter().any(|(name, _)| name == used);
                assert!(is_set, "{used}");
            }
        }
    }
}
