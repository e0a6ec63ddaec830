//! The fields of an event in a line of text: numbers as they are, each text in quotes.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// A format with quotes around each text, however it was recorded.
#[derive(Debug)]
pub(super) struct TextFields;

struct FieldWriter<'a> {
    writer: Writer<'a>,
    is_first: bool,
    result: fmt::Result,
}

/// A writer of a text between quotes.
struct QuotedText<'a, 'b>(&'a mut Writer<'b>);

// === impl TextFields ===

impl<'a> FormatFields<'a> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter {
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

// === impl FieldWriter ===

impl FieldWriter<'_> {
    fn write_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.write(field, |writer| {
            writer.write_char('"')?;
            QuotedText(writer).write_fmt(text)?;
            writer.write_char('"')
        });
    }

    fn write_number(&mut self, field: &Field, number: fmt::Arguments<'_>) {
        self.write(field, |writer| writer.write_fmt(number));
    }

    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        self.result = self.result.and_then(|()| {
            self.begin(field.name())?;
            value(&mut self.writer)
        });
    }

    fn write_message(&mut self, text: fmt::Arguments<'_>) {
        self.result = self.result.and_then(|()| {
            self.separate()?;
            self.writer.write_fmt(text)
        });
    }

    fn begin(&mut self, name: &str) -> fmt::Result {
        self.separate()?;
        if self.writer.has_ansi_escapes() {
            write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")
        } else {
            write!(self.writer, "{name}=")
        }
    }

    fn separate(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.is_first) {
            return Ok(());
        }
        self.writer.write_char(' ')
    }
}

impl Visit for FieldWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.write_message(format_args!("{value:?}"));
        } else {
            self.write_text(field, format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write_number(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write_number(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write_number(field, format_args!("{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write_number(field, format_args!("{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write_number(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write_number(field, format_args!("{value}"));
    }
}

// === impl QuotedText ===

impl fmt::Write for QuotedText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(['"', '\\']) {
            let plain = part.trim_end_matches(['"', '\\']);
            self.0.write_str(plain)?;
            if let Some(special) = part[plain.len()..].chars().next() {
                write!(self.0, "\\{special}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn each_text_is_quoted_and_no_number_is() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .fmt_fields(TextFields)
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                event = "release_refused",
                generation = 3_u64,
                release = %"v1",
                reason = %"generation 1 is ready",
                error = %r#""C:\site" is gone"#,
                is_new = true,
                empty = "",
                "it was tried"
            );
        });
        let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let expected = concat!(
            " INFO it was tried event=\"release_refused\" generation=3 release=\"v1\" ",
            "reason=\"generation 1 is ready\" error=\"\\\"C:\\\\site\\\" is gone\" ",
            "is_new=true empty=\"\"\n"
        );
        assert_eq!(written, expected);
    }
}
