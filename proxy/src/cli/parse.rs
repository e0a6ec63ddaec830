//! From the command line, the environment and the configuration file to options.
//!
//! The file's values become the defaults of the options: one parser serves all three, and flags take
//! precedence over the environment, and that over the file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::handoff_toml::{HandoffToml, NAME, TomlError};
use super::origins::Origins;
use super::output::eprint_line;
use super::run::VARIABLE_PREFIX;
use super::{Cli, Run, Subcommands};
use crate::os::rights::Rights;

/// Variables of the options that name a deployment: the file is beside it.
const SOURCES: [&str; 3] = ["HANDOFF_POINTER", "HANDOFF_WATCH", "HANDOFF_ARTIFACT"];

/// Ids of the options that name a deployment.
const PLACES: [&str; 4] = ["pointer", "watch", "artifact", "state"];

/// An outcome other than options.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The command line is invalid, or requests help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration file is invalid.
    #[error(transparent)]
    File(#[from] TomlError),
    /// The configuration file belongs to somebody else.
    #[error(
        "{0:?} belongs to another user, and says what this command writes to: if you trust it, name \
         it with --config FILE"
    )]
    Distrusted(PathBuf),
    /// The system refuses the rights of the owner of the configuration file.
    #[error("cannot read {0:?}: {1}")]
    Rights(PathBuf, std::io::Error),
    /// The configuration file that an option names does not exist.
    #[error("there is no configuration file {0:?} (--config)")]
    NoFile(PathBuf),
}

/// The configuration file of a command.
struct ConfigFile {
    path: PathBuf,
    /// `--config` names it.
    is_explicit: bool,
}

// === impl Cli ===

impl Cli {
    /// Reads a command line, whose first word is this program, and the configuration file that
    /// belongs to it.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, ParseError> {
        let args: Vec<OsString> = args.into_iter().collect();
        let command = Self::command();
        let matches = command.clone().try_get_matches_from(&args)?;
        let Some((name, given)) = matches.subcommand() else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let own = command.find_subcommand(name);
        let (Some(own), Some(run)) = (own, command.find_subcommand("run")) else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let has_origins = ["run", "check"].contains(&name);
        let Some(file) = ConfigFile::find(own, given, has_origins) else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let read = if has_origins {
            file.read(run)
        } else {
            file.read_for_a_command(run)
        };
        let toml = match read {
            Ok(None) if file.is_explicit => return Err(ParseError::NoFile(file.path)),
            Err(ParseError::File(error)) if !has_origins => {
                // The other commands work without the file.
                eprint_line(format_args!("handoff: {error}"));
                None
            }
            read => read?,
        };
        let matches = match &toml {
            None => matches,
            Some(toml) => {
                let with_defaults = |own: Command| with_defaults(own, toml);
                let command = command.clone().mut_subcommand(name, with_defaults);
                command.try_get_matches_from(&args)?
            }
        };
        let mut cli = Self::from_arg_matches(&matches)?;
        if let (Some(toml), Some(rights)) = (&toml, cli.rights_of_the_namer())
            && !file.is_explicit
            && toml
                .options
                .iter()
                .any(|given| PLACES.contains(&&*given.id))
        {
            *rights = Rights::over(&file.path);
        }
        if let (Some(options), Some((_, given))) = (cli.run_options(), matches.subcommand()) {
            options.origins = Origins::of(run, given, toml.as_ref(), file.path, args);
        }
        Ok(cli)
    }

    fn run_options(&mut self) -> Option<&mut Run> {
        match &mut self.command {
            Subcommands::Run(run) => Some(run),
            Subcommands::Check(check) => Some(&mut check.run),
            Subcommands::Deploy(_)
            | Subcommands::Status(_)
            | Subcommands::History(_)
            | Subcommands::Logs(_)
            | Subcommands::Rollout(_)
            | Subcommands::Promote(_)
            | Subcommands::Abort(_)
            | Subcommands::Rollback(_)
            | Subcommands::Restart(_)
            | Subcommands::Pause(_)
            | Subcommands::Resume(_)
            | Subcommands::Maintenance(_)
            | Subcommands::Upgrade(_)
            | Subcommands::Digest(_)
            | Subcommands::Completions { .. }
            | Subcommands::SendConsoleEvent { .. } => None,
        }
    }

    /// Returns the rights of a command over the paths that its configuration file names.
    fn rights_of_the_namer(&mut self) -> Option<&mut Rights> {
        Some(match &mut self.command {
            Subcommands::Deploy(deploy) => &mut deploy.named_by,
            Subcommands::Status(status) => &mut status.deployment.named_by,
            Subcommands::History(history) => &mut history.deployment.named_by,
            Subcommands::Logs(logs) => &mut logs.deployment.named_by,
            Subcommands::Rollout(rollout) => &mut rollout.follow.deployment.named_by,
            Subcommands::Promote(promote) => &mut promote.follow.deployment.named_by,
            Subcommands::Abort(abort) => &mut abort.follow.deployment.named_by,
            Subcommands::Rollback(rollback) => &mut rollback.follow.deployment.named_by,
            Subcommands::Restart(restart) => &mut restart.follow.deployment.named_by,
            Subcommands::Pause(pause) => &mut pause.deployment.named_by,
            Subcommands::Resume(resume) => &mut resume.follow.deployment.named_by,
            Subcommands::Maintenance(maintenance) => &mut maintenance.follow.deployment.named_by,
            Subcommands::Upgrade(upgrade) => &mut upgrade.follow.deployment.named_by,
            Subcommands::Run(_)
            | Subcommands::Check(_)
            | Subcommands::Digest(_)
            | Subcommands::Completions { .. }
            | Subcommands::SendConsoleEvent { .. } => return None,
        })
    }

    /// Reads the command line of a run again, and the present content of its configuration file.
    pub fn read_again(origins: &Origins) -> Result<Option<Run>, ParseError> {
        let command = Self::read(origins.args.clone())?.command;
        let Subcommands::Run(run) = command else {
            return Ok(None);
        };
        Ok(Some(*run))
    }
}

