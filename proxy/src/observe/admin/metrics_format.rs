//! The formats of the metrics, and the choice between them.

use std::collections::BTreeSet;

use http::{HeaderMap, header};

/// A format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// The text format of Prometheus, which everything can read.
    Text,
    /// OpenMetrics 1.0, which Prometheus asks for since 2.5.
    OpenMetrics,
}

// === impl MetricsFormat ===

impl MetricsFormat {
    /// Chooses OpenMetrics for a client that names it, and does not prefer plain text: RFC 9110,
    /// section 12.5.1.
    pub(super) fn negotiate(fields: &HeaderMap) -> Self {
        let accepted = fields.get_all(header::ACCEPT).into_iter();
        let accepted = accepted.filter_map(|value| value.to_str().ok());
        let (mut open_metrics, mut text, mut any) = (0.0_f32, None, 0.0_f32);
        for range in accepted.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight =
                parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight: f32 = weight.and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
            match kind.as_str() {
                "application/openmetrics-text" => open_metrics = open_metrics.max(weight),
                "text/plain" => text = Some(weight.max(text.unwrap_or(0.0))),
                "text/*" | "*/*" => any = any.max(weight),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= text.unwrap_or(any) {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns metrics in this format, from those in OpenMetrics.
    pub(super) fn write(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => as_text(&open_metrics),
        }
    }
}

/// Returns OpenMetrics in the text format: there, the description of a counter names it as its
/// samples do, and units and the end are not marked.
fn as_text(open_metrics: &str) -> String {
    let counters = open_metrics.lines().filter_map(|line| {
        let named = line.strip_prefix("# TYPE ")?;
        named.strip_suffix(" counter")
    });
    let counters: BTreeSet<&str> = counters.collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(name) => {
                text.extend(["# ", kind, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_open_metrics_if_it_asks_for_them() {
        let format = |accept: &str| {
            let value = header::HeaderValue::from_str(accept).unwrap();
            MetricsFormat::negotiate(&HeaderMap::from_iter([(header::ACCEPT, value)]))
        };
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text",
        ] {
            assert_eq!(format(accept), MetricsFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;q=0.2, text/plain;q=0.9",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(format(accept), MetricsFormat::Text, "{accept}");
        }
        let none = MetricsFormat::negotiate(&HeaderMap::new());
        assert_eq!(none, MetricsFormat::Text);
    }

    #[test]
    fn the_text_format_names_counters_as_their_samples_and_has_no_end() {
        let open_metrics = "# HELP a Counts things.\n# TYPE a counter\na_total{x=\"1\"} 2\n\
            # HELP b_bytes Size.\n# TYPE b_bytes gauge\n# UNIT b_bytes bytes\nb_bytes 1.0\n# EOF\n";
        let text = "# HELP a_total Counts things.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
            # HELP b_bytes Size.\n# TYPE b_bytes gauge\nb_bytes 1.0\n";
        assert_eq!(as_text(open_metrics), text);
    }
}
