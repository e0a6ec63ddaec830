//! The status page: one file that loads nothing from elsewhere.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::data_plane::base64;

/// The page. It takes its content from `/events`, always as text and never as markup.
pub(super) const HTML: &str = include_str!("page.html");

/// Returns the policy by which a browser runs only the page's own script and style, known by their
/// digests (CSP level 2), and connects only to this port.
pub(super) fn policy() -> String {
    static POLICY: OnceLock<String> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let [script, style] =
            ["script", "style"].map(|tag| base64::encode(&Sha256::digest(within(tag))));
        format!(
            "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        )
    });
    policy.clone()
}

/// Returns the content of the page's only element with this tag.
fn within(tag: &str) -> &'static str {
    let after = HTML.split_once(&format!("<{tag}>"));
    let within = after.and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
    within.map_or("", |(within, _)| within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_one_style_and_asks_for_nothing() {
        for tag in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert!(!within(tag).is_empty());
        }
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            let found: Vec<_> = HTML
                .lines()
                .filter(|line| line.contains(elsewhere))
                .collect();
            let allowed =
                |line: &&str| line.contains("data:") || line.contains("www.w3.org/2000/svg");
            assert!(found.iter().all(allowed), "{elsewhere}: {found:?}");
        }
        // Content is never markup, and no attribute is style or script.
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!HTML.contains(way), "{way}");
        }
    }
}
