//! What Prometheus collects.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::View;
use super::launches::{self, Launches};
use crate::data_plane::{self, TrafficTotals};
use crate::deployment::status::{InstanceStatus, Status};
use crate::os::memory::resident_memory;
use crate::release::Generation;

/// How the text below is called (OpenMetrics 1.0, which Prometheus asks for since 2.5).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// 1xx to 5xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Everything at one moment.
#[derive(Debug)]
struct Scrape {
    status: Status,
    held: usize,
    totals: TrafficTotals,
    launches: Launches,
    dropped_lines: Vec<(&'static str, u64)>,
}

/// One metric in the making.
struct Metric<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// The text.
pub(super) fn text(view: &View) -> String {
    let scrape = Scrape {
        status: view.status.borrow().clone(),
        held: view.router.held(),
        totals: view.tallies.read(),
        launches: view.launches.borrow().clone(),
        dropped_lines: view.tail.dropped_lines(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    if let Err(error) = text::encode(&mut text, &registry) {
        // Writing to a string does not fail.
        tracing::error!(%error, "the metrics cannot be written");
    }
    text
}

// === impl Scrape ===

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = Metric { encoder };
        self.requests(&mut metric)?;
        self.instances(&mut metric)?;
        self.handoffs(&mut metric)?;
        self.process(&mut metric)
    }
}

impl Scrape {
    fn requests(&self, metric: &mut Metric<'_>) -> fmt::Result {
        let totals = &self.totals;
        let answers = || {
            let all = totals.responses.iter();
            all.map(|(generation, answered)| (label(*generation), answered))
        };
        metric.counters(
            "handoff_requests",
            "Answers to clients, by status code and by the generation that answered (none: handoff)",
            answers().flat_map(|(generation, answered)| {
                let counts = CLASSES.iter().zip(answered.by_class);
                counts.map(move |(&class, count)| {
                    let code = ("code", class.to_owned());
                    ([code, ("generation", generation.clone())], count)
                })
            }),
        )?;
        metric.histograms(
            "handoff_request_duration",
            "From a request's head to the head of its answer, with the time it was held",
            &data_plane::BUCKETS,
            answers().map(|(generation, answered)| {
                let label = [("generation", generation)];
                (label, &answered.by_time[..], answered.time.as_secs_f64())
            }),
        )?;
        metric.gauge(
            "handoff_held_requests",
            "Requests that wait for an instance",
            self.held as f64,
        )?;
        metric.gauge(
            "handoff_client_connections",
            "Connections of clients, tunnels too",
            totals.connections as f64,
        )?;
        metric.counters(
            "handoff_retries",
            "Requests that were sent again (closed: the app had closed an idle connection), and \
             connections that were tried again (refused)",
            [
                ([("reason", "closed".to_owned())], totals.retried),
                ([("reason", "refused".to_owned())], totals.refused),
            ],
        )?;
        metric.counters(
            "handoff_evictions",
            "What was cut because its release had been replaced",
            [
                ([("class", "request".to_owned())], totals.evicted_requests),
                ([("class", "tunnel".to_owned())], totals.evicted_tunnels),
            ],
        )?;
        metric.counter(
            "handoff_unanswered_requests",
            "Requests that ended with 502 though they may have reached the app: no answer came, and \
             sending them again might do their work twice",
            totals.unanswered,
        )
    }

    fn instances(&self, metric: &mut Metric<'_>) -> fmt::Result {
        let gauges = |value: fn(&InstanceStatus) -> Option<f64>| {
            let all = self.all_instances().into_iter();
            all.filter_map(move |(_, instance)| {
                let label = [("generation", instance.generation.to_string())];
                Some((label, value(instance)?))
            })
        };
        metric.gauges(
            "handoff_instance",
            "Always 1: which release a generation runs, and in which state",
            None,
            self.all_instances().into_iter().map(|(state, instance)| {
                let generation = ("generation", instance.generation.to_string());
                let release = ("release", instance.release.to_string());
                ([generation, release, ("state", state.to_owned())], 1.0)
            }),
        )?;
        metric.gauges(
            "handoff_in_flight_requests",
            "Requests and tunnels that have not ended",
            None,
            gauges(|instance| Some(instance.in_flight as f64)),
        )?;
        metric.gauges(
            "handoff_tunnels",
            "How many of them are tunnels or event streams",
            None,
            gauges(|instance| Some(instance.tunnels as f64)),
        )?;
        metric.gauges(
            "handoff_instance_resident_memory",
            "Memory of the process that was started",
            Some(&Unit::Bytes),
            gauges(|instance| Some(resident_memory(instance.pid?)? as f64)),
        )
    }

