//! Commands at the same moment: each is carried out, refused with its own reason, or superseded by
//! what it names.

use tests::command::{Command, start};
use tests::program::handoff;
use tests::{Running, Site};

/// Begins a command, with a time in which all of them end if none is lost.
fn begin(site: &Running, words: &[&str]) -> Command {
    let mut command = handoff();
    command.args(words).args(site.deployment().place());
    command.args(["--timeout", "30s"]);
    start(command)
}

#[test]
fn each_of_two_commands_at_once_ends_as_it_would_alone() {
    let site = Site::watching_a_pointer().start("v1");
    for _ in 0..5 {
        let restart = begin(&site, &["restart"]);
        let rollback = begin(&site, &["rollback"]);
        restart.end().with(0).saying(&["from a new instance"]);
        rollback.end().with(1).saying(&["no release to go back to"]);
    }
}

#[cfg(unix)] // Wine is too slow for as many programs at once.
#[test]
fn commands_at_once_end_with_a_reason_of_their_own() {
    let site = Site::watching_a_pointer().start("v1");
    for version in ["v2", "v3"] {
        site.deployment().run_deploy(version, &[]).with(0);
    }
    let words: [&[&str]; 6] = [
        &["rollback", "v1"],
        &["restart"],
        &["rollback", "v2"],
        &["promote"],
        &["rollback", "v9"],
        &["abort"],
    ];
    for round in 0..3 {
        let begun = words.map(|words| begin(&site, words));
        for (words, command) in words.iter().zip(begun) {
            let ended = command.end();
            let said = &ended.stderr;
            let is_right = match (ended.code, words[0], words.get(1)) {
                (1, "rollback", Some(&"v9")) => {
                    let is_read = said.contains("cannot go back to \"v9\"");
                    is_read || said.contains("has taken its place")
                }
                (0, "rollback", Some(to)) => ended.stdout.contains(&format!("{to}-")),
                (1, "rollback", Some(to)) => {
                    let to = format!("`rollback {to}`");
                    let by = ["superseded", "has taken its place", "serves instead"];
                    said.contains(&to) && by.iter().any(|by| said.contains(by))
                }
                (0, "restart", None) => ended.stdout.contains("from a new instance"),
                (1, "restart", None) => said.contains("superseded by the rollback to v"),
                (1, "promote" | "abort", None) => said.contains("no release is staged"),
                _ => false,
            };
            assert!(
                is_right,
                "round {round}, {words:?}: {ended:#?}\n{}",
                site.log()
            );
        }
    }
}

/// handoff reads the commands of these tests all at once.
#[cfg(unix)] // It is stopped meanwhile.
mod read_at_once {
    use rustix::process::Signal;
    use tests::command::Ended;
    use tests::processes::signal;

    use super::*;

    /// Begins the commands, one after the other, while handoff stands still, and lets them end.
    fn run(site: &Running, commands: &[&[&str]]) -> Vec<Ended> {
        signal(site.pid(), Signal::STOP);
        let begin = |words: &&[&str]| {
            let command = begin(site, words);
            command.await_stderr("has not noticed it yet");
            command
        };
        let begun: Vec<_> = commands.iter().map(begin).collect();
        signal(site.pid(), Signal::CONT);
        begun.into_iter().map(Command::end).collect()
    }

    fn after_v1_and_v2() -> Running {
        let site = Site::watching_a_pointer().start("v1");
        for version in ["v2", "v3"] {
            site.deployment().run_deploy(version, &[]).with(0);
        }
        site
    }

    fn with(ended: Vec<Ended>, codes: &[i32]) -> Vec<Ended> {
        assert_eq!(ended.len(), codes.len());
        let each = ended.into_iter().zip(codes);
        each.map(|(ended, code)| ended.with(*code)).collect()
    }

    #[test]
    fn neither_gets_the_reason_of_the_other() {
        let site = Site::watching_a_pointer().start("v1");
        for order in [[0, 1], [1, 0]] {
            let commands = order.map(|at| [&["rollback"][..], &["restart"]][at]);
            for (words, ended) in commands.iter().zip(run(&site, &commands)) {
                if words[0] == "restart" {
                    ended.with(0).saying(&["from a new instance"]);
                } else {
                    ended.with(1).saying(&["no release to go back to"]);
                }
            }
        }
    }

    #[test]
    fn who_is_alarmed_at_the_same_moment_as_another_goes_back_with_them() {
        let site = after_v1_and_v2();
        for ended in with(run(&site, &[&["rollback"], &["rollback"]]), &[0, 0]) {
            ended.saying(&["v2-", "serves again"]);
        }
        site.await_version("v2");
        // Who has seen that goes on.
        begin(&site, &["rollback"]).end().with(0).saying(&["v1-"]);
    }

    #[test]
    fn of_two_rollbacks_by_name_the_last_one_counts_and_the_first_is_told() {
        let site = after_v1_and_v2();
        let ended = run(&site, &[&["rollback", "v1"], &["rollback", "v2"]]);
        let [first, last] = <[Ended; 2]>::try_from(with(ended, &[1, 0])).expect("two");
        first.saying(&["`rollback v2` has taken its place"]);
        last.saying(&["v2-", "serves again"]);
        let same = run(&site, &[&["rollback", "v1"], &["rollback", "v1"]]);
        with(same, &[0, 0]);
    }

    #[test]
    fn a_restart_that_a_rollback_replaces_is_told_which() {
        let site = Site::watching_a_pointer().start("v1");
        let upload = site.begin_upload("/upload");
        site.deploy("v2");
        site.await_active("v2");
        let ended = run(&site, &[&["restart"], &["rollback"]]);
        let [restart, rollback] = <[Ended; 2]>::try_from(with(ended, &[1, 0])).expect("two");
        restart.saying(&["superseded by the rollback to v1-"]);
        rollback.saying(&["v1-", "serves again"]);
        assert_eq!(upload.finish().unwrap().status, 200);
    }

    #[test]
    fn a_pause_that_is_ended_before_it_begins_is_told_so() {
        let site = Site::watching_a_pointer().start("v1");
        let ended = run(&site, &[&["pause", "--max", "1h"], &["resume"]]);
        let [pause, _] = <[Ended; 2]>::try_from(with(ended, &[1, 0])).expect("two");
        pause.saying(&["`resume` has taken its place"]);
    }
}
