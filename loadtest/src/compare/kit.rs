//! What a proxy of others needs to take part: its programs, its files from `loadtest/contenders`,
//! and how it is started. Pure but for where programs are.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use super::options::Name;
use crate::install::{HOMES, find};

/// What all deploy scripts source.
const APP: &str = include_str!("../../contenders/app.sh");

/// What they run.
const TOOLS: [&str; 4] = ["bash", "curl", "pgrep", "sed"];

/// One of them, from `loadtest/contenders`.
#[derive(Debug)]
pub struct Kit {
    /// As it is called in PATH.
    pub program: &'static str,
    /// Makes it say its version.
    pub version: &'static str,
    /// Its files by name, with places to fill in.
    files: &'static [(&'static str, &'static str)],
    /// The deploy script.
    deploy: &'static str,
    /// What it is started with.
    arguments: &'static [&'static str],
    /// What it says on the way of each request, and cannot be told not to.
    pub is_loud: bool,
}

/// What is filled in.
#[derive(Debug, Clone)]
pub struct Places {
    pub folder: PathBuf,
    pub port: u16,
    pub admin: u16,
    pub blue: u16,
    pub green: u16,
}

const HAPROXY: Kit = Kit {
    program: "haproxy",
    version: "-v",
    files: &[(
        "haproxy.cfg",
        include_str!("../../contenders/haproxy/haproxy.cfg"),
    )],
    deploy: include_str!("../../contenders/haproxy/deploy.sh"),
    arguments: &["-db", "-f", "{dir}/haproxy.cfg"],
    is_loud: false,
};

const NGINX: Kit = Kit {
    program: "nginx",
    version: "-v",
    files: &[
        (
            "nginx.conf",
            include_str!("../../contenders/nginx/nginx.conf"),
        ),
        (
            "upstream.template",
            include_str!("../../contenders/nginx/upstream.conf"),
        ),
    ],
    deploy: include_str!("../../contenders/nginx/deploy.sh"),
    arguments: &[
        "-e",
        "{dir}/nginx-error.log",
        "-p",
        "{dir}",
        "-c",
        "{dir}/nginx.conf",
    ],
    is_loud: false,
};

const CADDY: Kit = Kit {
    program: "caddy",
    version: "version",
    files: &[(
        "Caddyfile",
        include_str!("../../contenders/caddy/Caddyfile"),
    )],
    deploy: include_str!("../../contenders/caddy/deploy.sh"),
    arguments: &[
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        "{dir}/Caddyfile",
    ],
    is_loud: false,
};

const KAMAL_PROXY: Kit = Kit {
    program: "kamal-proxy",
    version: "--version",
    files: &[],
    deploy: include_str!("../../contenders/kamal-proxy/deploy.sh"),
    arguments: &["run", "--http-port", "{port}", "--https-port", "{admin}"],
    is_loud: true,
};

impl Kit {
    /// None for those that are no proxy of others.
    pub fn of(name: Name) -> Option<Self> {
        match name {
            Name::Haproxy => Some(HAPROXY),
            Name::Nginx => Some(NGINX),
            Name::Caddy => Some(CADDY),
            Name::KamalProxy => Some(KAMAL_PROXY),
            Name::Handoff | Name::StopAndStart | Name::Article => None,
        }
    }

    /// Where its program is.
    ///
    /// # Errors
    /// What is not installed, for a person.
    pub fn find(&self) -> Result<PathBuf, String> {
        let missing = |program: &str| format!("{program} is not installed");
        if let Some(tool) = TOOLS.into_iter().find(|tool| find(tool).is_none()) {
            return Err(missing(tool));
        }
        find(self.program).ok_or_else(|| missing(self.program))
    }

    /// Writes its files.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write(&self, places: &Places) -> io::Result<()> {
        let folder = &places.folder;
        fs::create_dir_all(folder)?;
        for (name, template) in self.files {
            fs::write(folder.join(name), places.fill(template))?;
        }
        fs::write(folder.join("app.sh"), APP)?;
        fs::write(folder.join("deploy.sh"), self.deploy)?;
        if self.program == NGINX.program {
            // It does not start without one; the first deploy replaces it before a request comes.
            let blue = NGINX.files[1].1.replace("{app}", &places.blue.to_string());
            fs::write(folder.join("upstream.conf"), blue)?;
        }
        Ok(())
    }

    /// What it is started with.
    pub fn arguments(&self, places: &Places) -> Vec<String> {
        let arguments = self.arguments.iter();
        arguments.map(|argument| places.fill(argument)).collect()
    }

    /// What it and the deploy script find in their environment. `releases` is where they are.
    pub fn environment(
        &self,
        program: &Path,
        places: &Places,
        releases: &Path,
    ) -> Vec<(String, OsString)> {
        let Places {
            folder,
            port,
            admin,
            blue,
            green,
        } = places;
        let own = self.program.to_uppercase().replace('-', "_");
        let mut environment = vec![
            (own, program.into()),
            ("DIR".to_owned(), folder.into()),
            ("RELEASES".to_owned(), releases.into()),
            // Before the first deploy.
            ("UPSTREAM".to_owned(), format!("127.0.0.1:{blue}").into()),
            ("KAMAL_PROXY_BIND".to_owned(), "127.0.0.1".into()),
        ];
        for (name, port) in [
            ("PORT", port),
            ("ADMIN", admin),
            ("BLUE", blue),
            ("GREEN", green),
        ] {
            environment.push((name.to_owned(), port.to_string().into()));
        }
        for name in HOMES {
            environment.push((name.to_owned(), folder.into()));
        }
        environment
    }
}

impl Places {
    /// With ports that were free a moment ago.
    ///
    /// # Errors
    /// The system has none.
    pub fn find(folder: PathBuf) -> io::Result<Self> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        // All are held until all are known.
        let listeners = [listen()?, listen()?, listen()?, listen()?];
        let mut ports = [0; 4];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr()?.port();
        }
        let [port, admin, blue, green] = ports;
        Ok(Self {
            folder,
            port,
            admin,
            blue,
            green,
        })
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("{port}", &self.port.to_string())
            .replace("{admin}", &self.admin.to_string())
            .replace("{blue}", &self.blue.to_string())
            .replace("{green}", &self.green.to_string())
            .replace("{dir}", &self.folder.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_filled_without_a_rest() {
        let folder = tempfile::tempdir().unwrap();
        for name in Name::ALL {
            let Some(kit) = Kit::of(name) else { continue };
            let places = Places::find(folder.path().join(kit.program)).unwrap();
            kit.write(&places).unwrap();
            let mut said = kit.arguments(&places).join(" ");
            for (file, _) in kit.files {
                said.push_str(&fs::read_to_string(places.folder.join(file)).unwrap());
            }
            assert!(said.contains(&places.port.to_string()), "{said}");
            for left in ["{port}", "{admin}", "{blue}", "{green}", "{dir}"] {
                assert!(!said.contains(left), "{left} in {said}");
            }
            let environment = kit.environment(Path::new("/bin/x"), &places, Path::new("/r"));
            let script = fs::read_to_string(places.folder.join("deploy.sh")).unwrap();
            let own = kit.program.to_uppercase().replace('-', "_");
            assert!(environment.iter().any(|(name, _)| *name == own));
            for word in script.split(|c: char| !c.is_ascii_uppercase() && c != '_' && c != '$') {
                let Some(name) = word.strip_prefix('$').filter(|name| name.len() > 2) else {
                    continue;
                };
                assert!(environment.iter().any(|(known, _)| known == name), "{name}");
            }
        }
    }
}