    fn handoffs(&self, metric: &mut Metric<'_>) -> fmt::Result {
        let outcomes = self.launches.outcomes.iter();
        metric.counters(
            "handoff_handoffs",
            "What became of launches; one that was promoted may be refused later",
            outcomes.map(|(outcome, count)| ([("outcome", (*outcome).to_owned())], *count)),
        )?;
        let phases = self.launches.phases.iter();
        metric.histograms(
            "handoff_phase_duration",
            "How long the phases of a launch took",
            &launches::BUCKETS,
            phases.map(|(phase, lengths)| {
                let label = [("phase", (*phase).to_owned())];
                (label, &lengths.counts[..], lengths.seconds)
            }),
        )?;
        metric.counter(
            "handoff_app_restarts",
            "Launches of a release that ran last: it had ended, or somebody asked for it",
            self.launches.restarts,
        )?;
        metric.gauge(
            "handoff_alarm",
            "1 while the active instance is not well and nothing better is known",
            f64::from(u8::from(self.status.alarm.is_some())),
        )
    }

    fn process(&self, metric: &mut Metric<'_>) -> fmt::Result {
        let version = ("version", self.status.version.to_string());
        let sidecar = ("sidecar", self.status.sidecar.to_string());
        metric.gauges(
            "handoff_sidecar",
            "Always 1: which sidecar this is",
            None,
            [([version, sidecar], 1.0)],
        )?;
        let dropped = self.dropped_lines.iter();
        metric.counters(
            "handoff_dropped_log_lines",
            "Lines that could not be written in time, by log",
            dropped.map(|(of, lines)| ([("log", (*of).to_owned())], *lines)),
        )?;
        let memory = resident_memory(self.status.pid);
        metric.one_gauge(
            "process_resident_memory",
            "handoff's own memory",
            Some(&Unit::Bytes),
            memory.unwrap_or_default() as f64,
        )?;
        metric.one_gauge(
            "process_start_time",
            "When handoff was started, since the Unix epoch",
            Some(&Unit::Seconds),
            self.status.started_ms.0 as f64 / 1000.0,
        )
    }

    fn all_instances(&self) -> Vec<(&'static str, &InstanceStatus)> {
        let status = &self.status;
        let one = |state, instance| Option::iter(instance).map(move |it| (state, it));
        let more = |state, instances| <[_]>::iter(instances).map(move |it| (state, it));
        one("active", &status.active)
            .chain(one("candidate", &status.candidate))
            .chain(one("standby", &status.standby))
            .chain(more("draining", &status.draining))
            .chain(more("stopping", &status.stopping))
            .collect()
    }
}

fn label(generation: Option<Generation>) -> String {
    generation.map_or_else(|| "none".to_owned(), |generation| generation.to_string())
}

// === impl Metric ===

impl Metric<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut one = self.encoder.encode_descriptor(name, help, None, kind)?;
        one.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.one_gauge(name, help, None, value)
    }

    fn one_gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: f64,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut one = self.encoder.encode_descriptor(name, help, unit, kind)?;
        one.encode_gauge(&value)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.encoder.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Lengths of time, in seconds.
    fn histograms<'v, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        ends: &[f64],
        values: impl IntoIterator<Item = (L, &'v [u64], f64)>,
    ) -> fmt::Result {
        let (unit, kind) = (Some(&Unit::Seconds), MetricType::Histogram);
        let mut family = self.encoder.encode_descriptor(name, help, unit, kind)?;
        for (labels, counts, seconds) in values {
            let ends = ends.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts.iter().copied()).collect();
            let mut one = family.encode_family(&labels)?;
            let all = counts.iter().sum();
            one.encode_histogram::<NoLabelSet>(seconds, all, &buckets, None)?;
        }
        Ok(())
    }
}
