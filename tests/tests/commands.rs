//! The commands that only look: `handoff status` and `handoff history`.

use tests::{Deployment, Running, Site, app, command};

fn look(site: &Running, command: &[&str]) -> command::Ended {
    let state = site.deployment().state();
    let state = ["--state", state.to_str().expect("a path in UTF-8")];
    command::run(&[command, &state].concat())
}

#[test]
fn status_shows_what_runs_and_why_the_last_one_failed() {
    let site = Site::watching_a_pointer().start("v1");
    let upload = site.begin_upload("/upload");
    site.deploy(app("v2").that("--exit-code=3"));
    site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", "refused")
    });
    let shown = look(&site, &["status"]).with(0);
    let shown = shown.saying(&[
        "up for",
        "active",
        "1 request and 0 tunnels",
        "last failure",
    ]);
    shown.saying(&["refused", "v2 exits at once with 3, as told by --exit-code"]);
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
        .saying(&["dead since", "active", "v1-"]);
    let nothing = Deployment::default();
    let place = nothing.place();
    let args = ["status", &place[2], &place[3]];
    command::run(&args)
        .with(4)
        .saying(&["no sidecar has published anything"]);
}

#[test]
fn history_has_every_launch_oldest_first() {
    let site = Site::watching_a_pointer().start("v1");
    site.deployment().deploys("v2", &[]).with(0);
    site.deployment()
        .deploys(app("v3").that("--exit-code=3"), &[])
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
