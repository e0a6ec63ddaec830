//! `handoff check`: whether a run with these options would work, and what it would run.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use console::style;
use serde::Serialize;
use serde_json::json;

use crate::cli::check::Check;
use crate::commands::say::{print, tell};
use crate::commands::{Ending, sidecar_on};
use crate::config::Config;
use crate::control_plane::artifact::{Store, StoreSettings};
use crate::data_plane::Listener;
use crate::deployment::DropFolder;
use crate::observe::event_hook;
use crate::os::files;
use crate::os::listening::who_has;
use crate::process::template::Values;
use crate::release::Release;

mod print;

const SCHEMA: u32 = 1;
/// Stands for the port that is chosen at the launch.
const SOME_PORT: u16 = 40_000;

/// What was looked at, and what is to be said of it.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    text: String,
}

/// Checks, and says so on stdout.
pub fn run(check: Check) -> Ending {
    let origins = check.run.origins.clone();
    let config = match Config::try_from(check.run) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            match check.json {
                true => {
                    let ok = false;
                    let what = "configuration";
                    let findings = [Finding { what, ok, text }];
                    print(as_json(Ending::Usage, &findings, None));
                }
                false => tell(format_args!("handoff: {text}")),
            }
            return Ending::Usage;
        }
    };
    let findings = findings(&config, &origins.file, origins.has_file);
    let ending = match findings.iter().all(|finding| finding.ok) {
        true => Ending::Done,
        false => Ending::Refused,
    };
    let settings = check.print.then(|| print::Printed::of(&config, &origins));
    if check.json {
        print(as_json(ending, &findings, settings.as_ref()));
    } else {
        if let Some(settings) = &settings {
            print(settings);
        }
        print(as_text(&findings).trim_end());
    }
    ending
}

fn findings(config: &Config, file: &Path, has_file: bool) -> Vec<Finding> {
    let configuration = match has_file {
        true => file.display().to_string(),
        false => format!("there is no {}", file.display()),
    };
    let mut findings = vec![finding("configuration", Ok(configuration))];
    findings.extend(artifact(config));
    findings.push(finding("state", writable(&config.state.join("sidecars"))));
    findings.push(finding("shared", writable(&config.supervisor.shared)));
    findings.push(finding("cache", cache(&config.store.cache)));
    let logs = [
        ("log file", config.log.file.as_ref()),
        ("app log", config.lines.app.file()),
        (
            "access log",
            config
                .lines
                .access
                .as_ref()
                .and_then(|access| access.file.as_ref()),
        ),
    ];
    for (what, file) in logs {
        if let Some(file) = file {
            let folder = file.path.parent().unwrap_or(&file.path);
            findings.push(finding(what, writable(folder)));
        }
    }
    if let Some(command) = &config.on_event {
        findings.push(finding("on event", event_hook::program(command)));
    }
    findings.push(finding("port", port(config)));
    if let Some(admin) = &config.admin {
        findings.push(finding("admin", admin_port(admin.address)));
    }
    findings
}

fn finding(what: &'static str, found: Result<String, String>) -> Finding {
    let ok = found.is_ok();
    let (Ok(text) | Err(text)) = found;
    Finding { what, ok, text }
}

/// What would run, and how.
fn artifact(config: &Config) -> Vec<Finding> {
    let target = config.watch.source.target(&mut DropFolder::default());
    let target = match target {
        Ok(target) => target,
        Err(error) => return vec![finding("artifact", Err(error.to_string()))],
    };
    let proved = match target.digest {
        Some(_) => "its digest holds",
        None => "no digest proves that it is whole",
    };
    // As a run would, but where nothing stays behind.
    let copied = folder_in(&config.store.cache).and_then(|folder| {
        let cache = folder.path().to_owned();
        let settings = StoreSettings {
            cache,
            ..config.store.clone()
        };
        let mut store = Store::open(settings).map_err(|error| error.to_string())?;
        let release = store.accept(&target).map_err(|error| error.to_string())?;
        let command = command(config, &release);
        Ok((release.id, command))
    });
    match copied {
        Err(problem) => vec![finding("artifact", Err(problem))],
        Ok((id, command)) => {
            let text = format!("{} as release {id}; {proved}", target.path.display());
            vec![finding("artifact", Ok(text)), finding("command", command)]
        }
    }
}

