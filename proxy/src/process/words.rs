//! The words of a command that is written as one text.

/// Splits `text` at its blanks. Quotes (`"…"` or `'…'`) keep a word together, and a backslash is a
/// letter as any other: it occurs in paths on Windows. `None` if a quote is not closed.
pub fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                // `""` is a word too.
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_separate_words_and_quotes_keep_them_together() {
        let words = |text| split(text).map(|words| words.join("|"));
        assert_eq!(words("  a  b\tc ").unwrap(), "a|b|c");
        assert_eq!(
            words(r#"sh -c "exit 1; 'x'""#).unwrap(),
            "sh|-c|exit 1; 'x'"
        );
        assert_eq!(words(r#"C:\my" app"\x '' y"#).unwrap(), r"C:\my app\x||y");
        assert_eq!(words("").unwrap(), "");
        assert_eq!(words("a 'b"), None);
    }
}
