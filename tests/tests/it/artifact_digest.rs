//! Digests: what `handoff digest` prints, and what lies beside an artifact.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::binaries::spawn;
use tests::program::handoff;
use tests::release::sha256;
use tests::{Running, Site, app};

fn digest(path: &Path) -> String {
    let mut command = handoff();
    command.arg("digest").arg(path);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let child = spawn(&mut command).expect("handoff can be started");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.trim_end().to_owned()
}

/// It is equal on every system: deployers on one prove to servers on another.
#[test]
fn a_folders_digest_is_known() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("a-b", "between"),
        ("a.b", ""),
        ("a/nested/größe.txt", "lines\r\n"),
        ("Z", "upper case comes first"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(digest(folder.path()), KNOWN);
}

const KNOWN: &str = "50177c1f1530e3f1110a7989d24779c0b461bc07128e9b0ec6836a3b4b50d42a";

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn a_folders_digest_proves_that_it_is_whole() {
    let server = ["python3", "-m", "http.server", "--bind", "{host}", "{port}"];
    if !tests::tools::has("python3") {
        return;
    }
    let files = |text| tests::folder("v1", &[("index.html", text), ("sub/page", "x")]);
    let site = Site::watching_a_pointer().running(&server);
    let site = site.with("--settle-folder", "1h").launch(files("one"));
    let folder = site.site().join("uploads/v1");
    site.point(format!("uploads/v1\nsha256={}\n", digest(&folder)));
    site.wait_until("it serves", |status| status.active.is_some());
    site.await_shown("/index.html", "one");
}

/// A site that runs v1, and the path of v2, which is not there yet.
fn before_v2(site: Site) -> (Running, PathBuf, Vec<u8>) {
    let site = site.start("v1");
    let uploaded = site.upload("v2");
    let content = fs::read(&uploaded).expect("the upload");
    let path = site.site().join("releases").join(app("v2").file_name());
    (site, path, content)
}

fn beside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sha256", path.display()))
}

#[test]
fn a_digest_beside_an_artifact_is_read_however_it_was_written() {
    let (site, path, content) = before_v2(Site::watching_a_folder());
    let uploaded = site.site().join("uploads").join(app("v2").file_name());
    let upper = sha256(&uploaded).to_uppercase();
    // As `Get-FileHash` and `>` leave it: UTF-16, upper case, CRLF.
    let text = format!("\u{feff}{upper} *v2\r\n");
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(beside(&path), utf16).unwrap();
    fs::write(&path, content).unwrap();
    site.await_version("v2");
    let status = site.status();
    let proved = format!("sha256:{}", upper.to_lowercase());
    assert_eq!(status.handoff("v2").unwrap().digest, proved);
    site.await_launches(2);
}

#[test]
fn an_artifact_waits_for_its_digest_to_be_written() {
    let (site, path, content) = before_v2(Site::watching_a_folder());
    fs::write(beside(&path), "").unwrap();
    fs::write(&path, content).unwrap();
    site.await_problem("has no digest of the artifact in it");
    site.await_launches(1);
    site.await_version("v1");
    fs::write(beside(&path), sha256(&path)).unwrap();
    site.await_version("v2");
    site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
}

#[test]
fn a_digest_that_never_holds_is_a_problem_that_is_told_and_stays_told() {
    let (site, path, content) = before_v2(Site::watching_a_folder());
    let wrong = "ab".repeat(32);
    fs::write(beside(&path), &wrong).unwrap();
    fs::write(&path, content).unwrap();
    let status = site.await_problem(&wrong);
    assert_eq!(status.handoffs.len(), 1, "{status:#?}");
    site.await_version("v1");
    fs::write(beside(&path), sha256(&path)).unwrap();
    site.await_version("v2");
    site.await_launches(2);
}