fn command(config: &Config, release: &Release) -> Result<String, String> {
    let settings = &config.supervisor;
    let names = settings.port_names.iter();
    let ports: Vec<_> = names.map(|name| (name.clone(), SOME_PORT)).collect();
    let values = Values {
        release,
        port: SOME_PORT,
        ports: &ports,
        host: "127.0.0.1",
        shared: &settings.shared,
    };
    let (program, _) = settings
        .command
        .expand(values)
        .map_err(|error| error.to_string())?;
    let words = settings.command.to_string();
    let path = Path::new(&program);
    match path.components().count() > 1 && !path.exists() {
        true => Err(format!("{words}: there is no such program in the release")),
        false => Ok(words),
    }
}

fn cache(folder: &Path) -> Result<String, String> {
    let text = writable(folder)?;
    match files::runs_no_programs(&there(folder)) {
        true => Err(format!(
            "{text}: no program can be started from it (it is mounted noexec): choose another with \
             --cache"
        )),
        false => Ok(text),
    }
}

/// Whether a folder is one that can be written to, or could be made.
fn writable(folder: &Path) -> Result<String, String> {
    folder_in(folder)?;
    let shown = folder.display();
    match folder.is_dir() {
        true => Ok(shown.to_string()),
        false => Ok(format!("{shown} (it will be made)")),
    }
}

/// A folder that is gone when it is dropped, where another one is or would be.
fn folder_in(folder: &Path) -> Result<tempfile::TempDir, String> {
    let there = there(folder);
    tempfile::Builder::new()
        .prefix(".handoff-check-")
        .tempdir_in(&there)
        .map_err(|error| format!("cannot write to {}: {error}", there.display()))
}

/// The folder, or the one that there is above it.
fn there(folder: &Path) -> PathBuf {
    let mut all = folder.ancestors();
    let there = all.find(|folder| folder.exists());
    there.unwrap_or(folder).to_owned()
}

fn port(config: &Config) -> Result<String, String> {
    let listen = config.listen;
    match TcpListener::bind(listen) {
        Ok(_) => Ok(listen.to_string()),
        Err(error) => match sidecar_on(&config.state, listen) {
            Some(sidecar) => Ok(format!(
                "{listen}, where sidecar {sidecar} of this deployment is"
            )),
            None => {
                let by = who_has(listen).map_or_else(String::new, |by| format!(": {by}"));
                Err(format!("cannot listen on {listen}: {error}{by}"))
            }
        },
    }
}

/// It is no condition: who looks on waits for it.
fn admin_port(address: SocketAddr) -> Result<String, String> {
    match TcpListener::bind(address) {
        Err(error) if Listener::is_taken(&error) => Ok(format!(
            "{address} is taken: handoff runs without it until it is free"
        )),
        Err(error) => Err(format!("cannot listen on {address}: {error}")),
        Ok(_) => Ok(address.to_string()),
    }
}

fn as_text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.what.len()).max().unwrap_or(0);
    findings.iter().fold(String::new(), |mut text, finding| {
        let Finding { what, ok, text: of } = finding;
        let verdict = match ok {
            true => style("ok    ").green(),
            false => style("FAILED").red(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:width$}  {verdict}  {of}");
        text
    })
}

fn as_json(
    ending: Ending,
    findings: &[Finding],
    settings: Option<&print::Printed>,
) -> serde_json::Value {
    json!({
        "schema": SCHEMA,
        "exit": ending as u8,
        "findings": findings,
        "settings": settings,
    })
}
