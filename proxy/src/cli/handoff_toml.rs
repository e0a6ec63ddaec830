//! `handoff.toml`: the options of `handoff run`, and the app's variables.
//!
//! An option's key is its name, and its value is read by the option's own parser: there is no second
//! list of options.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, value_parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::os::files;
use crate::process::variables::Variables;

/// Default name of the file.
pub const NAME: &str = "handoff.toml";

/// Minimum similarity of an unknown key and a known one that is suggested instead.
const ALIKE: f64 = 0.8;

/// The content of a file.
#[derive(Clone, Debug)]
pub(super) struct HandoffToml {
    pub(super) options: Vec<OptionValue>,
    pub(super) variables: Variables,
    /// Lines of the variables.
    pub(super) lines: BTreeMap<String, usize>,
}

/// An option and its value.
#[derive(Clone, Debug)]
pub(super) struct OptionValue {
    /// The option's id.
    pub(super) id: String,
    pub(super) line: usize,
    pub(super) values: Vec<String>,
}

/// A mistake in a file, and its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct TomlError {
    place: String,
    reason: String,
}

// === impl TomlError ===

impl TomlError {
    fn of(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            place: path.display().to_string(),
            reason: reason.into(),
        }
    }

    fn unreadable(path: &Path, source: &io::Error) -> Self {
        Self::of(path, format!("cannot be read: {source}"))
    }
}

// === impl HandoffToml ===

impl HandoffToml {
    /// Opens the file; `None` if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<File>, TomlError> {
        match files::open_regular(path) {
            Ok(file) => Ok(Some(file)),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TomlError::unreadable(path, &source)),
        }
    }

    /// Reads the open file.
    pub(super) fn read(file: &File, path: &Path, run: &Command) -> Result<Self, TomlError> {
        let content = files::read_open_small(file);
        let content = content.map_err(|source| TomlError::unreadable(path, &source))?;
        let text = String::from_utf8(content);
        let text = text.map_err(|_| TomlError::of(path, "is not UTF-8: save it as that"))?;
        Self::parse(path, &text, run)
    }

    fn parse(path: &Path, text: &str, run: &Command) -> Result<Self, TomlError> {
        // Editors on Windows begin a file with it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let reader = Reader { path, text, run };
        let table = DeTable::parse(text).map_err(|error| {
            // The parser's own message shows the line, which may hold a secret.
            reader.error(error.span().unwrap_or(0..0), error.message().to_owned())
        })?;
        let mut toml = Self {
            options: Vec::new(),
            variables: Variables::default(),
            lines: BTreeMap::new(),
        };
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("env", DeValue::Table(table)) => {
                    for (name, value) in table {
                        let line = reader.line(&name.span());
                        toml.lines.insert(name.get_ref().to_string(), line);
                        let value = reader.variable(name, value)?;
                        toml.variables.set(name.get_ref().as_ref(), value);
                    }
                }
                ("env", _) => {
                    let expected = "env is a table: expected [env] and below it NAME = \"value\"";
                    return Err(reader.error(value.span(), expected.to_owned()));
                }
                _ => {
                    let given = reader.option(key, value)?;
                    if toml.options.iter().any(|known| known.id == given.id) {
                        let reason = format!("{} is there twice", key.get_ref());
                        return Err(reader.error(key.span(), reason));
                    }
                    toml.options.push(given);
                }
            }
        }
        Ok(toml)
    }
}

/// A file that is being read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    run: &'a Command,
}

