//! A writer of log lines that a terminal does not obey.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::LogFormat;
use crate::os::terminal::{printable, printable_json};

/// Colours of the lines on a terminal: the only sequences that handoff itself writes.
const COLOURS: [&str; 10] = [
    "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m",
    "\x1b[35m", "\x1b[36m",
];
/// Indentation of the lines of an event after its first, which could be taken for other events.
const INDENTATION: &str = "\n    ";

/// A destination of lines, each of which arrives in one piece.
#[derive(Debug)]
pub(super) struct Printable<W> {
    to: W,
    format: LogFormat,
    is_coloured: bool,
}

// === impl Printable ===

impl<W> Printable<W> {
    pub(super) fn new(to: W, format: LogFormat, is_coloured: bool) -> Self {
        Self {
            to,
            format,
            is_coloured,
        }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Printable<W> {
    type Writer = Printable<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Printable::new(self.to.make_writer(), self.format, self.is_coloured)
    }
}

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = match self.format {
            LogFormat::Json => printable_json(&text).into_owned(),
            LogFormat::Text if self.is_coloured => coloured(&text),
            LogFormat::Text => printable(&text).into_owned(),
        };
        let end = shown.trim_end_matches('\n');
        let shown = match self.format {
            LogFormat::Text if end.contains('\n') => end.replace('\n', INDENTATION) + "\n",
            LogFormat::Text | LogFormat::Json => shown,
        };
        self.to.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Returns a text in which colours stay as they are.
fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        shown += &printable(&rest[..at]);
        rest = &rest[at..];
        let colour = COLOURS.iter().find(|colour| rest.starts_with(**colour));
        let length = colour.map_or(1, |colour| colour.len());
        let sequence = &rest[..length];
        match colour {
            Some(colour) => shown += colour,
            None => shown += &printable(sequence),
        }
        rest = &rest[length..];
    }
    shown + &printable(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, format: LogFormat, is_coloured: bool) -> String {
        let mut to = Vec::new();
        let mut printable = Printable::new(&mut to, format, is_coloured);
        printable.write_all(line.as_bytes()).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_line_has_colours_of_ours_and_no_other_control_character() {
        let line = "\x1b[32m INFO\x1b[0m a\x1b[2Jb\r\x07\n";
        let plain = "\\x1b[32m INFO\\x1b[0m a\\x1b[2Jb\\x0d\\x07\n";
        assert_eq!(written(line, LogFormat::Text, false), plain);
        let coloured = "\x1b[32m INFO\x1b[0m a\\x1b[2Jb\\x0d\\x07\n";
        assert_eq!(written(line, LogFormat::Text, true), coloured);
        let json = written("{\"a\":\"\u{9b}\"}\n", LogFormat::Json, false);
        assert_eq!(json, "{\"a\":\"\\u009b\"}\n");
    }

    #[test]
    fn no_part_of_an_event_looks_like_another_event() {
        let line = "INFO a\n2026 ERROR b\n";
        assert_eq!(
            written(line, LogFormat::Text, false),
            "INFO a\n    2026 ERROR b\n"
        );
    }
}
