//! `status`: what the machines of a channel run.

use handoff::cli::output::{print_json, print_line};
use handoff::commands::ExitStatus;
use serde_json::json;

use crate::channel::{CHANNEL, Channel, MemberState};
use crate::cli::StatusOptions;
use crate::machines::{Machines, Tally};
use crate::store::{Store, StoreError};

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// All that is known.
    Json,
    /// Metrics for Prometheus.
    Metrics,
}

// === impl Format ===

impl Format {
    /// Returns the form that the options ask for.
    pub fn of(options: &StatusOptions) -> Self {
        if options.json {
            Self::Json
        } else if options.metrics {
            Self::Metrics
        } else {
            Self::Text
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the store cannot be used.
pub async fn run(store: &Store, format: Format) -> Result<ExitStatus, StoreError> {
    let channel = store
        .read::<Channel>(CHANNEL)
        .await?
        .map(|(channel, _)| channel);
    let mut machines = Machines::default();
    machines.refresh(store).await?;
    if format == Format::Metrics {
        let tally = channel.as_ref().map(|channel| machines.tally(channel));
        print_line(metrics(channel.as_ref(), &tally.unwrap_or_default()));
        return Ok(ExitStatus::Done);
    }
    let members: Vec<_> = machines
        .all()
        .map(|(member, written)| (member, written.elapsed().unwrap_or_default().as_secs()))
        .collect();
    if format == Format::Json {
        let members: Vec<_> = members
            .iter()
            .map(|(member, age)| json!({"member": member, "age_seconds": age}))
            .collect();
        print_json(&json!({"channel": channel, "members": members}));
        return Ok(ExitStatus::Done);
    }
    let Some(channel) = channel else {
        print_line("nothing is deployed");
        return Ok(ExitStatus::Done);
    };
    print_line(format_args!(
        "deployed: {}, serial {}",
        channel.order.release, channel.serial
    ));
    if let (Some(reason), Some(before)) = (&channel.back, &channel.order.before) {
        print_line(format_args!("all return to {before}: {reason}"));
    }
    if let Some(rollout) = &channel.rollout {
        let stopped = if rollout.stopped {
            "; it is stopped"
        } else {
            ""
        };
        let (at_most, named) = (rollout.at_most, rollout.may.len());
        print_line(format_args!(
            "in stages, at most {at_most} at the same time: {named} are named{stopped}"
        ));
    }
    let count = |is_so: fn(&MemberState) -> bool| {
        let members = members.iter();
        members.filter(|(member, _)| is_so(&member.state)).count()
    };
    print_line(format_args!(
        "{} machines: {} run it, {} have refused it",
        members.len(),
        count(|state| matches!(state, MemberState::Runs)),
        count(|state| matches!(state, MemberState::Refused(_)))
    ));
    for (member, age) in members {
        let state = match &member.state {
            MemberState::Waits => "awaits its turn".to_owned(),
            MemberState::Going(None) => "starts".to_owned(),
            MemberState::Going(Some(reason)) => format!("starts: {reason}"),
            MemberState::Runs => "runs it".to_owned(),
            MemberState::Refused(reason) => format!("refused it: {reason}"),
            MemberState::Idle => "no live sidecar".to_owned(),
        };
        let host = member.host.as_deref().unwrap_or("-");
        let runs = member.runs.join(", ");
        print_line(format_args!(
            "{} {host}: serial {}, {state}; serves {runs}; {age} s ago",
            member.id, member.serial
        ));
        if let Some(problem) = &member.problem {
            print_line(format_args!("  {problem}"));
        }
    }
    Ok(ExitStatus::Done)
}

/// Returns the metrics, in the format of OpenMetrics.
fn metrics(channel: Option<&Channel>, tally: &Tally) -> String {
    let [runs, refused, late] = [tally.runs.len(), tally.refused.len(), tally.late.len()];
    let states = [
        ("waits", tally.members.len() - runs - refused - late),
        ("starts", late),
        ("runs", runs),
        ("refused", refused),
        ("idle", tally.idle.len()),
        ("silent", tally.silent.len()),
    ];
    let states = states
        .map(|(state, count)| format!("handoff_fleet_machines{{state=\"{state}\"}} {count}\n"));
    let rollout = channel.and_then(|channel| channel.rollout.as_ref());
    let named = rollout.map_or(0, |rollout| rollout.may.len());
    let stopped = u8::from(rollout.is_some_and(|rollout| rollout.stopped));
    let returning = u8::from(channel.is_some_and(|channel| channel.back.is_some()));
    let head = |name: &str, help: &str| {
        format!("# TYPE handoff_fleet_{name} gauge\n# HELP handoff_fleet_{name} {help}\n")
    };
    let one = |name: &str, help: &str, value: usize| {
        format!("{}handoff_fleet_{name} {value}\n", head(name, help))
    };
    [
        head(
            "machines",
            "Machines by the state of the deployed release on them",
        ),
        states.concat(),
        one(
            "rollout_named",
            "Machines that may run the release of the staged roll-out",
            named,
        ),
        one(
            "rollout_stopped",
            "1 while a staged roll-out is stopped",
            stopped.into(),
        ),
        one(
            "returning",
            "1 while all machines are to run the release before",
            returning.into(),
        ),
        "# EOF".to_owned(),
    ]
    .concat()
}