impl Reader<'_> {
    fn error(&self, span: Range<usize>, reason: String) -> TomlError {
        TomlError {
            place: format!("{}:{}", self.path.display(), self.line(&span)),
            reason,
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn options(&self) -> impl Iterator<Item = &Arg> {
        // A file cannot name another file that replaces it.
        let all = self.run.get_arguments();
        all.filter(|arg| !["config", "help", "version"].contains(&arg.get_id().as_str()))
    }

    fn option(
        &self,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<OptionValue, TomlError> {
        let name = key.get_ref().as_ref();
        let id = name.replace('-', "_");
        let Some(arg) = self.options().find(|arg| arg.get_id().as_str() == id) else {
            return Err(self.error(key.span(), self.unknown(name)));
        };
        let error = |what: &str| {
            let shown = self.text.get(value.span()).unwrap_or_default();
            self.error(value.span(), format!("{name} is {shown}: {what}"))
        };
        let values = values_of(arg, value.get_ref()).map_err(|what| error(&what))?;
        check_values(arg, &values).map_err(|reason| error(&reason))?;
        let folder = self.path.parent().unwrap_or(self.path);
        let resolved = |value| {
            if is_path(arg) {
                resolve(folder, value, arg)
            } else {
                value
            }
        };
        Ok(OptionValue {
            values: values.into_iter().map(resolved).collect(),
            line: self.line(&key.span()),
            id,
        })
    }

    fn unknown(&self, name: &str) -> String {
        let keys = self
            .options()
            .map(|arg| arg.get_id().as_str().replace('_', "-"));
        let likeness = |key: &String| strsim::jaro_winkler(key, name);
        let alike = keys.chain(["env".to_owned()]);
        let alike = alike.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        match alike.filter(|key| likeness(key) > ALIKE) {
            Some(key) => format!("unknown key {name:?}: did you mean {key:?}?"),
            None => format!(
                "unknown key {name:?}: keys are the options of `handoff run`, without dashes \
                 before them, and [env]"
            ),
        }
    }

    fn variable(
        &self,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<String, TomlError> {
        let name_is = name.get_ref();
        // Without the value, which may be a secret.
        let error = |what: &str| self.error(name.span(), format!("env.{name_is}: {what}"));
        if !is_variable(name_is) {
            return Err(error("no variable can be called so"));
        }
        let value = scalar(value.get_ref()).filter(|value| !value.contains('\0'));
        value.ok_or_else(|| error("expected a string"))
    }
}

/// Returns whether the system accepts this name of a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Returns the values as they are written on a command line, or a description of what is expected.
fn values_of(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match (value, arg.get_action()) {
        (DeValue::Boolean(on), ArgAction::SetTrue) => Ok(vec![on.to_string()]),
        (_, ArgAction::SetTrue) => Err("expected true or false".to_owned()),
        (DeValue::Array(all), ArgAction::Append) => {
            let words = all.iter().map(|word| scalar(word.get_ref()));
            let words: Option<Vec<_>> = words.collect();
            words.ok_or_else(|| "expected a list of strings".to_owned())
        }
        (_, _) if arg.is_positional() => {
            let words = r#"expected a list of words, such as ["./app", "-port", "{port}"]"#;
            Err(words.to_owned())
        }
        (one, _) => match scalar(one) {
            Some(value) => Ok(vec![value]),
            None => Err(format!("expected a string: {}", expected_value(arg))),
        },
    }
}

/// Returns a value as it is written on a command line.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Checks that the option's own parser accepts the values.
fn check_values(arg: &Arg, values: &[String]) -> Result<(), String> {
    // The environment must not supply the value that is checked.
    let arg = arg.clone().env(Resettable::Reset);
    let words: Vec<String> = match (arg.get_long(), arg.get_action()) {
        (Some(_), ArgAction::SetTrue) => return Ok(()),
        (Some(name), _) => {
            let words = values.iter().map(|value| format!("--{name}={value}"));
            words.collect()
        }
        (None, _) => ["--".to_owned()]
            .into_iter()
            .chain(values.to_vec())
            .collect(),
    };
    let parser = Command::new("handoff")
        .no_binary_name(true)
        .arg(arg.clone());
    let Err(error) = parser.try_get_matches_from(words) else {
        return Ok(());
    };
    if let Some(ContextValue::Strings(allowed)) = error.get(ContextKind::ValidValue)
        && !allowed.is_empty()
    {
        return Err(format!("expected one of {}", allowed.join(", ")));
    }
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| "it cannot be understood".to_owned());
    let names_alternative =
        reason.starts_with("expected ") && !reason.starts_with("expected number");
    Err(if names_alternative {
        reason
    } else {
        format!("{reason}; {}", expected_value(&arg))
    })
}

fn expected_value(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first());
    let name = name.map_or_else(|| "a value".to_owned(), ToString::to_string);
    match arg.get_default_values().first() {
        Some(example) => format!("it takes {name}, such as {}", example.to_string_lossy()),
        None => format!("it takes {name}"),
    }
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == value_parser!(PathBuf).type_id()
}

/// Resolves a path against the file's folder, unless it is a word that the option knows
/// (`artifact|copy|DIR`).
fn resolve(folder: &Path, value: String, arg: &Arg) -> String {
    let known = arg.get_value_names().unwrap_or_default();
    let is_word = |name: &str| {
        let mut words = name
            .split('|')
            .filter(|word| **word == *word.to_lowercase());
        words.any(|word| word == value)
    };
    if known.iter().any(|name| is_word(name)) {
        return value;
    }
    // A folder that is not UTF-8 cannot be joined to text.
    match folder.join(&value).into_os_string().into_string() {
        Ok(path) => path,
        Err(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn parse(text: &str) -> Result<HandoffToml, TomlError> {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        HandoffToml::parse(Path::new("/site/handoff.toml"), text, run)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_option_has_a_key_of_the_same_name() {
        let text = r#"
            pointer = "_artifact.txt"
            drain-timeout = "30s"
            max_held = 5
            half-close = true
            warmup = ["/a", "/b"]
            bake-max-errors = 0.5
            command = ["./app", "-port", "{port}"]
            [env]
            GREETING = "hello"
            WORKERS = 4
        "#;
        let toml = parse(text).unwrap();
        let values = |id: &str| {
            let given = toml.options.iter().find(|given| given.id == id).unwrap();
            given.values.join(" ")
        };
        assert_eq!(values("drain_timeout"), "30s");
        assert_eq!(values("max_held"), "5");
        assert_eq!(values("half_close"), "true");
        assert_eq!(values("warmup"), "/a /b");
        assert_eq!(values("bake_max_errors"), "0.5");
        assert_eq!(values("command"), "./app -port {port}");
        let variables: Vec<_> = toml.variables.iter().collect();
        let expected = [("GREETING", "hello"), ("WORKERS", "4")];
        assert_eq!(variables, expected.map(|(n, v)| (n.as_ref(), v.as_ref())));
        assert_eq!(toml.lines["WORKERS"], 11);
    }

    #[test]
    fn a_path_is_relative_to_the_file_but_a_word_is_none() {
        let value = |text: &str| parse(text).unwrap().options[0].values[0].clone();
        let beside = Path::new("/site").join("a/b");
        assert_eq!(Path::new(&value("cache = 'a/b'")), beside);
        assert_eq!(Path::new(&value("workdir = 'a/b'")), beside);
        assert_eq!(value("workdir = 'copy'"), "copy");
        assert_eq!(value("log-file = '-'"), "-");
        assert_eq!(value("health-path = 'a'"), "a");
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line_and_what_can() {
        for (text, says) in [
            (
                "keep = 3\ndrain-timeout = \"soon\"",
                "/site/handoff.toml:2: drain-timeout is \"soon\": expected number at 0; it takes \
                 DURATION, such as 5m",
            ),
            (
                "copy = 'all'",
                "/site/handoff.toml:1: copy is 'all': expected one of never, file, tree",
            ),
            (
                "\n\ndrain-timout = '5m'",
                "/site/handoff.toml:3: unknown key \"drain-timout\": did you mean \"drain-timeout\"?",
            ),
            (
                "max-unpacked = 'lots'",
                "/site/handoff.toml:1: max-unpacked is 'lots': expected a size such as 500MiB or 4GiB",
            ),
            (
                "half-close = 'yes'",
                "/site/handoff.toml:1: half-close is 'yes': expected true or false",
            ),
            (
                "keep = [1]",
                "/site/handoff.toml:1: keep is [1]: expected a string: it takes N, such as 3",
            ),
            (
                "command = './app'",
                "/site/handoff.toml:1: command is './app': expected a list of words, such as \
                 [\"./app\", \"-port\", \"{port}\"]",
            ),
            (
                "env_file = 'a'\nenv-file = 'b'",
                "/site/handoff.toml:1: env_file is there twice",
            ),
        ] {
            assert_eq!(error(text), says);
        }
        let unknown = error("colour = 'blue'");
        assert!(
            unknown.contains("the options of `handoff run`"),
            "{unknown}"
        );
        assert!(error("config = 'x'").contains("unknown key"));
    }

    #[test]
    fn no_error_shows_the_value_of_a_variable() {
        for text in [
            "[env]\nTOKEN = 'secret",
            "[env]\nTOKEN = ['secret']",
            "[env]\n'TO=KEN' = 'secret'",
            "env = 'secret'",
        ] {
            let error = error(text);
            assert!(!error.contains("secret"), "{error}");
            assert!(error.starts_with("/site/handoff.toml:"), "{error}");
        }
    }
}
