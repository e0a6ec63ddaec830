//! The commands, outputs, links and messages in README and the manual, against the real program.
#![cfg(unix)] // The shell is bash.

use std::collections::BTreeSet;

use tests::manual::{Page, each_file, pages, pages_below, refusal, root};
use tests::tools;

/// Shortest part of a message that is looked for in the sources.
const MIN_MESSAGE: usize = 6;

#[test]
fn every_command_of_the_manual_is_run_or_says_why_not() {
    assert_faultless(pages().unwrap().iter().flat_map(Page::faults));
}

#[test]
fn the_commands_of_the_manual_work_and_print_what_it_shows() {
    if !["curl", "python3"].into_iter().all(tools::has) {
        return;
    }
    let pages = pages().unwrap();
    let faults = std::thread::scope(|scope| {
        let runs: Vec<_> = pages
            .iter()
            .map(|page| scope.spawn(|| page.run().unwrap()))
            .collect();
        let ended = runs.into_iter().map(|run| run.join().unwrap());
        ended.flatten().collect::<Vec<_>>()
    });
    assert_faultless(faults);
}

#[test]
fn every_handoff_command_in_the_manual_can_be_parsed() {
    let pages = pages().unwrap();
    let commands = pages.iter().flat_map(Page::refused_commands);
    assert_faultless(commands);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages_below(&["proxy", ".github", "loadtest", "tests"]).unwrap();
    assert_faultless(pages.iter().flat_map(Page::broken_links));
}

#[test]
fn every_message_of_troubleshooting_is_in_the_sources() {
    // As the compiler joins what is broken over lines.
    let sources = sources()
        .split("\\\n")
        .map(str::trim_start)
        .collect::<String>();
    let page = root().join("proxy/docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let causes = rows.filter_map(|row| row.split(" | ").next());
    let messages = causes.flat_map(|cause| cause.split('`').skip(1).step_by(2));
    let missing = messages.flat_map(|message| {
        let parts = message.split('…').map(|part| part.trim().trim_matches('"'));
        let parts = parts.filter(|part| part.len() >= MIN_MESSAGE);
        parts.filter(|part| !sources.contains(&part.replace('{', "{{").replace('}', "}}")))
    });
    assert_faultless(missing.map(str::to_owned));
}

#[test]
fn every_log_event_is_explained_and_every_explained_one_exists() {
    let page = root().join("proxy/docs/observability.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, events) = page.split_once("## Log events").unwrap();
    let (events, _) = events.split_once("\n## ").unwrap();
    let rows = events.lines().filter_map(|line| line.split('|').nth(1));
    let explained: BTreeSet<_> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .collect();
    let sources = sources();
    let logged = sources.split("event = \"").skip(1);
    let logged = logged.filter_map(|rest| rest.split('"').next());
    let missing = logged.filter(|event| !explained.contains(event));
    assert_faultless(missing.map(|event| format!("{event} is not in observability.md")));
    let gone = explained
        .iter()
        .filter(|event| !sources.contains(&format!("\"{event}\"")));
    assert_faultless(gone.map(|event| format!("{event} is in observability.md alone")));
}

#[test]
fn every_rule_of_the_manual_can_be_broken() {
    let faults = |text: &str| page(text).faults().len();
    assert_eq!(
        faults("```sh\ntrue\n```\n<!-- printed -->\n```text\nx\n```"),
        0
    );
    assert_eq!(faults("<!-- printed -->\n```text\nx\n```"), 1);
    assert_eq!(faults("```\nx\n```"), 1);
    assert_eq!(faults("```bat\ndir\n```"), 1);
    assert_eq!(faults("<!-- not run: Windows -->\n\n```bat\ndir\n```"), 0);
    assert_eq!(faults("<!-- not run: -->\n```sh\ntrue\n```"), 1);
    assert_eq!(
        faults("<!-- not run: Windows -->\nNo.\n```bat\ndir\n```"),
        1
    );
    assert_eq!(faults("<!-- skipped -->\n```sh\ntrue\n```"), 1);

    let runs = |text: &str| page(text).run().unwrap().len();
    assert_eq!(
        runs("```sh\necho in 12ms\n```\n<!-- printed -->\n```text\nin 7ms\n```"),
        0
    );
    assert_eq!(
        runs("```sh\necho in time\n```\n<!-- printed -->\n```text\nlate\n```"),
        1
    );
    assert_eq!(
        runs("<!-- file: a/b -->\n```sh\nfalse\n```\n```sh\nsh a/b\n```"),
        1
    );
    assert_eq!(runs("```sh\n[ $(pwd) = /x ] || cat /srv/x\n```"), 1);

    assert_eq!(
        refusal("handoff run --listen 127.0.0.1:80 -- ./app -port {port}"),
        None
    );
    assert!(refusal("handoff run --lisen 127.0.0.1:80").is_some());
    assert!(refusal("handoff run --drain-timeout soon").is_some());
    assert!(refusal("handoff rol").is_some());

    let links = |text: &str| page(text).broken_links().len();
    assert_eq!(links("[x](README.md#handoff) [y][z]\n\n[z]: LICENSE"), 0);
    assert_eq!(links("[x](README.md#nowhere) [y](gone.md) [y][a]"), 3);
}

/// Returns all sources of handoff.
fn sources() -> String {
    let mut sources = String::new();
    each_file(&root().join("proxy/src"), "rs", &mut |_, text| {
        sources += &text;
    })
    .expect("sources can be read");
    sources
}

#[track_caller]
fn assert_faultless(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<_> = faults.into_iter().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn page(text: &str) -> Page {
    Page {
        path: "X.md".to_owned(),
        text: text.to_owned(),
    }
}