// === impl ConfigFile ===

impl ConfigFile {
    /// Reads the file, with the rights of this process.
    fn read(&self, run: &Command) -> Result<Option<HandoffToml>, ParseError> {
        let Some(file) = HandoffToml::open(&self.path)? else {
            return Ok(None);
        };
        Ok(Some(HandoffToml::read(&file, &self.path, run)?))
    }

    /// Reads the file for a command, which writes where it says: nobody but root and the users of
    /// command and folder may have written it, unless `--config` names it.
    fn read_for_a_command(&self, run: &Command) -> Result<Option<HandoffToml>, ParseError> {
        let rights = Rights::over(&self.path);
        let opened = rights.apply(|| Ok(HandoffToml::open(&self.path)));
        let opened = opened.map_err(|error| ParseError::Rights(self.path.clone(), error))?;
        let Some(file) = opened? else {
            return Ok(None);
        };
        if !self.is_explicit && !rights.trust(&file) {
            return Err(ParseError::Distrusted(self.path.clone()));
        }
        Ok(Some(HandoffToml::read(&file, &self.path, run)?))
    }

    /// Finds the file of the command `own`; `None` for a command that works on no deployment, or
    /// finds it by the state folder alone.
    fn find(own: &Command, given: &ArgMatches, is_run: bool) -> Option<Self> {
        let path = |variable: &str| {
            let arg = find_by_variable(own, variable)?;
            given.get_one::<PathBuf>(arg.get_id().as_str())
        };
        find_by_variable(own, "HANDOFF_CONFIG")?;
        if let Some(file) = path("HANDOFF_CONFIG") {
            return Some(Self {
                path: file.clone(),
                is_explicit: true,
            });
        }
        let source = SOURCES.iter().find_map(|variable| path(variable));
        let path = match source {
            Some(source) => {
                let source = std::path::absolute(source).unwrap_or_else(|_| source.clone());
                source.parent().unwrap_or(&source).join(NAME)
            }
            None if !is_run && path("HANDOFF_STATE").is_some() => return None,
            None => std::path::absolute(NAME).unwrap_or_else(|_| NAME.into()),
        };
        Some(Self {
            path,
            is_explicit: false,
        })
    }
}

fn find_by_variable<'a>(command: &'a Command, variable: &str) -> Option<&'a clap::Arg> {
    let mut all = command.get_arguments();
    all.find(|arg| arg.get_env().is_some_and(|name| name == variable))
}

