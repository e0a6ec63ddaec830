//! File names that Windows does not support ("Naming Files, Paths, and Namespaces"): pure, and so
//! tested on every system.

/// Names of devices, in every folder and with any suffix.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Returns the reason why a file cannot have this name on Windows, or would get another one.
pub fn unusable_on_windows(name: &str) -> Option<&'static str> {
    if name.ends_with(['.', ' ']) {
        return Some("has a name that ends in a dot or a blank, which Windows takes off");
    }
    if name.contains(|c: char| c < ' ' || r#"<>:"|?*\/"#.contains(c)) {
        return Some("has a character in its name that Windows does not allow");
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_lowercase();
    let numbered = ["com", "lpt"].iter().any(|device| {
        let mut number = stem.strip_prefix(device).unwrap_or_default().chars();
        matches!(number.next(), Some('0'..='9' | '¹' | '²' | '³')) && number.next().is_none()
    });
    if numbered || DEVICES.contains(&&*stem) {
        return Some("has the name of a device on Windows");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_would_misunderstand_are_unusable_there() {
        for name in [
            "nul",
            "NUL.txt",
            "aux.tar.gz",
            "Com1",
            "lpt9.log",
            "COM²",
            "con .txt",
            "CONIN$",
            "a.",
            "a ",
            "a:stream",
            "a?b",
            "a|b",
            "a\\b",
            "a\u{1}b",
            "...",
        ] {
            assert!(unusable_on_windows(name).is_some(), "{name:?}");
        }
        for name in [
            "null",
            "com",
            "com10",
            "console.log",
            ".env",
            "a.b c",
            "größe",
            "lpt",
        ] {
            assert_eq!(unusable_on_windows(name), None, "{name:?}");
        }
    }
}
