//! Text that a terminal shows, and does not obey.
//!
//! A control character in what an app, an archive or a file says could move the cursor, write over
//! earlier lines, or change the title and the clipboard of whoever reads it. One that changes the
//! direction of the writing shows the rest of a line in another order.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the text with each control character as `\x1b`, except for tabs and the ends of lines, and
/// with each character that breaks a line or turns the writing as `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c, shown| {
        // Writing to a string cannot fail.
        let _ = if c.is_control() {
            write!(shown, "\\x{:02x}", u32::from(c))
        } else {
            write!(shown, "{}", c.escape_unicode())
        };
    })
}

/// Returns the same JSON with the control characters that may stand in its strings as `\u009b`.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(json, |c, shown| {
        let _ = write!(shown, "\\u{:04x}", u32::from(c));
    })
}

/// Returns true if the terminal obeys no control sequences.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let obeyed = |c: char| {
        c.is_control() && c != '\t' && c != '\n'
            // Separators of lines and paragraphs; embeddings, overrides and isolates of directions.
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            escape(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        let text = "a\tb\nü \x1b]0;title\x07\r\0\x7f\u{9b}2J";
        let shown = "a\tb\nü \\x1b]0;title\\x07\\x0d\\x00\\x7f\\x9b2J";
        assert_eq!(printable(text), shown);
        let text = "שלום\u{202e}gpj.exe\u{2066}\u{2028}";
        let shown = "שלום\\u{202e}gpj.exe\\u{2066}\\u{2028}";
        assert_eq!(printable(text), shown);
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
        let json = "{\"a\":\"\x7f\u{9b}\"}";
        assert_eq!(printable_json(json), "{\"a\":\"\\u007f\\u009b\"}");
        assert_eq!(printable_json("\"\u{202e}\""), "\"\\u202e\"");
    }
}
