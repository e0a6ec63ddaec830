//! The option reference, `docs/options.md`, which is generated from the command line's definition.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use super::run::ReloadableOptions;

const FILE: &str = "docs/options.md";
/// Rewrites the file instead of comparing with it.
const UPDATE: &str = "HANDOFF_UPDATE_DOCS";

const INTRODUCTION: &str = "\
# Options

This file is generated from the definition of the command line. After a change of it, run
`HANDOFF_UPDATE_DOCS=1 cargo test -p handoff reference`.

Each option of `handoff run` can be set by a flag, by a variable or in [handoff.toml](#handofftoml).
A DURATION is written as `250ms`, `30s` or `5m`; a SIZE in bytes, or as `64KiB`, `500MiB` or `4GiB`.
A change of an option that is marked as *reloaded* takes effect without a restart of handoff.
";

const HANDOFF_TOML: &str = "
## handoff.toml

handoff reads `handoff.toml` in the folder of what `--pointer`, `--watch` or `--artifact` names, else
in the working directory; `--config` names another file. Each option of `handoff run` has a key of
the same name without dashes before it, and COMMAND has the key `command`; the table `[env]` holds
variables of the app. Flags take precedence over variables, variables over the file, and the file
over the defaults. Durations, sizes and paths are strings, lists are arrays, and an option without a
value is `true` or `false`. A relative path starts at the file's own folder. An unknown key is an
error. The commands that look for a deployment read the options that they share with `handoff run`.
";

const EXIT_CODES: &str = "
## Exit codes

| command | code | meaning |
|---|---|---|
";

#[test]
fn the_reference_is_what_the_command_line_says() {
    let reference = render();
    let file = Path::new(FILE);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(file, &reference).unwrap();
    }
    let written = fs::read_to_string(file).unwrap_or_default();
    let differs = written
        .lines()
        .zip(reference.lines())
        .find(|(old, new)| old != new);
    assert!(
        written == reference,
        "{FILE} is not up to date: run `{UPDATE}=1 cargo test -p handoff reference`; it differs \
         first in {differs:#?}"
    );
}

#[test]
fn every_command_documents_its_exit_codes() {
    let command = Cli::command();
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let codes: Vec<_> = exit_codes(command).into_iter().map(|(c, _)| c).collect();
        assert!(codes.contains(&"0".to_owned()), "{}", command.get_name());
        assert!(codes.contains(&"2".to_owned()), "{}", command.get_name());
    }
}

fn render() -> String {
    let command = Cli::command();
    let mut text = INTRODUCTION.to_owned();
    let mut codes = EXIT_CODES.to_owned();
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        render_command(&mut text, command);
        for (code, meaning) in exit_codes(command) {
            let name = command.get_name();
            writeln!(codes, "| `handoff {name}` | {code} | {} |", cell(&meaning)).unwrap();
        }
    }
    text + HANDOFF_TOML + &codes
}

fn render_command(text: &mut String, command: &Command) {
    let name = command.get_name();
    writeln!(text, "\n## handoff {name}\n").unwrap();
    writeln!(text, "{}", sentence(&plain(command.get_about()))).unwrap();
    if name == "check" {
        text.push_str("\nIt takes the options of `handoff run` as well.\n");
    }
    let own = command.get_arguments();
    // A check takes the options of a run, which have headings.
    let own: Vec<_> = own
        .filter(|arg| name != "check" || arg.get_env().is_none() && !arg.is_last_set())
        .collect();
    let mut headings: Vec<_> = own.iter().map(|arg| arg.get_help_heading()).collect();
    let mut seen = Vec::new();
    headings.retain(|heading| !seen.contains(heading) && (seen.push(*heading), true).1);
    for heading in headings {
        if let Some(heading) = heading {
            writeln!(text, "\n### {heading}").unwrap();
        }
        text.push_str("\n| option | variable | default | |\n|---|---|---|---|\n");
        for arg in own.iter().filter(|arg| arg.get_help_heading() == heading) {
            text.push_str(&row(arg, name == "run"));
        }
    }
}

