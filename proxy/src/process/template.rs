//! The command line of apps (COMMAND) and its placeholders.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::release::{Digest, Release, ReleaseId};

/// Names of the placeholders, without those of further ports.
const PLACEHOLDERS: [&str; 6] = ["port", "host", "artifact", "dir", "release", "shared"];

/// The command line of every instance, with its placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    program: Option<String>,
    args: Vec<String>,
}

/// Values of the placeholders in one launch.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Release, for `{artifact}`, `{dir}` and `{release}`.
    pub release: &'a Release,
    /// Port on which the app has to listen, for `{port}`.
    pub port: u16,
    /// Further ports by name, for `{port:NAME}`.
    pub ports: &'a [(String, u16)],
    /// Address on which the app has to listen, for `{host}`.
    pub host: &'a str,
    /// Folder for data that outlives a release, for `{shared}`.
    pub shared: &'a Path,
}

/// A folder or an archive is deployed, which cannot be run without a COMMAND.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "release {0} is a folder or an archive, and no COMMAND says what to run in it: append \
     `-- COMMAND ARG...`, for example `-- node server.js`, or `-- ./app -port {{port}}` for the \
     program `app` in it"
)]
pub struct NoCommand(pub ReleaseId);

/// A word in braces that is no placeholder, and so similar to one that it has to be a typo.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{{{word}}} is no placeholder: write {{{meant}}}. The placeholders are {}; braces that the app \
     itself is to see can be passed in a variable ([env])",
    known.iter().map(|known| format!("{{{known}}}")).collect::<Vec<_>>().join(", ")
)]
pub struct PlaceholderTypo {
    /// The word.
    pub word: String,
    /// The placeholder that it resembles.
    pub meant: String,
    /// All placeholders.
    pub known: Vec<String>,
}

// === impl Command ===

impl Command {
    /// Returns the command of the words after `--`. If the first starts with `-`, all are arguments
    /// for the artifact.
    pub fn new(words: Vec<String>) -> Self {
        let mut args = words;
        let program = match args.first() {
            Some(first) if !first.starts_with('-') => Some(args.remove(0)),
            _ => None,
        };
        Self { program, args }
    }

