//! The admin port, as a client sees it.

use std::cell::Cell;
use std::net::SocketAddr;

use prometheus_parse::{HistogramCount, Sample, Scrape, Value};

use crate::client::{Answer, Connection};
use crate::deployment::Running;
use crate::wait::eventually;

/// The metrics as Prometheus would read them.
#[derive(Debug)]
pub struct Metrics(Vec<Sample>);

impl Running {
    /// Returns the address of the admin port.
    pub fn admin(&self) -> SocketAddr {
        self.status().admin.expect("--admin")
    }

    /// A request to the admin port, as any program of this machine sends it.
    #[track_caller]
    pub fn look(&self, target: &str) -> Answer {
        self.look_as("GET", target, "Host: localhost\r\n")
    }

    /// A request to the admin port with these fields, and no others.
    #[track_caller]
    pub fn look_as(&self, method: &str, target: &str, fields: &str) -> Answer {
        let mut connection = Connection::open(self.admin()).expect("the admin port");
        let end = "Connection: close\r\n\r\n";
        connection.write(format!("{method} {target} HTTP/1.1\r\n{fields}{end}").as_bytes());
        connection.answer().expect("an answer at the admin port")
    }

    /// The metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let fields = "Host: localhost\r\nAccept: application/openmetrics-text\r\n";
        let answer = self.look_as("GET", "/metrics", fields);
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(answer.text())
    }

    /// Waits until a metric with these labels has this value.
    #[track_caller]
    pub fn await_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let last = Cell::new(None);
        eventually(
            || {
                self.failure(&format!(
                    "{name}{labels:?} is {value}; it is {:?}",
                    last.get()
                ))
            },
            || {
                last.set(self.metrics().value(name, labels));
                (last.get() == Some(value)).then_some(())
            },
        );
    }
}

impl Metrics {
    #[track_caller]
    fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        Self(Scrape::parse(lines).expect("metrics").samples)
    }

    /// The value of the one metric of this name with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.one(name, labels)? {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(*value),
            Value::Histogram(_) | Value::Summary(_) => None,
        }
    }

    /// The buckets of the one histogram of this name with these labels, each with all before it.
    pub fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Option<&[HistogramCount]> {
        match self.one(name, labels)? {
            Value::Histogram(buckets) => Some(buckets),
            Value::Counter(_) | Value::Gauge(_) | Value::Untyped(_) | Value::Summary(_) => None,
        }
    }

    fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Value> {
        let mut samples = self.0.iter().filter(|sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(key) == Some(*value);
            sample.metric == name && labels.iter().all(has)
        });
        let one = samples.next()?;
        assert!(samples.next().is_none(), "{name}{labels:?} is ambiguous");
        Some(&one.value)
    }
}