fn row(arg: &Arg, is_run: bool) -> String {
    let help = plain(arg.get_long_help().or_else(|| arg.get_help()));
    // A default that depends on something is stated in the help.
    let (before, default, after) = match help.split_once(" [default: ") {
        Some((before, rest)) => {
            let (default, after) = rest.split_once(']').unwrap();
            (before, default.to_owned(), after)
        }
        None => (&*help, constant_default(arg), ""),
    };
    let mut description = sentence(before);
    if !after.is_empty() {
        write!(
            description,
            " {}",
            sentence(after.trim_start_matches(['.', ' ']))
        )
        .unwrap();
    }
    for value in arg.get_possible_values() {
        if let Some(help) = value.get_help() {
            let help = sentence(&plain(Some(help)));
            write!(description, " `{}`: {help}", value.get_name()).unwrap();
        }
    }
    let key = arg.get_long().unwrap_or_default();
    if is_run && ReloadableOptions::keys().iter().any(|known| known == key) {
        description.push_str(" *Reloaded.*");
    }
    let variable = arg.get_env().map(|name| format!("`{}`", name.display()));
    format!(
        "| {} | {} | {} | {} |\n",
        cell(&format!("`{}`", usage(arg))),
        variable.unwrap_or_default(),
        cell(&default),
        cell(&description)
    )
}

/// Returns an option as it is written: `--copy never|file|tree`.
fn usage(arg: &Arg) -> String {
    if arg.is_last_set() {
        return "-- COMMAND [ARG]...".to_owned();
    }
    let words = arg.get_possible_values();
    let words: Vec<_> = words.iter().map(|word| word.get_name()).collect();
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let value = if !arg.get_action().takes_values() {
        String::new()
    } else if words.is_empty() {
        names.join(" ")
    } else {
        words.join("|")
    };
    let short = arg.get_short().map(|short| format!("-{short}, "));
    match arg.get_long() {
        Some(name) => {
            let usage = format!("{}--{name} {value}", short.unwrap_or_default());
            usage.trim_end().to_owned()
        }
        None if arg.is_required_set() => value,
        None => format!("[{value}]"),
    }
}

fn constant_default(arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let values = arg.get_default_values().iter();
    let values: Vec<_> = values
        .map(|value| format!("`{}`", value.display()))
        .collect();
    values.join(" ")
}

/// Returns the codes and meanings that a command's help lists.
fn exit_codes(command: &Command) -> Vec<(String, String)> {
    let help = command.get_after_help().map(ToString::to_string);
    let help = help.unwrap_or_default();
    let mut codes: Vec<(String, String)> = Vec::new();
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        match (line.split_once("  "), codes.last_mut()) {
            (Some((code, meaning)), _) if !code.is_empty() => {
                codes.push((code.to_owned(), meaning.to_owned()));
            }
            (_, Some((_, meaning))) => *meaning = format!("{meaning} {}", line.trim()),
            (_, None) => {}
        }
    }
    codes
}

/// Returns a text in one line.
fn plain(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let paragraphs: Vec<_> = paragraphs.filter(|text| !text.is_empty()).collect();
    paragraphs.join(". ").replace(".. ", ". ")
}

/// Returns a text that begins with a capital letter and ends with a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let stop = if text.is_empty() || text.ends_with(['.', '!']) {
        ""
    } else {
        "."
    };
    format!("{text}{stop}")
}

/// Returns a text for a cell of a table, with its options in code style.
fn cell(text: &str) -> String {
    let mut in_code = false;
    let parts = text.split('`').map(|part| {
        let words = part.split(' ').map(|word| {
            let start = word.find("--").filter(|_| !in_code);
            let Some(start) = start else {
                return word.to_owned();
            };
            let option = &word[start..];
            let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
            let (option, end) = option.split_at(option.find(is_end).unwrap_or(option.len()));
            format!("{}`{option}`{end}", &word[..start])
        });
        let words: Vec<_> = words.collect();
        in_code = !in_code;
        words.join(" ")
    });
    let parts: Vec<_> = parts.collect();
    parts.join("`").replace('|', "\\|")
}