    /// Returns a key that is the same for equal commands only.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        for word in self.program.iter().chain(&self.args) {
            hash.update(word);
            hash.update([0]);
        }
        // An argument alone is no program.
        hash.update([u8::from(self.program.is_some())]);
        Digest::finish(hash).hex()[..8].to_owned()
    }

    /// Checks that no placeholder is misspelt.
    ///
    /// # Errors
    /// [`PlaceholderTypo`] with the first one that is.
    pub fn check_placeholders(&self, port_names: &[String]) -> Result<(), PlaceholderTypo> {
        let ports = port_names.iter().map(|name| format!("port:{name}"));
        let known = PLACEHOLDERS.iter().map(|&name| name.to_owned());
        let known: Vec<String> = ports.chain(known).collect();
        let mut words = self.program.iter().chain(&self.args);
        words.try_for_each(|word| find_typo(word, &known))
    }

    /// Returns the program and its arguments for one launch.
    ///
    /// A program with a slash is a path relative to `{dir}`; one without is looked up in `PATH`.
    ///
    /// # Errors
    /// [`NoCommand`] if the artifact itself is to run but is a folder.
    pub fn expand(&self, values: Values<'_>) -> Result<(OsString, Vec<OsString>), NoCommand> {
        let program = match &self.program {
            None if values.release.artifact.is_dir() => {
                return Err(NoCommand(values.release.id.clone()));
            }
            None => values.release.artifact.clone().into_os_string(),
            Some(program) => in_release(values.fill(program), values.release),
        };
        let args = self.args.iter().map(|arg| values.fill(arg)).collect();
        Ok((program, args))
    }

    /// Returns the program of a release, as far as it can be known before a launch: not one below
    /// `{shared}`.
    pub fn program(&self, release: &Release) -> Option<PathBuf> {
        match &self.program {
            None => (!release.artifact.is_dir()).then(|| release.artifact.clone()),
            Some(program) if program.contains("{shared}") => None,
            Some(program) => {
                let program = fill(program, |name| release_value(release, name));
                Some(in_release(program, release).into())
            }
        }
    }

    /// Returns true if a file that the command names is in the deployed folder and not in the private copy
    /// of it: something has removed it there.
    pub fn misses_file(&self, release: &Release, deployed: &Path) -> bool {
        let words = self.program.iter().chain(&self.args);
        let mut names = words
            .flat_map(|word| word.split_whitespace())
            .map(Path::new);
        names.any(|name| {
            name.is_relative()
                && !release.artifact.join(name).exists()
                && deployed.join(name).is_file()
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program.as_deref().unwrap_or("{artifact}"))?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

// === impl Values ===

impl Values<'_> {
    /// Replaces the placeholders in `text`. Other braces are kept, as in JSON.
    pub fn fill(&self, text: &str) -> OsString {
        fill(text, |name| self.value(name))
    }

    fn value(&self, name: &str) -> Option<OsString> {
        match name {
            "port" => Some(self.port.to_string().into()),
            _ if name.starts_with("port:") => {
                let mut ports = self.ports.iter();
                let port = ports.find(|(known, _)| name[5..] == **known)?.1;
                Some(port.to_string().into())
            }
            "host" => Some(self.host.into()),
            "shared" => Some(self.shared.into()),
            _ => release_value(self.release, name),
        }
    }
}

/// Returns the path of a program: one with a slash is relative to `{dir}`.
fn in_release(program: OsString, release: &Release) -> OsString {
    match Path::new(&program).components().count() {
        0 | 1 => program,
        _ => release.dir.join(program).into_os_string(),
    }
}

fn fill(text: &str, value: impl Fn(&str) -> Option<OsString>) -> OsString {
    let mut filled = OsString::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from_open) = rest.split_at(open);
        filled.push(before);
        let known = from_open
            .find('}')
            .and_then(|close| Some((value(&from_open[1..close])?, close)));
        match known {
            Some((value, close)) => {
                filled.push(value);
                rest = &from_open[close + 1..];
            }
            None => {
                filled.push("{");
                rest = &from_open[1..];
            }
        }
    }
    filled.push(rest);
    filled
}

