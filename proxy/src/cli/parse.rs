//! From the command line, the environment and the configuration file to what was asked for.
//!
//! The file's values become the defaults of the options, so that the same parser serves all, and
//! flags come before the environment, and that before the file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::handoff_toml::{HandoffToml, NAME, TomlError};
use super::origins::Origins;
use super::output::eprint_line;
use super::{Cli, Run, Subcommands};

/// What each option's variable begins with.
const PREFIX: &str = "HANDOFF_";
/// What says where a deployment is: the file lies beside it.
const SOURCES: [&str; 3] = ["HANDOFF_POINTER", "HANDOFF_WATCH", "HANDOFF_ARTIFACT"];

/// Why nothing can be done.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The command line, or a wish for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration file.
    #[error(transparent)]
    File(#[from] TomlError),
    /// There is none where one was said to be.
    #[error("there is no configuration file {0:?} (--config)")]
    NoFile(PathBuf),
}

// === impl Cli ===

impl Cli {
    /// Reads a command line, whose first word is this program, and the file that goes with it.
    ///
    /// # Errors
    /// [`ParseError`]
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, ParseError> {
        let args: Vec<OsString> = args.into_iter().collect();
        // One sentence says how the variables are called; beside every option it is noise. What they
        // say is nobody's business.
        let quiet = |run: Command| run.mut_args(|option| option.hide_env(true));
        let command = Self::command()
            .mut_subcommands(|own| own.mut_args(|option| option.hide_env_values(true)))
            .mut_subcommand("run", quiet)
            .mut_subcommand("check", quiet);
        let matches = command.clone().try_get_matches_from(&args)?;
        let Some((name, given)) = matches.subcommand() else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let own = command.find_subcommand(name);
        let (Some(own), Some(run)) = (own, command.find_subcommand("run")) else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let has_origins = ["run", "check"].contains(&name);
        let Some((file, is_asked_for)) = file(own, given, has_origins) else {
            return Ok(Self::from_arg_matches(&matches)?);
        };
        let toml = match HandoffToml::read(&file, run) {
            Ok(None) if is_asked_for => return Err(ParseError::NoFile(file)),
            Ok(toml) => toml,
            Err(error) if has_origins => return Err(error.into()),
            // It can still be looked at, paused and rolled back.
            Err(error) => {
                eprint_line(format_args!("handoff: {error}"));
                None
            }
        };
        let matches = match &toml {
            None => matches.clone(),
            Some(toml) => {
                let with_defaults = |own: Command| with_defaults(own, toml);
                let command = command.clone().mut_subcommand(name, with_defaults);
                command.try_get_matches_from(&args)?
            }
        };
        let mut cli = Self::from_arg_matches(&matches)?;
        let told = if let Subcommands::Run(run) = &mut cli.command {
            Some(&mut **run)
        } else if let Subcommands::Check(check) = &mut cli.command {
            Some(&mut check.run)
        } else {
            None
        };
        if let (Some(told), Some((_, given))) = (told, matches.subcommand()) {
            told.origins = Origins::of(run, given, toml.as_ref(), file, args);
        }
        Ok(cli)
    }

    /// What `handoff run` was told, with what the file says by now.
    ///
    /// # Errors
    /// [`ParseError`]
    pub fn read_again(origins: &Origins) -> Result<Option<Run>, ParseError> {
        let command = Self::read(origins.args.clone())?.command;
        let Subcommands::Run(run) = command else {
            return Ok(None);
        };
        Ok(Some(*run))
    }
}

/// The configuration file of a command, and whether it was asked for; `None` where the command is
/// not about a deployment, or is told of it by the state folder alone.
fn file(own: &Command, given: &ArgMatches, is_run: bool) -> Option<(PathBuf, bool)> {
    let path = |variable: &str| {
        let arg = of_variable(own, variable)?;
        given.get_one::<PathBuf>(arg.get_id().as_str())
    };
    of_variable(own, "HANDOFF_CONFIG")?;
    if let Some(file) = path("HANDOFF_CONFIG") {
        return Some((file.clone(), true));
    }
    let source = SOURCES.iter().find_map(|variable| path(variable));
    let file = match source {
        Some(source) => {
            let source = std::path::absolute(source).unwrap_or_else(|_| source.clone());
            source.parent().unwrap_or(&source).join(NAME)
        }
        None if !is_run && path("HANDOFF_STATE").is_some() => return None,
        None => std::path::absolute(NAME).unwrap_or_else(|_| NAME.into()),
    };
    Some((file, false))
}

fn of_variable<'a>(command: &'a Command, variable: &str) -> Option<&'a clap::Arg> {
    let mut all = command.get_arguments();
    all.find(|arg| arg.get_env().is_some_and(|name| name == variable))
}

/// Options are the same where they have the same variable.
fn with_defaults(own: Command, toml: &HandoffToml) -> Command {
    toml.options.iter().fold(own, |own, given| {
        let variable = format!("{PREFIX}{}", given.id.to_uppercase());
        let arg = of_variable(&own, &variable).or_else(|| {
            // COMMAND has none.
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
        assert_eq!(told.drain_timeout, Duration::from_secs(420));
        assert_eq!(told.keep, 4);
        assert!(told.half_close);
        assert_eq!(told.command, ["./app", "-x"]);
        assert_eq!(told.supervision.warmup, ["/a", "/b"]);
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
        assert_eq!(other.command, ["./other"]);
    }

    #[test]
    fn the_file_is_beside_what_is_deployed_or_where_it_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path(NAME), "keep = 9").unwrap();
        fs::write(path("other.toml"), "keep = 8").unwrap();
        fs::create_dir(path("releases")).unwrap();
        let keep = |args: &[&str]| run(&[&["run"], args].concat()).keep;
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
