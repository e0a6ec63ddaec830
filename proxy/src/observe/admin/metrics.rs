//! Metrics for Prometheus.

use std::fmt;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::launches::{self, LaunchCounts};
use super::view::{View, all_instances};
use crate::data_plane::{self, TrafficTotals};
use crate::deployment::status::{CanaryStatus, InstanceStatus, Status};
use crate::os::memory::resident_memory;
use crate::release::Generation;
use crate::router::Observation;

/// Labels of the classes of status codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All figures at one moment.
#[derive(Debug)]
struct Scrape {
    status: Status,
    held: usize,
    progress: Observation,
    totals: TrafficTotals,
    launches: LaunchCounts,
    dropped_lines: Vec<(&'static str, u64)>,
}

/// A writer of metrics.
struct MetricWriter<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// Returns all metrics as OpenMetrics.
pub(super) fn text(view: &View) -> String {
    let upstream = view.router.acquire_active();
    let scrape = Scrape {
        status: view.complete_status(),
        held: view.router.held(),
        progress: upstream
            .map(|upstream| upstream.progress().read())
            .unwrap_or_default(),
        totals: view.counters.read(),
        launches: view.launches.borrow().clone(),
        dropped_lines: view.tail.dropped_lines(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    if let Err(error) = text::encode(&mut text, &registry) {
        // Writing to a string does not fail.
        tracing::error!(event = "metrics_not_written", %error, "cannot write the metrics");
    }
    text
}

// === impl Scrape ===

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = MetricWriter { encoder };
        self.requests(&mut metric)?;
        self.instances(&mut metric)?;
        self.canary(&mut metric)?;
        self.handoffs(&mut metric)?;
        self.process(&mut metric)
    }
}

impl Scrape {
    fn requests(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let totals = &self.totals;
        let answers = || {
            let all = totals.responses.iter();
            all.map(|(generation, answered)| (label(*generation), answered))
        };
        metric.counters(
            "handoff_requests",
            "Responses to clients, by class of status code and by generation (none: handoff itself)",
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
            "Time from the head of a request to the head of its response, including the time held",
            &data_plane::BUCKETS,
            answers().map(|(generation, answered)| {
                let label = [("generation", generation)];
                (label, &answered.by_time[..], answered.time.as_secs_f64())
            }),
        )?;
        metric.gauge(
            "handoff_held_requests",
            "Requests that are held until an instance is active",
            self.held as f64,
        )?;
        metric.gauge(
            "handoff_maintenance",
            "1 while new requests are refused because of a maintenance",
            f64::from(u8::from(self.status.maintenance.is_some())),
        )?;
        metric.gauge(
            "handoff_client_connections",
            "Open connections of clients, including tunnels",
            totals.connections as f64,
        )?;
        metric.counters(
            "handoff_retries",
            "Requests that were sent to the app again, because it had closed an idle connection \
             (closed), and connections that were tried again (refused)",
            [
                ([("reason", "closed".to_owned())], totals.retried),
                ([("reason", "refused".to_owned())], totals.refused),
            ],
        )?;
        metric.counters(
            "handoff_evictions",
            "Requests and tunnels that were cut after their release had been replaced",
            [
                ([("class", "request".to_owned())], totals.evicted_requests),
                ([("class", "tunnel".to_owned())], totals.evicted_tunnels),
            ],
        )?;
        metric.counter(
            "handoff_unanswered_requests",
            "Requests that got status 502 although they may have reached the app: it did not respond, \
             and they cannot be repeated safely",
            totals.unanswered,
        )?;
        metric.counter(
            "handoff_http2_floods",
            "Connections of HTTP/2 that were ended because their clients cancelled or sent too much",
            totals.floods,
        )?;
        self.progress(metric)
    }

