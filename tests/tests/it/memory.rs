//! The memory of a deployment is kept, neither lost by a restart nor by a sibling.

use tests::{Running, Site, app};

fn refuses(site: &Running, name: &str) {
    site.wait_until(&format!("{name} is refused"), |status| {
        status.refusal(name).is_some() && status.candidate.is_none()
    });
}

#[test]
fn after_a_restart_the_last_good_release_starts_and_not_the_newest_bad_one() {
    let mut site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--exit-code=3"));
    refuses(&site, "v2");
    site.kill();
    #[cfg(unix)]
    site.await_no_processes();

    site.start_again();

    site.await_version("v1");
    let status = site.await_active("v1");
    assert_eq!(status.handoffs.len(), 1, "{status:#?}");
    let reason = &status.refusal("v2").expect("it is remembered").reason;
    // "exit status" on Unix, "exit code" on Windows.
    assert!(
        reason.starts_with("ended before it was ready") && reason.contains(": 3"),
        "{reason}"
    );
    site.deploy("v3");
    site.await_version("v3");
}

#[test]
fn after_a_restart_the_last_good_release_starts_though_nothing_is_deployed_any_more() {
    let mut site = Site::watching_a_pointer().start("v1");
    site.kill();
    site.point("no/such/file");

    site.start_again();

    site.await_version("v1");
    assert!(site.status().artifact_problem.is_some());
}

#[test]
fn what_was_on_trial_when_handoff_was_killed_has_to_wait_for_the_last_good_one() {
    let mut site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--never-ready"));
    site.wait_until("v2 starts", |status| status.is_candidate("v2"));
    site.kill();
    #[cfg(unix)]
    site.await_no_processes();

    site.start_again();

    // Nobody waits for v2, which may take as long as a first start to be given up.
    site.await_version("v1");
    site.wait_until("v2 has its trial", |status| {
        status.is_active("v1") && status.is_candidate("v2")
    });
    site.deploy("v3");
    site.await_version("v3");
}

#[test]
fn what_was_refused_is_tried_again_when_somebody_asks() {
    let site = Site::watching_a_pointer().with("--deploy-timeout", "1s");
    let site = site.start("v1");
    site.deploy(app("v2").that("--ready-after=3s"));
    refuses(&site, "v2");
    let digest = site
        .status()
        .refusal("v2")
        .expect("a refusal")
        .digest
        .clone();
    for serial in 1..=2 {
        let before = site.status().handoffs.len();
        site.ask(&format!(
            r#"{{"schema":1,"serial":{serial},"retry":"{digest}"}}"#
        ));
        site.wait_until("it is tried again", |status| {
            status.handoffs.len() == before + 1
                && status.desired_serial == Some(serial)
                && status.refusal("v2").is_some()
        });
    }
    site.await_version("v1");
}

#[test]
fn the_same_content_again_is_no_deploy_whatever_it_is_called() {
    let site = Site::watching_a_pointer().start("v1");
    let v1 = site.upload("v1");
    let same = v1.with_file_name("another-name");
    std::fs::copy(&v1, &same).unwrap();
    site.point(same.display().to_string());
    site.await_log_times(2, "artifact detected");
    site.point(v1.display().to_string());
    site.await_log_times(3, "artifact detected");
    site.await_launches(1);
}

#[test]
fn a_sibling_does_not_try_what_was_refused_here() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--exit-code=3"));
    refuses(&site, "v2");

    let cache = site.cache();
    let sibling = Site::watching_a_pointer()
        .with("--cache", cache.to_str().expect("a path"))
        .launch_in(site.deployment());

    sibling.await_version("v1");
    sibling.await_launches(1);
    site.deploy("v3");
    sibling.await_version("v3");
    site.await_version("v3");
}

#[test]
fn a_sidecar_that_knows_nothing_prefers_what_its_siblings_run_to_what_they_refused() {
    let site = Site::watching_a_pointer().start("v1");
    site.deploy(app("v2").that("--exit-code=3"));
    refuses(&site, "v2");

    let sibling = Site::watching_a_pointer().launch_in(site.deployment());

    sibling.await_version("v1");
    sibling.await_launches(1);
    site.deploy("v3");
    sibling.await_version("v3");
    site.await_version("v3");
}

/// A deployment whose first start finds its port taken by `take`.
#[cfg(unix)]
fn a_taken_port_is_not_the_releases_fault<T>(site: Site, take: impl FnOnce(u16) -> T) {
    let script = r#"
        echo "$1" > "$2/port.new"
        mv "$2/port.new" "$2/port"
        until [ -e "$2/go" ]; do sleep 0.01; done
        exec "$0" -port "$1""#;
    let command = ["sh", "-c", script, "{artifact}", "{port}", "{shared}"];
    let site = site.running(&command).launch("v1");
    let port = tests::eventually(
        || "the app knows its port".to_owned(),
        || std::fs::read_to_string(site.shared().join("port")).ok(),
    );
    let _taken = take(port.trim().parse().expect("a port"));
    std::fs::write(site.shared().join("go"), "").expect("a file");

    site.await_version("v1");
    let status = site.await_active("v1");
    assert_eq!(status.generation(), Some(2), "{status:#?}");
    assert!(status.refused.is_empty(), "{status:#?}");
    let reason = status.last_failure.clone().expect("a failure").reason;
    assert!(reason.contains("another program"), "{reason}");
}

#[cfg(unix)]
#[test]
fn a_port_that_another_program_listens_on_is_not_the_releases_fault() {
    let site = Site::watching_a_pointer().with("--health-identity", "require");
    a_taken_port_is_not_the_releases_fault(site, |port| {
        std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port")
    });
}

#[cfg(unix)]
#[test]
fn a_port_that_an_outgoing_connection_took_is_not_the_releases_fault() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    a_taken_port_is_not_the_releases_fault(Site::watching_a_pointer(), |port| {
        let outgoing =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let local = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        outgoing.bind(&local.into()).unwrap();
        let to = elsewhere.local_addr().unwrap();
        outgoing.connect(&to.into()).unwrap();
        outgoing
    });
}
