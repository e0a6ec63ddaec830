//! `%NAME%` as Windows expands it, and command lines as Windows programs split them.

use std::collections::BTreeMap;

/// The variables of a process; names differ in more than case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Sets a variable, whatever the case of one that is there.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|known, _| !known.eq_ignore_ascii_case(name));
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Its value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut variables = self.0.iter();
        let found = variables.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.0.iter();
        variables.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Replaces each `%NAME%` that is known; what is not stays as it is written.
    pub fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            expanded.push_str(before);
            let value = after
                .split_once('%')
                .and_then(|(name, after)| Some((self.get(name)?, after)));
            match value {
                Some((value, after)) => {
                    expanded.push_str(value);
                    rest = after;
                }
                None => {
                    expanded.push('%');
                    rest = after;
                }
            }
        }
        expanded + rest
    }
}

/// The arguments that a C program makes of a command line.
///
/// Quotes group; before a quote, two backslashes are one and an odd one makes it a character.
pub fn split(command_line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument: Option<String> = None;
    let (mut is_quoted, mut backslashes) = (false, 0);
    let mut characters = command_line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\' {
            backslashes += 1;
            argument.get_or_insert_default();
            continue;
        }
        let written = match character {
            '"' => backslashes / 2,
            _ => backslashes,
        };
        let is_escaped = backslashes % 2 == 1;
        backslashes = 0;
        if let Some(argument) = &mut argument {
            argument.extend(std::iter::repeat_n('\\', written));
        }
        match character {
            '"' if is_escaped => argument.get_or_insert_default().push('"'),
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                argument.get_or_insert_default().push('"');
            }
            '"' => {
                is_quoted = !is_quoted;
                argument.get_or_insert_default();
            }
            ' ' | '\t' if !is_quoted => arguments.extend(argument.take()),
            other => argument.get_or_insert_default().push(other),
        }
    }
    if let Some(mut argument) = argument {
        argument.extend(std::iter::repeat_n('\\', backslashes));
        arguments.push(argument);
    }
    arguments
}