    fn progress(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let age = |at: Instant| at.elapsed().as_secs_f64();
        metric.one_gauge(
            "handoff_oldest_unanswered_request",
            "Time for which the oldest request has waited for the active instance's answer",
            Some(&Unit::Seconds),
            self.progress.unanswered_since.map_or(0.0, age),
        )?;
        if let Some(at) = self.progress.last_answer {
            metric.one_gauge(
                "handoff_time_since_last_answer",
                "Time since the active instance's last answer",
                Some(&Unit::Seconds),
                age(at),
            )?;
        }
        let unanswered = self.status.unanswered.as_ref();
        let is_unresponsive = unanswered.is_some_and(|found| found.unresponsive_ms.is_some());
        metric.gauge(
            "handoff_unresponsive",
            "1 while requests wait for the active instance, and none is answered for longer than \
             --unresponsive-after",
            f64::from(u8::from(is_unresponsive)),
        )
    }

    fn instances(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let gauges = |value: fn(&InstanceStatus) -> Option<f64>| {
            let all = all_instances(&self.status).into_iter();
            all.filter_map(move |(_, instance)| {
                let label = [("generation", instance.generation.to_string())];
                Some((label, value(instance)?))
            })
        };
        metric.gauges(
            "handoff_instance",
            "Always 1; labels name the release and the state of a generation",
            None,
            all_instances(&self.status)
                .into_iter()
                .map(|(state, instance)| {
                    let generation = ("generation", instance.generation.to_string());
                    let release = ("release", instance.release.to_string());
                    ([generation, release, ("state", state.to_owned())], 1.0)
                }),
        )?;
        metric.gauges(
            "handoff_in_flight_requests",
            "Requests and tunnels in progress",
            None,
            gauges(|instance| Some(instance.in_flight as f64)),
        )?;
        metric.gauges(
            "handoff_tunnels",
            "Tunnels and event streams in progress",
            None,
            gauges(|instance| Some(instance.tunnels as f64)),
        )?;
        metric.gauges(
            "handoff_sessions",
            "Clients whose sessions go on at a superseded instance",
            None,
            gauges(|instance| Some(instance.sessions? as f64)),
        )?;
        metric.gauges(
            "handoff_instance_resident_memory",
            "Resident memory of all processes of an instance; shared memory counts for each of them",
            Some(&Unit::Bytes),
            gauges(|instance| Some(instance.memory_bytes? as f64)),
        )
    }

    fn canary(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let canary = self.status.canary.as_ref();
        let percent = canary.and_then(|it| it.share.strip_suffix('%')?.parse::<f64>().ok());
        metric.gauge(
            "handoff_canary_share",
            "Share of new clients that the staged release gets, from 0 to 1; 0 without a canary",
            percent.unwrap_or_default() / 100.0,
        )?;
        metric.gauge(
            "handoff_canary_stage",
            "Number of the canary's stage, from 1; 0 without a canary",
            canary.map_or(0.0, |it| it.stage as f64),
        )?;
        let sides = |of: fn(&CanaryStatus) -> [u64; 3]| {
            let all = canary.map(|it| ["canary", "active", "testers"].into_iter().zip(of(it)));
            let all = all.into_iter().flatten();
            all.map(|(side, count)| ([("side", side.to_owned())], count as f64))
        };
        metric.gauges(
            "handoff_canary_responses",
            "Responses of the canary, of the active release meanwhile, and of the canary to testers",
            None,
            sides(|it| [it.responses, it.active_responses, it.tester_responses]),
        )?;
        metric.gauges(
            "handoff_canary_errors",
            "Errors among the responses of the canary, of the active release, and of the canary to testers",
            None,
            sides(|it| [it.errors, it.active_errors, it.tester_errors]),
        )
    }

