//! The format of log lines, which tells the app's lines from handoff's own.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use crate::os::terminal::printable;

/// Target of the events that are lines of apps.
pub(super) const APP_TARGET: &str = "app";

/// A format that marks the lines of apps: text at its start, JSON with the key `source`.
#[derive(Debug)]
pub(super) struct LineFormat<F> {
    /// Format of handoff's own lines.
    inner: F,
    format: LogFormat,
}

/// The fields of an app's line.
#[derive(Default)]
struct AppLine {
    generation: u64,
    release: String,
    stream: String,
    text: String,
}

// === impl LineFormat ===

impl<F> LineFormat<F> {
    pub(super) fn new(inner: F, format: LogFormat) -> Self {
        Self { inner, format }
    }
}

impl<S, N, F> FormatEvent<S, N> for LineFormat<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let is_apps = event.metadata().target() == APP_TARGET;
        match self.format {
            LogFormat::Text if is_apps => {
                let mut line = AppLine::default();
                event.record(&mut line);
                line.write(&mut writer)
            }
            LogFormat::Text => self.inner.format_event(context, writer, event),
            LogFormat::Json => {
                let mut object = String::new();
                let inner = Writer::new(&mut object);
                self.inner.format_event(context, inner, event)?;
                let source = if is_apps { "app" } else { "handoff" };
                let rest = object.strip_prefix('{').unwrap_or(&object);
                write!(writer, "{{\"source\":\"{source}\",{rest}")
            }
        }
    }
}

// === impl AppLine ===

impl AppLine {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (dim, plain) = if writer.has_ansi_escapes() {
            ("\x1b[2m", "\x1b[0m")
        } else {
            ("", "")
        };
        write!(writer, "{dim}")?;
        SystemTime.format_time(writer)?;
        let Self {
            generation,
            release,
            stream,
            ..
        } = self;
        write!(writer, " app[{generation} {release} {stream}]{plain} ")?;
        writeln!(writer, "{}", printable(&self.text))
    }
}

impl Visit for AppLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => &mut self.text,
            "release" => &mut self.release,
            "stream" => &mut self.stream,
            _ => return,
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "generation" {
            self.generation = value;
        }
    }
}
