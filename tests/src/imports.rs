//! The imports of a crate: which file names items of which other file.
//!
//! Read from the text of the sources, without a compiler: `use` trees and paths in code are
//! resolved (`crate::`, `self::`, `super::`, child modules, imported names), and re-exports are
//! followed to the file that defines the item. Tests, comments and literals do not count.

use std::collections::{BTreeMap, BTreeSet};

/// A path as absolute segments below the crate's root: `["data_plane", "pool"]`.
type Path = Vec<String>;

/// The files of one crate and the arrows between them.
#[derive(Debug, Default)]
pub struct Imports {
    /// The file of each module.
    files: BTreeMap<Path, String>,
    /// Items that a module re-exports, by the path under which others name them.
    exports: BTreeMap<Path, Path>,
    arrows: BTreeMap<Path, BTreeSet<Path>>,
}

/// A path as it stands in a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    path: Path,
    /// The name that it has in this module, if it is imported.
    imported_as: Option<String>,
    is_public: bool,
}

// === impl Imports ===

impl Imports {
    /// Reads the sources of a crate: paths below its `src`, and texts.
    pub fn read<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut imports = Self::default();
        let mut named = BTreeMap::new();
        for (path, text) in sources {
            let module = module_of(path);
            imports.files.insert(module.clone(), path.to_owned());
            named.insert(module, names(&tokens(code(text))));
        }
        for (module, names) in &named {
            for name in names {
                let exported_as = name.imported_as.as_ref().filter(|_| name.is_public);
                if let Some(exported_as) = exported_as
                    && let Some(target) = imports.absolute(module, name, &[])
                {
                    let name = std::slice::from_ref(exported_as);
                    let path = [module.as_slice(), name].concat();
                    imports.exports.insert(path, target);
                }
            }
        }
        for (module, names) in &named {
            let arrows = names
                .iter()
                .filter_map(|name| imports.absolute(module, name, names))
                .map(|path| imports.file_of(path))
                // A folder module consists of its files: that it names them is no arrow.
                .filter(|target| !target.is_empty() && !target.starts_with(module))
                .collect();
            imports.arrows.insert(module.clone(), arrows);
        }
        imports
    }

    /// Returns every arrow: a file, and one that it names.
    pub fn arrows(&self) -> impl Iterator<Item = (&str, &str)> {
        let arrows = self.arrows.iter();
        arrows.flat_map(|(from, all)| all.iter().map(|to| (self.file(from), self.file(to))))
    }

    /// Returns the groups of files that name each other in a circle, each sorted.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let mut found = BTreeSet::new();
        for from in self.arrows.keys() {
            let reached = self.reached(from);
            if reached.contains(from) {
                let circle = reached.iter().filter(|to| self.reached(to).contains(from));
                let mut circle: Vec<&str> = circle.map(|to| self.file(to)).collect();
                circle.sort_unstable();
                found.insert(circle);
            }
        }
        found.into_iter().collect()
    }

    /// Returns the modules that can be reached from one by at least one arrow.
    fn reached(&self, from: &Path) -> BTreeSet<Path> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(module) = ahead.pop() {
            for to in self.arrows.get(module).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    ahead.push(to);
                }
            }
        }
        reached
    }

    fn file(&self, module: &Path) -> &str {
        self.files.get(module).map_or("", String::as_str)
    }

    /// Returns the path of a name from the crate's root, if it is in the crate.
    fn absolute(&self, module: &[String], named: &Named, imported: &[Named]) -> Option<Path> {
        let mut rest = named.path.as_slice();
        let mut base = module;
        match rest.first()?.as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    base = &base[..base.len().checked_sub(1)?];
                    rest = &rest[1..];
                }
            }
            first => {
                let child = [module, &rest[..1]].concat();
                if !self.files.contains_key(&child) {
                    let is_meant = |other: &&Named| {
                        other.path != named.path && other.imported_as.as_deref() == Some(first)
                    };
                    let other = imported.iter().find(is_meant)?;
                    let other = self.absolute(module, other, &[])?;
                    return Some([other.as_slice(), &rest[1..]].concat());
                }
            }
        }
        Some([base, rest].concat())
    }

    /// Returns the module in whose file the item of this path is defined.
    fn file_of(&self, mut path: Path) -> Path {
        // A re-export may lead to another one; a circle of them does not compile.
        while let Some((export, target)) = (1..=path.len()).rev().find_map(|length| {
            let prefix = path[..length].to_vec();
            let is_module = self.files.contains_key(&prefix);
            let target = self.exports.get(&prefix).filter(|_| !is_module)?;
            Some((prefix, target))
        }) {
            path = [target.as_slice(), &path[export.len()..]].concat();
        }
        while !self.files.contains_key(&path) && !path.is_empty() {
            path.pop();
        }
        path
    }
}

