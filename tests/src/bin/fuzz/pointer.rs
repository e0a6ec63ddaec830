//! Pointer files.

use std::path::Path;

use handoff::deployment::Pointer;
use proptest::prelude::*;

use crate::soup;

const WORDS: &[&str] = &[
    "app",
    "v1",
    "/",
    "\\",
    ".",
    "..",
    " ",
    "\t",
    "\r\n",
    "\n",
    "\"",
    "'",
    "%",
    "%HOME%",
    "%NO%",
    "sha256=",
    "SHA256=",
    "id=",
    "=",
    "\u{feff}",
    "\0",
    "é",
    "abababababababababababababababababab",
    "C:",
    "#",
];

pub(super) fn content() -> impl Strategy<Value = (Vec<u8>, u8)> {
    (soup(WORDS, 10), 0..4_u8)
}

/// Nothing panics, nothing that was read has a zero or a line end in it, and how a text was
/// encoded makes no difference.
pub(super) fn parse((content, encoding): (Vec<u8>, u8)) -> Result<(), TestCaseError> {
    let parse = |content: &[u8]| {
        Pointer::parse(content, Path::new("/site"), |name| {
            (name == "HOME").then(|| "/home".to_owned())
        })
    };
    let plain = parse(&content);
    if let Ok(pointer) = &plain {
        let path = pointer.path.to_string_lossy();
        prop_assert!(!path.contains(['\0', '\n']), "{path:?}");
        prop_assert!(pointer.path.is_absolute());
        let id = pointer.id.as_deref().unwrap_or("id");
        prop_assert!(!id.is_empty() && !id.contains(['\0', '\n']), "{id:?}");
    }
    let Ok(text) = std::str::from_utf8(&content) else {
        return Ok(());
    };
    // With a zero in it, and no mark, it is taken for UTF-16.
    if text.starts_with('\u{feff}') || text.contains('\0') {
        return Ok(());
    }
    let marked = match encoding {
        0 => [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        1 => [0xfeff]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect(),
        2 => [0xfeff]
            .into_iter()
            .chain(text.encode_utf16())
            .flat_map(u16::to_be_bytes)
            .collect(),
        _ => content.clone(),
    };
    prop_assert_eq!(parse(&marked), plain);
    Ok(())
}
