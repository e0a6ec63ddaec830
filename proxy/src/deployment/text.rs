//! Decodes small text files in the encodings that shells write.

/// Decodes a text that people and their tools write: UTF-8, or UTF-16 as PowerShell's `>` and `cmd
/// /u` write it, with or without a byte order mark.
pub(crate) fn decode(content: &[u8]) -> Option<String> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, odd) = rest.as_chunks::<2>();
        let text = String::from_utf16(&units.iter().copied().map(unit).collect::<Vec<_>>());
        text.ok().filter(|_| odd.is_empty())
    };
    let text = match content {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        // Only UTF-16 without a byte order mark has a zero as its first or second byte.
        [first, 0, third, ..] if *first != 0 && *third != 0 => utf16(content, u16::from_le_bytes),
        [0, second, 0, ..] if *second != 0 => utf16(content, u16::from_be_bytes),
        _ => String::from_utf8(content.to_vec()).ok(),
    };
    // A path contains no zero, and the system would not explain its refusal.
    text.filter(|text| !text.trim_end_matches('\0').contains('\0'))
}

/// Removes blanks at both ends, and zeros that are left over from a longer text.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_in_whatever_encoding_a_shell_wrote_it() {
        let text = "C:\\größe\r\n";
        let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect();
        let (little, big): (Vec<u8>, Vec<u8>) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
        for content in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &*little].concat(),
            [b"\xfe\xff", &*big].concat(),
            little,
            big,
        ] {
            assert_eq!(decode(&content).as_deref(), Some(text), "{content:?}");
        }
        assert_eq!(decode(b"gr\xf6\xdfe"), None, "a code page");
        assert_eq!(decode(b"a\0b"), None);
        assert_eq!(decode(b"").as_deref(), Some(""));
    }
}