/// Returns what comes before the tests of a file, which are always last.
pub fn code(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]");
    &text[..tests.unwrap_or(text.len())]
}

fn module_of(path: &str) -> Path {
    let path = path.trim_end_matches(".rs");
    let mut module: Path = path.split('/').map(str::to_owned).collect();
    module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    module
}

/// Returns identifiers, `::`, and single characters; without comments and literals.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = raw_string(rest) {
            raw
        } else if first == '"' {
            string(rest)
        } else if let Some(character) = character(rest) {
            character
        } else {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// Returns the length of the raw string that the text begins with.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let content = hashes.trim_start_matches('#').strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes.len() - content.len() - 1));
    let begin = text.len() - content.len();
    Some(begin + content.find(&end)? + end.len())
}

/// Returns the length of the string that the text begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Returns the length of the character, which is not a lifetime, that the text begins with.
fn character(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    let length = if content.starts_with('\\') {
        2 + content.get(2..)?.find('\'')?
    } else {
        content.chars().next()?.len_utf8()
    };
    content
        .get(length..)?
        .starts_with('\'')
        .then_some(length + 2)
}

/// Returns all paths of a source: those of its `use` declarations, and the others of more than one
/// segment.
fn names(tokens: &[&str]) -> Vec<Named> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let is_public = is_public(&tokens[..at]);
            at += 1;
            use_tree(tokens, &mut at, &[], is_public, &mut names);
        } else if tokens.get(at + 1) == Some(&"::") && is_identifier(tokens[at]) {
            let mut path = vec![tokens[at].to_owned()];
            while tokens.get(at + 1) == Some(&"::")
                && tokens.get(at + 2).is_some_and(|next| is_identifier(next))
            {
                path.push(tokens[at + 2].to_owned());
                at += 2;
            }
            names.push(Named {
                path,
                ..Named::default()
            });
        }
        at += 1;
    }
    names
}

/// Reads one tree of a `use` declaration, at whose first token `at` is, and leaves it behind.
fn use_tree(
    tokens: &[&str],
    at: &mut usize,
    prefix: &[String],
    is_public: bool,
    names: &mut Vec<Named>,
) {
    let mut path = prefix.to_vec();
    while let Some(&token) = tokens.get(*at) {
        *at += 1;
        if token == "{" {
            while tokens.get(*at).is_some_and(|&token| token != "}") {
                use_tree(tokens, at, &path, is_public, names);
                *at += usize::from(tokens.get(*at) == Some(&","));
            }
            *at += 1;
            return;
        }
        if token != "::" {
            path.push(token.to_owned());
            if tokens.get(*at) != Some(&"::") {
                break;
            }
        }
    }
    let is_glob = path.pop_if(|last| last == "*").is_some();
    if path.len() > prefix.len() {
        path.pop_if(|last| last == "self");
    }
    let mut name = path.last().cloned();
    if tokens.get(*at) == Some(&"as") {
        name = tokens.get(*at + 1).map(|&alias| alias.to_owned());
        *at += 2;
    }
    names.push(Named {
        path,
        imported_as: name.filter(|_| !is_glob),
        is_public,
    });
}

/// Returns whether a declaration behind these tokens begins with `pub`, or `pub(crate)` and the
/// like.
fn is_public(before: &[&str]) -> bool {
    match before.last() {
        Some(&"pub") => true,
        Some(&")") => {
            let open = before.iter().rposition(|&token| token == "(");
            open.is_some_and(|open| before[..open].last() == Some(&"pub"))
        }
        Some(_) | None => false,
    }
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
