//! The commands that only look: `handoff status`, `history` and `logs`; and `completions`.

use std::fs;

use tests::program::handoff;
use tests::status::Outcome;
use tests::{Deployment, Running, Site, app, binaries, command};

fn look(site: &Running, command: &[&str]) -> command::Ended {
    let state = site.deployment().state();
    let state = ["--state", state.to_str().expect("a path in UTF-8")];
    command::run(&[command, &state].concat())
}

/// The exit code of a command whose words nobody reads: `… 2>&1 | head -1` after the first of them.
fn unheard(site: &Running, words: &[&str]) -> Option<i32> {
    let nobody = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        writer
    };
    let mut command = handoff();
    command.args(words).args(site.deployment().place());
    command.stdout(nobody()).stderr(nobody());
    let child = binaries::spawn(&mut command);
    let ended = child.and_then(|mut child| child.wait());
    ended.expect("the command can be started").code()
}

#[test]
fn a_command_that_nobody_listens_to_goes_on_to_its_end() {
    let site = Site::watching_a_pointer().start("v1");
    let before = site.deployment().pointer();
    let bad = site.deployment().build(app("v2").that("--exit-code=3"));
    let bad = bad.to_str().unwrap();
    assert_eq!(unheard(&site, &["deploy", bad]), Some(1));
    assert_eq!(site.deployment().pointer(), before, "it is put back");
    let good = site.deployment().build("v3");
    assert_eq!(unheard(&site, &["deploy", good.to_str().unwrap()]), Some(0));
    site.await_version("v3");
    for words in [&["restart"][..], &["status"], &["history"], &["logs"]] {
        assert_eq!(unheard(&site, words), Some(0), "{words:?}");
    }
    for words in [&["check", "--print"][..], &["check", "--json"]] {
        let words = [words, &["--listen", "127.0.0.1:0"]].concat();
        assert_eq!(unheard(&site, &words), Some(0), "{words:?}");
    }
}

#[cfg(unix)] // On Windows a folder that is watched cannot be removed.
#[test]
fn a_sidecar_is_seen_again_when_its_state_folder_was_removed() {
    let site = Site::watching_a_pointer().start("v1");
    fs::remove_dir_all(site.deployment().state()).expect("a state folder");
    assert!(site.status().is_active("v1"));
    look(&site, &["status"]).with(0).saying(&["v1"]);
}

#[test]
fn status_shows_what_runs_and_why_the_last_one_failed() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy(app("v2").that("--exit-code=3"));
    site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", Outcome::Refused)
    });
    let shown = look(&site, &["status"]).with(0);
    let shown = shown.saying(&[
        "up for",
        "active",
        "1 request and 0 tunnels",
        "last failure",
    ]);
    let shown = shown.saying(&["refused", "v2 exits at once with 3, as told by --exit-code"]);
    assert!(!shown.stdout.contains('\u{1b}'), "no colours: {shown:#?}");
    assert_eq!(upload.finish().unwrap().status, 200);

    let json = look(&site, &["status", "--json"]).with(0).json();
    let sidecar = &json["sidecars"][0];
    assert_eq!(sidecar["alive"], true);
    assert_eq!(sidecar["status"]["listen"], site.address().to_string());
    assert_eq!(sidecar["status"]["handoffs"][1]["outcome"], "refused");
}

#[test]
fn status_ends_with_4_where_no_sidecar_lives_and_shows_the_dead() {
    let site = Site::watching_a_pointer().start("v1");
    site.kill();
    look(&site, &["status"])
        .with(4)
        .saying(&["dead for", "active", "v1-"]);
    let nothing = Deployment::default();
    let place = nothing.place();
    let args = ["status", &place[2], &place[3]];
    command::run(&args)
        .with(4)
        .saying(&["no sidecar has published anything"]);
}

#[test]
fn what_is_not_as_it_should_be_is_in_the_status() {
    let site = Site::watching_a_pointer()
        .with("--admin", "127.0.0.1:0")
        .start("v1");
    site.deployment().run_deploy("v2", &[]).with(0);
    let place = site.deployment().place();
    let place: Vec<_> = place.iter().map(String::as_str).collect();
    let page = format!("page at http://{}/", site.admin());
    look(&site, &["status"])
        .with(0)
        .saying(&[&page, "a rollback can go to v1-"]);
    command::run(&[&["rollback"], &place[..]].concat()).with(0);
    look(&site, &["status"])
        .with(0)
        .saying(&["not tried again until deployed again: v2-"]);
}

#[test]
fn history_has_every_launch_oldest_first() {
    let site = Site::watching_a_pointer().start("v1");
    site.deployment().run_deploy("v2", &[]).with(0);
    site.deployment()
        .run_deploy(app("v3").that("--exit-code=3"), &[])
        .with(1);
    look(&site, &["history"])
        .with(0)
        .saying(&["v1-", "v2-", "v3-", "promoted", "refused"]);
    let json = look(&site, &["history", "--json"]).with(0).json();
    let launches = json["handoffs"].as_array().unwrap();
    let outcomes: Vec<_> = launches
        .iter()
        .map(|launch| &launch["handoff"]["outcome"])
        .collect();
    assert_eq!(outcomes, ["promoted", "promoted", "refused"]);
}

