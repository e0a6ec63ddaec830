//! The pointer file, as people and their tools write it.

use std::fs;

use tests::release::sha256;
use tests::{Running, Site};

fn path(site: &Running, version: &str) -> String {
    site.upload(version).display().to_string()
}

fn utf16(text: &str) -> Vec<u8> {
    let with_mark = format!("\u{feff}{text}");
    with_mark
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[test]
fn a_pointer_is_understood_however_it_was_written() {
    let site = Site::watching_a_pointer().start("v1");
    let v2 = path(&site, "v2");
    site.point(utf16(&format!("{v2}\r\n")));
    site.await_version("v2");
    let v3 = path(&site, "v3");
    site.point(format!("\"{v3}\" \r\n"));
    site.await_version("v3");
    let v4 = path(&site, "v4");
    site.point(utf16(&format!("'{v4}'\r\n\r\n")));
    site.await_version("v4");
    // Relative to its own folder.
    let v5 = site.upload("v5");
    let name = v5.file_name().unwrap().to_str().unwrap().to_owned();
    site.point(format!("\u{feff}uploads/{name}"));
    site.await_version("v5");
}

#[test]
fn a_variable_in_a_pointer_is_handoffs() {
    let site = Site::watching_a_pointer().with_variable("WHICH", "v2");
    let site = site.start("v1");
    let v2 = path(&site, "v2");
    site.point(v2.replace("v2", "%WHICH%"));
    site.await_version("v2");
}

#[test]
fn a_pointer_that_names_nothing_changes_nothing_and_says_so() {
    let site = Site::watching_a_pointer().start("v1");
    for (content, problem) in [
        ("uploads/no-such-thing\n", "no-such-thing"),
        ("\r\n", "is empty"),
        ("%NO_SUCH_VARIABLE%/app", "NO_SUCH_VARIABLE"),
    ] {
        site.point(content);
        site.wait_until(problem, |status| {
            let said = status.artifact_problem.as_deref();
            said.is_some_and(|said| said.contains(problem) && said.contains("_artifact.txt"))
        });
        assert_eq!(site.get("/version").text(), "v1");
    }
    site.deploy("v2");
    site.await_version("v2");
    let status = site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    assert_eq!(status.handoffs.len(), 2, "{status:#?}");
}

#[test]
fn what_a_pointer_names_may_come_later() {
    let site = Site::watching_a_pointer().start("v1");
    let path = site.site().join("later").join(tests::app("v2").file_name());
    site.point(path.display().to_string());
    let status = site.await_problem("does not exist");
    assert!(status.is_active("v1"), "{status:#?}");
    tests::app("v2").write_to(&path);
    site.await_version("v2");
    let status = site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    assert_eq!(status.handoffs.len(), 2, "{status:#?}");
}

#[test]
fn a_digest_proves_that_an_artifact_is_whole_without_any_settling() {
    let site = Site::watching_a_pointer().with("--settle", "1h");
    // The first one, too, would have to settle.
    let site = site.launch("v1");
    for version in ["v2", "v3"] {
        let artifact = site.upload(version);
        let digest = sha256(&artifact);
        site.point(format!("{}\r\nsha256={digest}\r\n", artifact.display()));
        let status = site.await_active(version);
        let handoff = status.handoff(version).unwrap();
        assert_eq!(handoff.digest, format!("sha256:{digest}"));
    }
}

#[test]
fn an_artifact_is_not_launched_until_it_is_what_its_digest_says() {
    let site = Site::watching_a_pointer().start("v1");
    let artifact = site.upload("v2");
    let whole = fs::read(&artifact).unwrap();
    let digest = sha256(&artifact);
    fs::write(&artifact, &whole[..whole.len() / 2]).unwrap();
    site.point(format!("{}\nsha256={digest}\n", artifact.display()));
    let status = site.wait_until("it is not complete", |status| {
        let problem = status.artifact_problem.as_deref();
        problem.is_some_and(|problem| problem.contains(&digest))
    });
    assert_eq!(status.handoffs.len(), 1, "{status:#?}");
    assert!(status.is_active("v1") && status.candidate.is_none());
    site.await_version("v1");

    fs::write(&artifact, &whole).unwrap();

    site.await_version("v2");
    let status = site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
    assert_eq!(
        status.handoffs.len(),
        2,
        "half of it was not tried: {status:#?}"
    );
}

#[test]
fn a_digest_beside_an_artifact_counts_too() {
    let site = Site::watching_a_folder().with("--settle", "1h");
    let site = site.launch("v1");
    let artifact = site
        .site()
        .join("releases")
        .join(tests::app("v1").file_name());
    let digest = sha256(&artifact);
    let beside = format!("{}.sha256", artifact.display());
    fs::write(beside, format!("{digest}  v1\n")).unwrap();
    site.await_version("v1");
}

#[test]
fn an_artifact_that_is_still_written_is_not_launched() {
    let site = Site::watching_a_folder().start("v1");
    let made = site.upload("v2");
    let whole = fs::read(&made).unwrap();
    let slow = site.site().join("releases").join(made.file_name().unwrap());
    let mut copy = fs::File::create(&slow).unwrap();
    std::io::Write::write_all(&mut copy, &whole[..whole.len() / 2]).unwrap();
    // It rests for longer than it takes to settle, but somebody has it open.
    site.wait_until("it is seen to be open", |status| {
        let problem = status.artifact_problem.as_deref();
        problem.is_some_and(|problem| problem.contains("open for writing"))
    });
    std::io::Write::write_all(&mut copy, &whole[whole.len() / 2..]).unwrap();
    drop(copy);
    site.await_version("v2");
    site.await_launches(2);
}
