//! `status`: what the machines of a channel run.

use handoff::cli::output::{print_json, print_line};
use handoff::commands::ExitStatus;
use serde_json::json;

use crate::channel::{CHANNEL, Channel, MEMBERS, Member, MemberState};
use crate::store::{Store, StoreError};

/// Runs the command.
///
/// # Errors
/// [`StoreError`] when the store cannot be used.
pub async fn run(store: &Store, as_json: bool) -> Result<ExitStatus, StoreError> {
    let channel = store
        .read::<Channel>(CHANNEL)
        .await?
        .map(|(channel, _)| channel);
    let mut members = Vec::new();
    for listed in store.list(MEMBERS).await? {
        if let Some((member, _)) = store.read::<Member>(&listed.path).await? {
            let age = listed.modified.elapsed().unwrap_or_default();
            members.push((member, age.as_secs()));
        }
    }
    if as_json {
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
        if let Some(problem) = member.problem {
            print_line(format_args!("  {problem}"));
        }
    }
    Ok(ExitStatus::Done)
}