#[test]
fn a_history_of_two_says_whose_each_launch_is() {
    let site = Site::watching_a_pointer().start("v1");
    let alone = look(&site, &["history"]).with(0);
    assert!(!alone.stdout.contains("SIDECAR"), "{alone:#?}");
    let other = Site::watching_a_pointer().launch_in(site.deployment());
    other.await_active("v1");
    let json = look(&site, &["status", "--json"]).with(0).json();
    let both = [0, 1].map(|one| json["sidecars"][one]["status"]["sidecar"].clone());
    let both = both.each_ref().map(|id| id.as_str().unwrap());
    let told = look(&site, &["history"]).with(0);
    told.saying(&["SIDECAR", both[0], both[1]]);
}

#[test]
fn a_history_of_nothing_says_so() {
    let empty = Site::watching_a_pointer().launch_empty();
    look(&empty, &["history"])
        .with(0)
        .saying(&["nothing has been launched yet"]);
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().to_str().unwrap();
    command::run(&["history", "--state", nowhere])
        .with(4)
        .saying(&["no sidecar has published anything"]);
    let json = command::run(&["history", "--json", "--state", nowhere]).with(4);
    assert_eq!(json.json()["handoffs"], serde_json::json!([]));
    command::run(&["history", "--lines", "3"]).with(2);
}

#[test]
fn logs_are_those_of_the_log_file_and_are_followed_over_rotation_and_to_the_next_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("{sidecar}.log");
    let mut site = Site::watching_a_pointer()
        .with("--log-file", file.to_str().unwrap())
        .with("--log-file-size", "2KiB")
        .start("v1");
    look(&site, &["logs"]).with(0).saying(&["promoted"]);
    let few = look(&site, &["logs", "--lines", "1", "--json"]).with(0);
    let line: serde_json::Value = few.json();
    assert!(line["sidecar"].is_string() && line["line"].is_string());

    let state = site.deployment().state();
    let mut command = handoff();
    command.args(["logs", "-f", "--state"]).arg(state);
    let mut follows = command::start(command);
    follows.await_stdout("v1 listening on");
    // Each deploy logs more than half of what a file may hold.
    for version in ["v2", "v3", "v4"] {
        site.deployment().run_deploy(version, &[]).with(0);
        follows.await_stdout(&format!("{version} listening on"));
    }
    assert!(fs::read_dir(folder.path()).unwrap().count() > 1, "rotated");
    site.kill();
    site.start_again();
    follows.await_stdout("==> sidecar");
    follows.assert_running();
}

#[test]
fn logs_reach_back_into_full_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.log");
    let site = Site::watching_a_pointer()
        .with("--log-file", file.to_str().unwrap())
        .with("--log-file-size", "2KiB")
        .with("--log-file-keep", "50")
        .start("v1");
    for version in ["v2", "v3"] {
        site.deployment().run_deploy(version, &[]).with(0);
    }
    assert!(fs::read_dir(folder.path()).unwrap().count() > 1, "rotated");
    let all = look(&site, &["logs", "--lines", "10000"]).with(0);
    let lines: Vec<_> = all.stdout.lines().collect();
    assert!(
        lines[..2]
            .iter()
            .any(|line| line.contains("INFO listening")),
        "{lines:#?}"
    );
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    let listening = ["v1", "v2", "v3"].map(|version| at(&format!("{version} listening on")));
    assert!(listening.iter().all(Option::is_some) && listening.is_sorted());
}

#[test]
fn a_log_file_that_the_next_sidecar_goes_on_with_is_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.log");
    let mut site = Site::watching_a_pointer()
        .with("--log-file", file.to_str().unwrap())
        .start("v1");
    let state = site.deployment().state();
    let mut command = handoff();
    command.args(["logs", "-f", "--state"]).arg(state);
    let follows = command::start(command);
    follows.await_stdout("v1 listening on");
    site.kill();
    site.start_again();
    site.await_version("v1");
    site.deployment().run_deploy("v2", &[]).with(0);
    follows.await_stdout("v2 listening on");
    let printed = follows.printed();
    for (part, times) in [("v1 listening on", 2), ("v2 listening on", 1)] {
        assert_eq!(printed.matches(part).count(), times, "{part}: {printed}");
    }
}

#[test]
fn where_there_is_no_log_file_it_says_how_to_have_one_and_ends_with_1() {
    let site = Site::watching_a_pointer().with("--log-file", "-");
    let site = site.start("v1");
    look(&site, &["logs"])
        .with(1)
        .saying(&["logs to stderr", "--log-file"]);
    command::run(&["logs", "--state", "nowhere"]).with(4);
    command::run(&["logs", "--lines", "few"]).with(2);
}

#[test]
fn completions_are_printed_for_the_shells_that_there_are() {
    let script = command::run(&["completions", "bash"]).with(0);
    script.saying(&["_handoff()", "rollback"]);
    command::run(&["completions", "sh"])
        .with(2)
        .saying(&["zsh"]);
}
