use super::*;

fn sample(cpu_us: f64, p50_ms: f64) -> Sample {
    Sample {
        rps: 1000.0,
        cpu_us,
        cpu_user_us: cpu_us / 2.0,
        cpu_system_us: cpu_us / 2.0,
        total_p50_ms: p50_ms,
        total_p99_ms: p50_ms * 2.0,
        rss_kib: 4096,
    }
}

fn samples(cpu_us: &[f64]) -> Vec<Sample> {
    cpu_us.iter().map(|cpu| sample(*cpu, 1.5)).collect()
}

fn case(rows: &[(TargetName, &[f64])]) -> Case {
    let direct = samples(&[0.0; 5]);
    let rows = rows
        .iter()
        .map(|(name, cpu)| Row::new(*name, false, samples(cpu), None, &direct));
    let direct = Row::new(TargetName::Direct, false, direct.clone(), None, &direct);
    Case {
        name: CaseName::Small,
        offered_rps: None,
        connections: 64,
        seconds: 1.0,
        refused: None,
        targets: std::iter::once(direct).chain(rows).collect(),
    }
    .judged()
}

#[test]
fn the_median_is_in_the_middle() {
    for (values, expected) in [
        (&[][..], None),
        (&[3.0], Some(3.0)),
        (&[3.0, 1.0], Some(2.0)),
        (&[9.0, 1.0, 2.0], Some(2.0)),
        (&[4.0, 1.0, 3.0, 2.0], Some(2.5)),
    ] {
        assert_eq!(median(values.iter().copied()), expected, "{values:?}");
    }
}

#[test]
fn half_of_the_rounds_has_to_say_what_the_other_half_says() {
    for (values, expected) in [
        (&[10.0, 10.0, 99.0, 99.0, 10.0, 10.0][..], 1.0),
        (&[10.0, 12.0, 10.0, 12.0, 99.0, 12.0], 1.2),
        (&[30.0, 10.0, 30.0, 10.0], 3.0),
    ] {
        assert_eq!(halves(values), Some(expected), "{values:?}");
    }
    assert_eq!(halves(&[]), None);
    assert_eq!(halves(&[1.0]), None);
}

#[test]
fn one_round_may_be_off_and_no_more() {
    for (values, expected) in [
        (&[10.0, 10.0, 10.0, 10.0, 99.0][..], 1.0),
        (&[10.0, 11.0, 10.0, 12.0, 3.0], 1.2),
        (&[10.0, 10.0, 10.0, 30.0, 20.0], 2.0),
        // Too few to leave one out.
        (&[10.0, 15.0, 10.0], 1.5),
    ] {
        assert_eq!(spread(values), Some(expected), "{values:?}");
    }
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[0.0, 0.0]), None);
}

#[test]
fn a_case_whose_rounds_disagree_is_refused_with_all_its_targets() {
    let steady: &[f64] = &[20.0, 20.0, 21.0, 20.0, 60.0];
    let shaky: &[f64] = &[20.0, 25.0, 20.0, 26.0, 60.0];
    let good = case(&[(TargetName::Nginx, steady), (TargetName::Handoff, steady)]);
    assert_eq!(good.refused, None);
    assert_eq!(good.quoted(TargetName::Nginx).unwrap().cpu_us, 20.0);

    let bad = case(&[(TargetName::Nginx, shaky), (TargetName::Handoff, steady)]);
    let reason = bad.refused.clone().unwrap();
    assert!(
        reason.contains("nginx (20.0, 25.0") && !reason.contains("handoff"),
        "{reason}"
    );
    assert_eq!(bad.quoted(TargetName::Handoff).unwrap_err(), reason);
    assert!(bad.targets.iter().all(|row| row.median.is_none()));
}

#[test]
fn a_target_that_handoff_need_not_beat_is_refused_alone() {
    let shaky: &[f64] = &[20.0, 25.0, 20.0, 26.0, 60.0];
    let case = case(&[(TargetName::Caddy, shaky), (TargetName::Handoff, &[9.0; 5])]);
    assert!(case.quoted(TargetName::Handoff).is_ok());
    let error = case.quoted(TargetName::Caddy).unwrap_err();
    assert!(error.contains("its rounds disagree (20.0, 25.0"), "{error}");
}

#[test]
fn a_target_that_failed_spoils_only_itself() {
    let direct = samples(&[0.0; 5]);
    let mut case = case(&[(TargetName::Handoff, &[20.0; 5])]);
    case.targets.push(Row::new(
        TargetName::Caddy,
        false,
        samples(&[20.0, 99.0]),
        Some("no connection".to_owned()),
        &direct,
    ));
    let case = case.judged();
    assert_eq!(case.refused, None);
    let error = case.quoted(TargetName::Caddy).unwrap_err();
    assert!(error.contains("no connection"), "{error}");
    assert!(
        case.quoted(TargetName::Nginx)
            .unwrap_err()
            .contains("nginx")
    );
}

#[test]
fn latency_is_what_is_added_in_the_same_round() {
    let direct = [sample(0.0, 1.0), sample(0.0, 5.0), sample(0.0, 1.0)];
    let through = vec![sample(9.0, 1.5), sample(9.0, 5.5), sample(9.0, 9.0)];
    let median = Row::new(TargetName::Nginx, false, through, None, &direct)
        .median
        .unwrap();
    assert_eq!((median.p50_ms, median.total_p50_ms), (0.5, 5.5));
}

#[test]
fn the_ratio_is_handoffs_cpu_over_the_others() {
    let case = case(&[
        (TargetName::Nginx, &[20.0; 5]),
        (TargetName::Handoff, &[15.0; 5]),
    ]);
    let ratio = |target| case.quoted(target).unwrap().handoff_ratio;
    assert_eq!(ratio(TargetName::Nginx), Some(0.75));
    assert_eq!(ratio(TargetName::Handoff), Some(1.0));
    assert_eq!(ratio(TargetName::Direct), None);
}