    fn handoffs(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let outcomes = self.launches.outcomes.iter();
        metric.counters(
            "handoff_handoffs",
            "Outcomes of launches; one that was promoted may be refused later",
            outcomes.map(|(outcome, count)| ([("outcome", (*outcome).to_owned())], *count)),
        )?;
        let phases = self.launches.phases.iter();
        metric.histograms(
            "handoff_phase_duration",
            "Durations of the phases of a launch",
            &launches::BUCKETS,
            phases.map(|(phase, durations)| {
                let label = [("phase", (*phase).to_owned())];
                (label, &durations.counts[..], durations.seconds)
            }),
        )?;
        metric.counter(
            "handoff_app_restarts",
            "Launches of the release that ran before: after its end, or by a command",
            self.launches.restarts,
        )?;
        metric.counter(
            "handoff_app_crashes",
            "Instances that ended by themselves after they had been promoted",
            self.launches.crashes,
        )?;
        let gave_way = self.status.gave_way.iter();
        metric.gauges(
            "handoff_gave_way",
            "Always 1; labels name a release that rests because of its crashes, and what serves instead",
            None,
            gave_way.map(|given| {
                let labels = [("release", given.from.as_str()), ("instead", given.to.as_str())];
                (labels, 1.0)
            }),
        )?;
        let rollout = self.status.rollout.as_ref();
        metric.gauge(
            "handoff_awaits_turn",
            "1 while a staged roll-out has not reached this sidecar",
            f64::from(u8::from(self.status.awaits_turn)),
        )?;
        metric.gauge(
            "handoff_rollout_named",
            "Sidecars that may run the artifact of the staged roll-out that is under way",
            rollout.map_or(0.0, |rollout| rollout.named as f64),
        )?;
        metric.gauge(
            "handoff_rollout_stopped",
            "1 while a staged roll-out is stopped: no further sidecar is to start its artifact",
            f64::from(u8::from(rollout.is_some_and(|rollout| rollout.is_stopped))),
        )?;
        metric.gauge(
            "handoff_alarm",
            "1 while the active instance is unhealthy and there is no release to go back to",
            f64::from(u8::from(self.status.alarm.is_some())),
        )
    }

    fn process(&self, metric: &mut MetricWriter<'_>) -> fmt::Result {
        let version = ("version", self.status.version.to_string());
        let sidecar = ("sidecar", self.status.sidecar.to_string());
        metric.gauges(
            "handoff_sidecar",
            "Always 1; labels name the sidecar and its version",
            None,
            [([version, sidecar], 1.0)],
        )?;
        let version = ("version", self.status.version.to_string());
        let system = ("os", std::env::consts::OS.to_owned());
        let machine = ("arch", std::env::consts::ARCH.to_owned());
        metric.gauges(
            "handoff_build_info",
            "Always 1; labels name the version of handoff, its operating system and its processor",
            None,
            [([version, system, machine], 1.0)],
        )?;
        let dropped = self.dropped_lines.iter();
        metric.counters(
            "handoff_dropped_log_lines",
            "Lines that were dropped because they could not be written in time, by log",
            dropped.map(|(of, lines)| ([("log", (*of).to_owned())], *lines)),
        )?;
        let anchored = self.status.anchored.as_ref();
        if let Some(anchored) = anchored {
            metric.counter(
                "handoff_upgrades",
                "Upgrades of handoff itself since the start of its anchor",
                anchored.upgrades.into(),
            )?;
            metric.counter(
                "handoff_crashes",
                "Crashes of handoff itself that its anchor has survived",
                anchored.crashes.into(),
            )?;
        }
        let memory = resident_memory(anchored.map_or(self.status.pid, |proxy| proxy.pid));
        metric.one_gauge(
            "process_resident_memory",
            "Resident memory of handoff itself",
            Some(&Unit::Bytes),
            memory.unwrap_or_default() as f64,
        )?;
        metric.one_gauge(
            "process_start_time",
            "Start time of handoff since the Unix epoch",
            Some(&Unit::Seconds),
            self.status.started_ms.0 as f64 / 1000.0,
        )
    }
}

fn label(generation: Option<Generation>) -> String {
    generation.map_or_else(|| "none".to_owned(), |generation| generation.to_string())
}

// === impl MetricWriter ===

impl MetricWriter<'_> {
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

    /// Writes histograms of durations in seconds.
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
