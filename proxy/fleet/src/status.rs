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
    match &channel {
        Some(channel) => print_line(format_args!(
            "deployed: {}, serial {}",
            channel.release, channel.serial
        )),
        None => print_line("nothing is deployed"),
    }
    if let Some(reason) = channel.and_then(|channel| channel.reason) {
        print_line(format_args!("returned to it: {reason}"));
    }
    for (member, age) in members {
        let state = match &member.state {
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
