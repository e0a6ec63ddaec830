//! Commands on a terminal: a real pseudo-terminal, which `script` makes.
#![cfg(target_os = "linux")]

use tests::command::{self, Command};
use tests::program::handoff;
use tests::{Running, Site, app};

/// Clears a line, before something else is written over it.
const CLEAR: &str = "\u{1b}[2K";

/// `handoff` with these words, on a terminal.
fn on_a_terminal(site: &Running, words: &[&str]) -> Command {
    command::start(script(site, words))
}

fn script(site: &Running, words: &[&str]) -> std::process::Command {
    let program = handoff();
    let place = site.deployment().place();
    let program = program.get_program().to_str().expect("a path");
    let words = words
        .iter()
        .copied()
        .chain(place.iter().map(String::as_str));
    let words: Vec<_> = [program].into_iter().chain(words).collect();
    let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &quoted.join(" "), "/dev/null"]);
    script.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    script
}

/// The lines that are left to be read when all is over.
fn left(shown: &str) -> Vec<&str> {
    let lines = shown.lines();
    lines
        .map(|line| line.rsplit(CLEAR).next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn a_deploy_shows_each_sidecar_in_one_line_that_changes() {
    if !tests::tools::has("script") {
        return;
    }
    let site = Site::watching_a_pointer().start("v1");
    let slow = site.deployment().build(app("v2").that("--ready-after=2s"));
    let deploy = on_a_terminal(&site, &["deploy", slow.to_str().unwrap()]);
    deploy.await_stdout("probing: GET / answered 503");
    let ended = deploy.end().with(0);
    assert!(ended.stdout.contains(CLEAR), "{ended:#?}");
    let left = left(&ended.stdout);
    let [copying, sidecar, verdict] = &left[..] else {
        panic!("three lines, not {left:#?}");
    };
    assert!(copying.starts_with("copying"), "{copying}");
    assert!(
        sidecar.ends_with("promoted, and nothing drains"),
        "{sidecar}"
    );
    assert!(verdict.ends_with("is active in 1 sidecar"), "{verdict}");
}

#[test]
fn a_watched_status_is_drawn_over_itself() {
    if !tests::tools::has("script") {
        return;
    }
    let site = Site::watching_a_pointer().start("v1");
    let watch = on_a_terminal(&site, &["status", "--watch"]);
    watch.await_stdout("v1-");
    site.deployment().run_deploy("v2", &[]).with(0);
    // Only the first picture begins with an empty screen.
    watch.await_stdout("v2-");
    let shown = watch.printed();
    assert_eq!(shown.matches("\u{1b}[2J").count(), 1, "{shown:?}");
    assert!(shown.matches("sidecar ").count() > 1, "{shown:?}");
}

#[test]
fn the_log_on_a_terminal_has_colours_unless_the_user_wants_none() {
    if !tests::tools::has("script") {
        return;
    }
    let site = Site::watching_a_pointer().start("v1");
    // Its port is taken: it gives up after some seconds.
    let listen = site.address().to_string();
    for (no_color, term, is_coloured) in [
        (None, None, true),
        (Some(""), None, true),
        (Some("1"), None, false),
        (None, Some("dumb"), false),
    ] {
        let cache = site.site().with_file_name("another-cache");
        let words = [
            "run",
            "--listen",
            &listen,
            "--cache",
            cache.to_str().unwrap(),
        ];
        let mut script = script(&site, &words);
        script.envs(no_color.map(|value| ("NO_COLOR", value)));
        script.envs(term.map(|value| ("TERM", value)));
        let ended = command::start(script).end().with(1);
        assert!(ended.stdout.contains("port_in_use"), "{ended:#?}");
        assert_eq!(ended.stdout.contains("\u{1b}["), is_coloured, "{ended:#?}");
    }
}