/// Makes the file's values the defaults of a command's options. Options of two commands are the same
/// if they have the same variable.
fn with_defaults(own: Command, toml: &HandoffToml) -> Command {
    toml.options.iter().fold(own, |own, given| {
        let variable = format!("{VARIABLE_PREFIX}{}", given.id.to_uppercase());
        let arg = find_by_variable(&own, &variable).or_else(|| {
            // COMMAND has no variable.
            let mut all = own.get_arguments();
            all.find(|arg| arg.is_last_set() && arg.get_id().as_str() == given.id)
        });
        match arg.map(|arg| arg.get_id().clone()) {
            Some(id) => own.mut_arg(id, |arg| arg.default_values(given.values.clone())),
            None => own,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::origins::Origin;
    use super::*;

    fn read(args: &[&str]) -> Result<Cli, ParseError> {
        let args = ["handoff"].iter().chain(args);
        Cli::read(args.map(OsString::from))
    }

    fn run(args: &[&str]) -> Run {
        let Subcommands::Run(run) = read(args).unwrap().command else {
            panic!("a run");
        };
        *run
    }

    #[test]
    fn flags_come_before_the_file_and_that_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        let text = "drain-timeout = '7m'\nkeep = 9\nhalf-close = true\ncommand = ['./app', '-x']\n\
            warmup = ['/a', '/b']\n[env]\nA = '1'";
        fs::write(&file, text).unwrap();
        let pointer = folder.path().join("_artifact.txt");
        let pointer = ["run", "--pointer", pointer.to_str().unwrap()];
        let told = run(&[&pointer[..], &["--keep", "4"]].concat());
        assert_eq!(
            *told.reloadable.drain.drain_timeout,
            Duration::from_secs(420)
        );
        assert_eq!(told.storage.keep, 4);
        assert!(told.clients.half_close);
        assert_eq!(told.app.command, ["./app", "-x"]);
        assert_eq!(told.reloadable.readiness.warmup, ["/a", "/b"]);
        let origin = |key: &str| {
            let mut all = told.origins.settings.iter();
            all.find(|setting| setting.key == key)
                .unwrap()
                .origin
                .clone()
        };
        assert_eq!(origin("drain-timeout"), Origin::File(file.clone(), 1));
        assert_eq!(origin("keep"), Origin::Flag);
        assert_eq!(origin("poll"), Origin::Default);
        assert_eq!(origin("command"), Origin::File(file, 4));
        assert!(
            told.origins
                .name_of("--drain-timeout")
                .ends_with("toml:1: drain-timeout")
        );
        assert_eq!(told.origins.name_of("--keep"), "--keep");
        let other = run(&[&pointer[..], &["--", "./other"]].concat());
        assert_eq!(other.app.command, ["./other"]);
    }

    #[test]
    fn the_file_is_beside_what_is_deployed_or_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path(NAME), "keep = 9").unwrap();
        fs::write(path("other.toml"), "keep = 8").unwrap();
        fs::create_dir(path("releases")).unwrap();
        let keep = |args: &[&str]| run(&[&["run"], args].concat()).storage.keep;
        assert_eq!(keep(&["--watch", &path("releases/")]), 9);
        assert_eq!(keep(&["--artifact", &path("app")]), 9);
        assert_eq!(keep(&["--pointer", &path("p.txt")]), 9);
        assert_eq!(keep(&["--pointer", &path("releases/p.txt")]), 3);
        let other = ["--artifact", &path("app"), "--config", &path("other.toml")];
        assert_eq!(keep(&other), 8);
        let none = read(&["run", "--config", &path("none.toml")]).unwrap_err();
        assert!(none.to_string().contains("none.toml"), "{none}");
    }

    #[test]
    fn commands_take_what_they_share_with_a_run_and_do_not_fail_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        fs::write(&file, "state = 'elsewhere'\nkeep = 9").unwrap();
        let pointer = folder.path().join("p.txt");
        let status = ["status", "--pointer", pointer.to_str().unwrap()];
        let Subcommands::Status(_) = read(&status).unwrap().command else {
            panic!("a status");
        };
        fs::write(&file, "nonsense").unwrap();
        assert!(read(&status).is_ok());
        assert!(read(&["run", "--pointer", pointer.to_str().unwrap()]).is_err());
    }
}
