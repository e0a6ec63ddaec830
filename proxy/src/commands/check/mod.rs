//! `handoff check`: finds out if a run with these options would work, and what it would run.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use console::style;
use serde::Serialize;
use serde_json::json;

use crate::cli::check::CheckArgs;
use crate::cli::output::{eprint_line, print_json, print_line, print_styled};
use crate::commands::{ExitStatus, sidecar_on};
use crate::config::Config;
use crate::control_plane::artifact::{Store, StoreSettings};
use crate::data_plane::Listener;
use crate::deployment::DropFolder;
use crate::observe::hook_command;
use crate::os::files;
use crate::os::listening::describe_refusal;
use crate::os::terminal::printable;
use crate::process::program::{self, SearchPath};
use crate::process::template::Values;
use crate::release::Release;

mod print;

const SCHEMA: u32 = 1;
/// A placeholder for the port that is chosen at the launch.
const SOME_PORT: u16 = 40_000;

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    text: String,
}

/// Checks, and prints the findings on stdout.
pub fn run(check: CheckArgs) -> ExitStatus {
    let origins = check.run.origins.clone();
    let config = match Config::try_from(check.run) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            if check.json {
                let ok = false;
                let what = "configuration";
                let findings = [Finding { what, ok, text }];
                print_json(&as_json(ExitStatus::Usage, &findings, None));
            } else {
                eprint_line(format_args!("handoff: {text}"))
            }
            return ExitStatus::Usage;
        }
    };
    let findings = findings(&config, &origins.file, origins.has_file);
    let exit_status = if findings.iter().all(|finding| finding.ok) {
        ExitStatus::Done
    } else {
        ExitStatus::Refused
    };
    let settings = check
        .print
        .then(|| print::PrintedConfig::of(&config, &origins));
    if check.json {
        print_json(&as_json(exit_status, &findings, settings.as_ref()));
    } else {
        if let Some(settings) = &settings {
            print_line(settings);
        }
        print_styled(as_text(&findings).trim_end());
    }
    exit_status
}

fn findings(config: &Config, file: &Path, has_file: bool) -> Vec<Finding> {
    let configuration = if has_file {
        file.display().to_string()
    } else {
        format!("there is no {}", file.display())
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
        findings.push(finding("on event", hook_command::program(command)));
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

/// Accepts the artifact as a run would, and finds the command to run.
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
    // The copy is made in a temporary cache.
    let copied = folder_in(&config.store.cache).and_then(|folder| {
        let cache = folder.path().to_owned();
        let settings = StoreSettings {
            cache,
            ..config.store.clone()
        };
        let mut store = Store::open(settings).map_err(|error| error.to_string())?;
        let release = store.accept(&target).map_err(|error| error.to_string())?;
        let command = command(config, &release);
        // The temporary copy is gone when its path is printed.
        let copy = [(&release.artifact, "{artifact}"), (&release.dir, "{dir}")];
        let command = command.map_err(|problem| {
            copy.iter().fold(problem, |text, (path, word)| {
                text.replace(&*path.to_string_lossy(), word)
            })
        });
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
    let search_path = SearchPath {
        folders: &program::path_variable(&settings.environment),
        workdir: &release.dir,
    };
    let file = program::find(&program, search_path);
    let file = file.map_err(|missing| format!("{words}: {missing}"))?;
    match program::fault(&file, search_path) {
        Some(fault) => Err(format!("{words}: cannot run {}: {fault}", file.display())),
        None => Ok(words),
    }
}

fn cache(folder: &Path) -> Result<String, String> {
    let text = writable(folder)?;
    if files::is_noexec(&nearest_existing(folder)) {
        Err(format!(
            "{text}: no program can be started from it (it is mounted noexec): choose another with \
             --cache"
        ))
    } else {
        Ok(text)
    }
}

/// Checks that a folder can be written to, or could be made.
fn writable(folder: &Path) -> Result<String, String> {
    files::check_names(folder).map_err(|error| error.to_string())?;
    folder_in(folder)?;
    let shown = folder.display();
    if folder.is_dir() {
        Ok(shown.to_string())
    } else {
        Ok(format!("{shown} (it will be made)"))
    }
}

/// Makes a temporary folder in this folder, or in the nearest one above it that exists.
fn folder_in(folder: &Path) -> Result<tempfile::TempDir, String> {
    let there = nearest_existing(folder);
    tempfile::Builder::new()
        .prefix(".handoff-check-")
        .tempdir_in(&there)
        .map_err(|error| format!("cannot write to {}: {error}", there.display()))
}

/// Returns the folder, or the nearest one above it that exists.
fn nearest_existing(folder: &Path) -> PathBuf {
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
                let by = describe_refusal(listen, &error);
                let by = by.map_or_else(String::new, |by| format!(": {by}"));
                Err(format!("cannot listen on {listen}: {error}{by}"))
            }
        },
    }
}

/// Checks the admin port. A run waits for one that is taken.
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
        let result = if *ok {
            style("ok    ").green()
        } else {
            style("FAILED").red()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:width$}  {result}  {}", printable(of));
        text
    })
}

fn as_json(
    exit_status: ExitStatus,
    findings: &[Finding],
    settings: Option<&print::PrintedConfig>,
) -> serde_json::Value {
    json!({
        "schema": SCHEMA,
        "exit": exit_status as u8,
        "findings": findings,
        "settings": settings,
    })
}