/// Finds a word in braces that resembles one of the `known` ones. `${word}` is a variable of a shell.
pub fn find_typo(text: &str, known: &[String]) -> Result<(), PlaceholderTypo> {
    for (close, _) in text.match_indices('}') {
        let Some(open) = text[..close].rfind('{') else {
            continue;
        };
        let word = &text[open + 1..close];
        if text[..open].ends_with('$') || known.iter().any(|known| known == word) {
            continue;
        }
        if let Some(meant) = known.iter().find(|known| resembles(word, known)) {
            return Err(PlaceholderTypo {
                word: word.to_owned(),
                meant: meant.clone(),
                known: known.to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns whether a word may be meant to be `known`: in another case, with blanks around it, as one
/// of two words, or with few letters that are wrong. In a short one a changed letter does not count:
/// `{post}` is no typo of `{port}`.
fn resembles(word: &str, known: &str) -> bool {
    let word = word.trim().to_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if word.is_empty() || word.len() > 2 * known.len() + 8 || !word.chars().all(is_name) {
        return false;
    }
    match (word.split_once(':'), known.contains(':')) {
        (Some((head, _)), false) => return known == "port" && resembles(head, known),
        (None, true) => return false,
        (Some(_), true) | (None, false) => {}
    }
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    let distance = strsim::osa_distance(&word, known);
    let is_near = if known.len() > 4 {
        distance <= 2
    } else {
        let is_changed = word.len() == known.len() && letters(&word) != letters(known);
        distance <= 1 && !is_changed
    };
    is_near || word.split(['-', '_', '.']).any(|part| part == known)
}

/// Returns the value of a placeholder that is the same in each launch of a release.
fn release_value(release: &Release, name: &str) -> Option<OsString> {
    match name {
        "artifact" => Some(release.artifact.clone().into()),
        "dir" => Some(release.dir.clone().into()),
        "release" => Some(release.id.as_str().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::release::Digest;

    fn expand(words: &[&str]) -> (String, Vec<String>) {
        let release = Release {
            id: ReleaseId::new("v1"),
            digest: Digest::finish(Sha256::new()),
            shape: String::new(),
            artifact: "/cache/app".into(),
            dir: "/site".into(),
        };
        let values = Values {
            release: &release,
            port: 4001,
            ports: &[("admin".to_owned(), 4002)],
            host: "127.0.0.1",
            shared: Path::new("/data"),
        };
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let (program, args) = Command::new(words).expand(values).unwrap();
        let text = |os: OsString| os.into_string().unwrap().replace('\\', "/");
        (text(program), args.into_iter().map(text).collect())
    }

    #[test]
    fn without_a_command_the_artifact_runs() {
        assert_eq!(expand(&[]), ("/cache/app".into(), vec![]));
    }

    #[test]
    fn words_that_start_with_a_dash_are_arguments_for_the_artifact() {
        let (program, args) = expand(&["-port", "{port}"]);
        assert_eq!(program, "/cache/app");
        assert_eq!(args, ["-port", "4001"]);
    }

    #[test]
    fn a_program_without_a_slash_is_looked_up_in_the_path() {
        let (program, args) = expand(&["java", "-jar", "{artifact}", "--server.port={port}"]);
        assert_eq!(program, "java");
        assert_eq!(args, ["-jar", "/cache/app", "--server.port=4001"]);
    }

    #[test]
    fn a_program_with_a_slash_is_relative_to_the_working_directory() {
        assert_eq!(expand(&["bin/run"]).0, "/site/bin/run");
        assert_eq!(expand(&["./run"]).0, "/site/./run");
        assert_eq!(expand(&["/usr/bin/env"]).0, "/usr/bin/env");
        assert_eq!(expand(&["{dir}/run"]).0, "/site/run");
    }

    #[test]
    fn a_further_port_has_a_name() {
        let (_, args) = expand(&["--admin={port:admin}", "{port:other}"]);
        assert_eq!(args, ["--admin=4002", "{port:other}"]);
    }

    #[test]
    fn a_misspelt_placeholder_is_named_with_the_one_that_is_meant() {
        let typo = |word: &str| {
            let command = Command::new(vec!["./app".to_owned(), word.to_owned()]);
            let checked = command.check_placeholders(&["admin".to_owned()]);
            checked.err().map(|typo| typo.meant)
        };
        for (word, meant) in [
            ("-port={prot}", "port"),
            ("{prt}", "port"),
            ("{PORT}", "port"),
            ("{ port }", "port"),
            ("{app_port}", "port"),
            ("{prot:admin}", "port:admin"),
            ("{port:admn}", "port:admin"),
            ("{port:other}", "port"),
            ("http://{hots}:{port}", "host"),
            ("{artefact}/x", "artifact"),
            ("{relaese}", "release"),
            ("{share}", "shared"),
            ("{{dri}}", "dir"),
            ("sh -c 'exec {dri}/run'", "dir"),
        ] {
            assert_eq!(typo(word).as_deref(), Some(meant), "{word}");
        }
        for word in [
            "{port}{host}{artifact}{dir}{release}{shared}{port:admin}",
            "{\"port\": {port}, \"a\": {\"host\": 1}}",
            "${PORT} ${port}",
            "awk '{print $1}' {nothing} {id} {name} {post} {user:id}",
            "{}",
            "{",
            "}{",
        ] {
            assert_eq!(typo(word), None, "{word}");
        }
        let command = Command::new(vec!["{prot}/app".to_owned()]);
        let error = command.check_placeholders(&[]).unwrap_err().to_string();
        assert!(
            error.starts_with("{prot} is no placeholder: write {port}."),
            "{error}"
        );
    }

    #[test]
    fn unknown_braces_stay_as_they_are() {
        let (_, args) = expand(&[
            "-c",
            "{\"a\":{port}}",
            "{",
            "{}",
            "{host}{nothing}{release}",
        ]);
        assert_eq!(
            args,
            ["-c", "{\"a\":4001}", "{", "{}", "127.0.0.1{nothing}v1"]
        );
    }
}
