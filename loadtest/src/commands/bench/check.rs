//! The figures that handoff has to reach.

use serde::Serialize;

use super::figures::{Case, Median};
use super::footprint::Footprint;
use crate::cli::bench::{CaseName, TargetName, name_of};

const IDLE_KIB: f64 = 15.0 * 1024.0;
const MILLION_KIB: f64 = 30.0 * 1024.0;
const CONNECTION_KIB: f64 = 12.0;
const GROWTH: f64 = 1.10;

/// Upper limits of handoff's processor time for each request over another's.
const CPU: [(CaseName, TargetName, f64); 7] = [
    (CaseName::Small, TargetName::Nginx, 1.0),
    (CaseName::Small, TargetName::Haproxy, 1.0),
    (CaseName::Small, TargetName::Relay, 1.3),
    (CaseName::NewConnection, TargetName::Nginx, 1.0),
    (CaseName::NewConnection, TargetName::Haproxy, 1.0),
    (CaseName::Large, TargetName::Nginx, 0.8),
    (CaseName::Large, TargetName::Haproxy, 0.8),
];

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub name: String,
    pub unit: &'static str,
    /// Upper limit.
    pub limit: Option<f64>,
    pub value: Option<f64>,
    /// False also when it could not be measured.
    pub holds: bool,
    /// Reason for which it could not be measured.
    pub unmeasured: Option<String>,
}

/// Checks all figures.
pub fn all(cases: &[Case], footprint: &Footprint) -> Vec<Check> {
    let mut checks: Vec<Check> = CPU
        .iter()
        .map(|(case, rival, limit)| {
            let ratio = cpu_ratio(cases, *case, *rival).map(|ratio| (ratio, *limit));
            let name = format!(
                "{}: CPU per request, handoff / {}",
                name_of(*case),
                name_of(*rival)
            );
            Check::of(name, "×", ratio)
        })
        .collect();
    checks.push(added(cases, "p50", |median| median.p50_ms));
    checks.push(added(cases, "p99", |median| median.p99_ms));
    for (name, unit, value, limit) in [
        ("memory idle", "KiB", &footprint.idle_kib, IDLE_KIB),
        (
            "memory after a million requests on 64 connections",
            "KiB",
            &footprint.after_million_kib,
            MILLION_KIB,
        ),
        (
            "memory for each of 5,000 idle connections",
            "KiB",
            &footprint.per_connection_kib,
            CONNECTION_KIB,
        ),
        (
            "memory after 500 swaps / after 50",
            "×",
            &footprint.swaps_ratio,
            GROWTH,
        ),
    ] {
        let figure = value.clone().map(|value| (value, limit));
        checks.push(Check::of(name.to_owned(), unit, figure));
    }
    checks
}

fn cpu_ratio(cases: &[Case], case: CaseName, rival: TargetName) -> Result<f64, String> {
    let case = find(cases, case)?;
    let handoff = case.quoted(TargetName::Handoff)?.cpu_us;
    let rival = case.quoted(rival)?.cpu_us;
    if rival > 0.0 && handoff > 0.0 {
        Ok(handoff / rival)
    } else {
        Err("no processor time was counted".to_owned())
    }
}

/// Checks the latency at half load: no more than nginx adds.
fn added(cases: &[Case], name: &str, value: fn(Median) -> f64) -> Check {
    let figure = find(cases, CaseName::HalfLoad).and_then(|case| {
        let handoff = value(case.quoted(TargetName::Handoff)?);
        Ok((handoff, value(case.quoted(TargetName::Nginx)?)))
    });
    let name = format!("half-load: {name} added, against nginx's");
    Check::of(name, "ms", figure)
}

fn find(cases: &[Case], name: CaseName) -> Result<&Case, String> {
    cases
        .iter()
        .find(|case| case.name == name)
        .ok_or_else(|| format!("the case {} was not measured", name_of(name)))
}

// === impl Check ===

