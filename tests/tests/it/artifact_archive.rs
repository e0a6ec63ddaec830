//! Archives as artifacts.

use std::fs;

use tests::archive::{Entry, program, tar_gz, zip};
use tests::release::sha256;
use tests::{Running, Site, file};

const APP: &str = if cfg!(windows) { "app.exe" } else { "app" };

/// The app of this version, with a page beside it.
fn entries(version: &str) -> Vec<Entry<'static>> {
    let page = format!("of {version}");
    vec![
        (APP, program(version), true),
        ("pages/page.txt", page.into_bytes(), false),
    ]
}

fn command() -> [String; 3] {
    [format!("./{APP}"), "-port".into(), "{port}".into()]
}

fn site() -> Site {
    let command = command();
    Site::watching_a_pointer().running(&command.each_ref().map(String::as_str))
}

#[test]
fn an_archive_runs_where_it_was_unpacked() {
    let site = site().start(file("v1.zip", &zip(&entries("v1"))));
    site.await_version("v1");
    site.await_shown("/pages/page.txt", "of v1");
    site.deploy(file("v2.tar.gz", &tar_gz(&entries("v2"))));
    site.await_version("v2");
    site.await_shown("/pages/page.txt", "of v2");
    site.await_active("v2");
    site.deploy(file("v3.TGZ", &tar_gz(&entries("v3"))));
    site.await_version("v3");
    site.await_launches(3);
}

#[test]
fn an_archives_digest_is_that_of_its_file_and_needs_no_settling() {
    let site = site().with("--settle", "1h");
    let site = site.launch(file("v1.zip", &zip(&entries("v1"))));
    let artifact = site.upload(file("v2.zip", &zip(&entries("v2"))));
    let digest = sha256(&artifact);
    site.point(format!("{}\nsha256={digest}\n", artifact.display()));
    let status = site.await_active("v2");
    let handoff = status.handoff("v2").unwrap();
    assert_eq!(handoff.digest, format!("sha256:{digest}"));
}

#[test]
fn an_archive_without_a_command_says_how_to_name_the_program_in_it() {
    let site = Site::watching_a_pointer().launch(file("v1.zip", &zip(&entries("v1"))));
    let status = site.wait_until("it fails", |status| status.last_failure.is_some());
    let reason = status.last_failure.clone().unwrap().reason;
    assert!(reason.contains("-- ./app -port {port}"), "{reason}");
}

#[test]
fn a_part_of_an_archive_waits_for_the_rest_and_is_no_refused_release() {
    let command = command();
    let site = Site::watching_a_folder().running(&command.each_ref().map(String::as_str));
    let site = site.start(file("v1.zip", &zip(&entries("v1"))));
    for (name, whole) in [
        ("v2.zip", zip(&entries("v2"))),
        ("v3.tar.gz", tar_gz(&entries("v3"))),
    ] {
        let before = site.status().handoffs.len();
        let path = site.site().join("releases").join(name);
        fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
        let status = site.await_problem("is not a whole archive");
        assert_eq!(status.handoffs.len(), before, "{status:#?}");
        assert_eq!(site.get("/version").status, 200);
        fs::write(&path, &whole).unwrap();
        site.await_version(&name[..2]);
        site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    }
    site.await_launches(3);
}

#[test]
fn an_archive_that_leads_out_or_is_a_bomb_is_refused_while_the_active_one_serves() {
    let site = site().with("--max-unpacked", "100MiB");
    let site = site.start(file("v1.zip", &zip(&entries("v1"))));
    let refused = |site: &Running, name: &str, content: &[u8], why: &str| {
        site.deploy(file(name, content));
        site.await_problem(why);
        assert_eq!(site.get("/version").text(), "v1");
    };
    let mut out = entries("v2");
    out.push(("../../../evil", b"evil".to_vec(), false));
    refused(&site, "v2.zip", &zip(&out), "leads out");
    let mut bomb = entries("v3");
    bomb.push(("zeros", vec![0; 100 << 20], false));
    refused(&site, "v3.tar.gz", &tar_gz(&bomb), "--max-unpacked");
    site.await_launches(1);
    // Nothing is left of them.
    assert_eq!(site.copies().len(), 1, "{:?}", site.copies());
    site.deploy(file("v4.zip", &zip(&entries("v4"))));
    site.await_version("v4");
}

#[test]
fn an_archive_of_another_kind_is_named_and_never_run_as_a_program() {
    for name in ["v2.tar.xz", "v2.tar", "v2.tar.zst", "v2.7z"] {
        let site = site().start(file("v1.zip", &zip(&entries("v1"))));
        site.deploy(file(name, b"\xfd7zXZ\0"));
        let status = site.wait_until("it is named", |status| status.artifact_problem.is_some());
        let problem = format!("{:?}", status.artifact_problem);
        assert!(problem.contains("not a known kind of archive"), "{problem}");
        assert_eq!(site.get("/version").text(), "v1");
        site.await_launches(1);
    }
}
