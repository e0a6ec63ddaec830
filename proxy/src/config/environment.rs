//! The app's own variables: those of `--env-file`, and of `[env]`, which take precedence.

use std::path::Path;

use super::ConfigError;
use crate::cli::Run;
use crate::cli::handoff_toml::is_variable;
use crate::os::files;
use crate::process::variables::Variables;

/// Reads the variables.
pub(super) fn of(run: &Run) -> Result<Variables, ConfigError> {
    let mut variables = match &run.reloadable.env_file {
        Some(path) => read(path)?,
        None => Variables::default(),
    };
    variables.extend(run.origins.variables.iter());
    Ok(variables)
}

/// Reads a file of variables. The error names a line, and never shows its content.
pub(crate) fn read(path: &Path) -> Result<Variables, ConfigError> {
    let cannot = |place: String, reason: String| ConfigError::EnvFile { place, reason };
    let shown = path.display();
    let content = files::read_small(path)
        .map_err(|source| cannot(shown.to_string(), format!("cannot be read: {source}")))?;
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    let text = std::str::from_utf8(content).map_err(|_| {
        cannot(
            shown.to_string(),
            "is not UTF-8: save it as that".to_owned(),
        )
    })?;
    let mut variables = Variables::default();
    for pair in dotenvy::from_read_iter(text.as_bytes()) {
        match pair {
            Ok((name, value)) if is_variable(&name) && !value.contains('\0') => {
                variables.set(name, value);
            }
            Ok((name, _)) => {
                let reason = format!("{name:?} is no variable, or its value is none");
                return Err(cannot(shown.to_string(), reason));
            }
            Err(dotenvy::Error::LineParse(part, _)) => {
                let line = text.lines().position(|line| line.contains(part.trim_end()));
                let place = match line {
                    Some(line) if !part.trim().is_empty() => format!("{shown}:{}", line + 1),
                    _ => shown.to_string(),
                };
                let reason = "expected NAME=VALUE; a value with blanks in it goes into quotes, in \
                    which the ones in it, and $, have a backslash before them"
                    .to_owned();
                return Err(cannot(place, reason));
            }
            Err(_) => return Err(cannot(shown.to_string(), "cannot be read".to_owned())),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.env");
        std::fs::write(&path, text).unwrap();
        let text = |part: &std::ffi::OsStr| part.to_str().unwrap().to_owned();
        let variables = read(&path).map_err(|error| error.to_string())?;
        Ok(variables.iter().map(|(n, v)| (text(n), text(v))).collect())
    }

    #[test]
    fn a_file_of_variables_is_read_as_others_read_it() {
        let text = "\u{feff}# comment\r\nA=1\r\nexport B='two words'\nC=\"a\\nb\"\n\nD=\nA=2\n\
            E=${A}x # comment\n";
        let expected = [
            ("B", "two words"),
            ("C", "a\nb"),
            ("D", ""),
            ("A", "2"),
            ("E", "2x"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_understood_is_named_by_its_line_alone() {
        for text in [
            "A=1\nTOKEN=very secret\n",
            "A=1\nvery secret\n",
            "A=1\nB='secret\n",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("app.env:2: expected NAME=VALUE"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = read(Path::new("no-such.env")).unwrap_err().to_string();
        assert!(error.starts_with("no-such.env: cannot be read"), "{error}");
    }
}
