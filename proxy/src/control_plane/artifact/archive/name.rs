//! Decides about names and links in archives. Pure.

use crate::os::files;

/// Maximum length; with the cache's path before them, longer names are beyond every system's limit.
const LONGEST: usize = 2048;

/// The characters that separate the components of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separators {
    /// `/`
    Slash,
    /// `/` and `\`, which old Windows tools write into zips.
    SlashAndBackslash,
}

/// Returns the components of an entry's name.
///
/// # Errors
/// A text about the name, when it is refused.
pub(super) fn components(name: &str, separators: Separators) -> Result<Vec<&str>, String> {
    let has_backslashes = separators == Separators::SlashAndBackslash;
    let separates = |c: char| c == '/' || (has_backslashes && c == '\\');
    let refused = |why: &str| Err(format!("the entry {name:?} {why}"));
    if name.len() > LONGEST {
        let start: String = name.chars().take(80).collect();
        return Err(format!("the name of the entry {start:?}… is too long"));
    }
    if name.contains('\0') {
        return refused("has a NUL in its name");
    }
    if name.starts_with(['/', '\\']) {
        return refused("has an absolute path");
    }
    let mut start = name.chars();
    if start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':') {
        return refused("has a path with a drive letter");
    }
    let mut components = Vec::new();
    for component in name.split(separates) {
        match component {
            "" | "." => {}
            ".." => return refused("leads out of the archive"),
            _ => match files::unusable_name(component) {
                None => components.push(component),
                Some(why) => return refused(why),
            },
        }
    }
    Ok(components)
}

/// Returns true if a link in the folder `depth` levels below the top may lead out of it.
///
/// `..` counts only at the start, where it goes up through folders that are no links themselves;
/// after a name it could go up from the target of a link of that name.
pub(super) fn leaves(target: &str, depth: usize) -> bool {
    let separated = target.replace('\\', "/");
    let mut start = separated.chars();
    let has_drive =
        start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':');
    if separated.starts_with('/') || has_drive || separated.contains('\0') {
        return true;
    }
    let mut up = 0;
    let mut has_name = false;
    for component in separated.split('/') {
        match component {
            "" | "." => {}
            ".." if has_name => return true,
            ".." => up += 1,
            _ => has_name = true,
        }
    }
    up > depth
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_could_lead_out_of_the_folder_is_refused() {
        for (name, why) in [
            ("../up", "leads out"),
            ("a/../../up", "leads out"),
            ("a/..", "leads out"),
            (r"a\..\..\up", "leads out"),
            ("/etc/passwd", "absolute"),
            (r"\\server\share\x", "absolute"),
            ("//server/share/x", "absolute"),
            (r"\windows", "absolute"),
            ("C:/x", "drive letter"),
            (r"c:\x", "drive letter"),
            ("c:x", "drive letter"),
            ("a\0b", "NUL"),
        ] {
            let error = components(name, Separators::SlashAndBackslash).unwrap_err();
            assert!(error.contains(why), "{name:?}: {error}");
        }
        assert!(components(&"a/".repeat(2000), Separators::SlashAndBackslash).is_err());
    }

    #[test]
    fn a_plain_name_is_its_components() {
        assert_eq!(
            components("a/b.txt", Separators::SlashAndBackslash).unwrap(),
            ["a", "b.txt"]
        );
        assert_eq!(
            components("./a//b/", Separators::SlashAndBackslash).unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            components(r"a\b", Separators::SlashAndBackslash).unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            components("..a/b..c", Separators::SlashAndBackslash).unwrap(),
            ["..a", "b..c"]
        );
        assert!(
            components("./", Separators::SlashAndBackslash)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_link_leaves_when_it_goes_up_too_far_or_somewhere_else() {
        for (target, depth) in [
            ("../x", 0),
            ("../../x", 1),
            ("/etc", 5),
            ("C:x", 5),
            (r"\\server\x", 5),
            (r"..\x", 0),
            ("a\0b", 0),
            // `l` may be a link to the top.
            ("l/../../x", 5),
        ] {
            assert!(leaves(target, depth), "{target:?} from {depth}");
        }
        for (target, depth) in [("x", 0), ("./x/y", 0), ("../x", 1), ("../../x/y", 2)] {
            assert!(!leaves(target, depth), "{target:?} from {depth}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_inside(name in r"[a./\\:\x00]{0,12}", backslash: bool) {
            let separators = if backslash {
                Separators::SlashAndBackslash
            } else {
                Separators::Slash
            };
            if let Ok(components) = components(&name, separators) {
                for component in components {
                    prop_assert!(!component.contains(['/', '\0']), "{:?}", component);
                    prop_assert!(![".", "..", ""].contains(&component));
                    prop_assert!(!(backslash && component.contains('\\')));
                }
            }
        }
    }
}
