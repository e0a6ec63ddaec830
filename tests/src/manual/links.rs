//! Links between pages, and to places within them.

use std::collections::BTreeSet;
use std::fs;

use super::{Page, root};

impl Page {
    /// Returns the links that lead nowhere.
    pub fn broken_links(&self) -> Vec<String> {
        let prose = self.prose();
        let defined = prose
            .lines()
            .filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
        let defined: Vec<_> = defined.collect();
        let labels: BTreeSet<_> = defined.iter().map(|(label, _)| *label).collect();
        let inline = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let used = prose
            .split("][")
            .skip(1)
            .filter_map(|rest| rest.split(']').next());
        let undefined = used.filter(|label| !labels.contains(label));
        let undefined = undefined.map(|label| format!("{}: [{label}] is not defined", self.path));
        let targets = defined.iter().map(|(_, target)| *target).chain(inline);
        let broken = targets.filter(|target| !target.contains("://") && !self.has_target(target));
        let broken = broken.map(|target| format!("{}: nothing at {target}", self.path));
        broken.chain(undefined).collect()
    }

    fn has_target(&self, target: &str) -> bool {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let own = root().join(&self.path);
        let path = match path {
            "" => own,
            path => own.with_file_name("").join(path),
        };
        if anchor.is_empty() {
            return path.exists();
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with('#'))
            .any(|line| slug(line.trim_start_matches('#')) == anchor)
    }
}

/// Returns the anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    heading.trim().chars().filter_map(kept).collect()
}