impl Check {
    /// Compares a value with its limit.
    fn of(name: String, unit: &'static str, figure: Result<(f64, f64), String>) -> Self {
        match figure {
            Ok((value, limit)) => Self {
                name,
                unit,
                limit: Some(limit),
                value: Some(value),
                holds: value <= limit,
                unmeasured: None,
            },
            Err(reason) => Self {
                name,
                unit,
                limit: None,
                value: None,
                holds: false,
                unmeasured: Some(reason),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Row, Sample};
    use super::*;

    fn sample(cpu_us: f64, ms: f64) -> Sample {
        Sample {
            rps: 1.0,
            cpu_us,
            cpu_user_us: cpu_us,
            cpu_system_us: 0.0,
            total_p50_ms: ms,
            total_p99_ms: ms,
            rss_kib: 1,
        }
    }

    fn case(name: CaseName, handoff: (f64, f64), others: &[TargetName]) -> Case {
        let direct = [sample(0.0, 1.0); 5];
        let row = |name, cpu, ms| Row::new(name, false, vec![sample(cpu, ms); 5], None, &direct);
        let mut targets = vec![row(TargetName::Direct, 0.0, 1.0)];
        targets.extend(others.iter().map(|name| row(*name, 10.0, 2.0)));
        targets.push(row(TargetName::Handoff, handoff.0, handoff.1));
        Case {
            name,
            offered_rps: None,
            connections: 1,
            seconds: 1.0,
            refused: None,
            targets,
        }
        .judged()
    }

    const RIVALS: [TargetName; 3] = [TargetName::Relay, TargetName::Nginx, TargetName::Haproxy];
    const ALL: [CaseName; 4] = [
        CaseName::Small,
        CaseName::Large,
        CaseName::NewConnection,
        CaseName::HalfLoad,
    ];

    fn footprint() -> Footprint {
        Footprint {
            idle_kib: Ok(15_360.0),
            after_million_kib: Ok(30_720.0),
            per_connection_kib: Ok(12.0),
            swaps_ratio: Ok(1.1),
            after_50_swaps_kib: Ok(1.0),
            after_500_swaps_kib: Ok(1.0),
        }
    }

    fn failing(cases: &[Case], footprint: &Footprint) -> Vec<String> {
        all(cases, footprint)
            .into_iter()
            .filter(|check| !check.holds)
            .map(|check| check.name)
            .collect()
    }

    #[test]
    fn figures_at_their_limits_hold() {
        let cases = ALL.map(|name| case(name, (8.0, 2.0), &RIVALS));
        assert_eq!(all(&cases, &footprint()).len(), 13);
        assert_eq!(failing(&cases, &footprint()), Vec::<String>::new());
    }

    #[test]
    fn each_figure_can_fail() {
        for (worse, handoff, expected) in [
            (CaseName::Small, (10.1, 2.0), 2),
            (CaseName::Small, (13.1, 2.0), 3),
            (CaseName::NewConnection, (10.1, 2.0), 2),
            (CaseName::Large, (8.1, 2.0), 2),
            (CaseName::HalfLoad, (8.0, 2.1), 2),
            (CaseName::HalfLoad, (99.0, 2.0), 0),
        ] {
            let cases = ALL.map(|name| {
                let handoff = if name == worse { handoff } else { (8.0, 2.0) };
                case(name, handoff, &RIVALS)
            });
            let failing = failing(&cases, &footprint());
            assert_eq!(
                failing.len(),
                expected,
                "{worse:?} {handoff:?}: {failing:?}"
            );
        }
        let cases = ALL.map(|name| case(name, (8.0, 2.0), &RIVALS));
        for change in [
            |footprint: &mut Footprint| footprint.idle_kib = Ok(15_361.0),
            |footprint: &mut Footprint| footprint.after_million_kib = Ok(30_721.0),
            |footprint: &mut Footprint| footprint.per_connection_kib = Ok(12.1),
            |footprint: &mut Footprint| footprint.swaps_ratio = Ok(1.11),
            |footprint: &mut Footprint| footprint.swaps_ratio = Err("it ended".to_owned()),
        ] {
            let mut footprint = footprint();
            change(&mut footprint);
            assert_eq!(failing(&cases, &footprint).len(), 1);
        }
    }

    #[test]
    fn what_could_not_be_measured_does_not_hold() {
        let missing = ALL.map(|name| case(name, (1.0, 1.0), &[TargetName::Nginx]));
        assert_eq!(
            failing(&missing, &footprint()).len(),
            4,
            "haproxy and the relay"
        );
        let mut refused = ALL.map(|name| case(name, (1.0, 1.0), &RIVALS));
        refused[0].refused = Some("noise".to_owned());
        let checks = all(&refused, &footprint());
        let noise: Vec<_> = checks
            .iter()
            .filter_map(|check| check.unmeasured.as_deref())
            .collect();
        assert_eq!(noise, ["noise"; 3]);
        let none = || Err("no handoff".to_owned());
        let unmeasured = Footprint {
            idle_kib: none(),
            after_million_kib: none(),
            per_connection_kib: none(),
            swaps_ratio: none(),
            ..footprint()
        };
        assert_eq!(failing(&[], &unmeasured).len(), 13);
    }
}
