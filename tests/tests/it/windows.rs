//! Cases that only Windows has: paths of other kinds, batch files, handles that children inherit,
//! and machines that refuse a job.
#![cfg(windows)]

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use tests::{Release, Running, Site, app, binaries, eventually, file};

/// Tells a handoff that was built for tests to do as where jobs are refused.
const REFUSES_JOBS: (&str, &str) = ("HANDOFF_TEST_REFUSES_JOBS", "1");

fn without_jobs() -> Site {
    Site::watching_a_pointer().with_variable(REFUSES_JOBS.0, REFUSES_JOBS.1)
}

/// Returns the address on which the app itself listens.
fn app_of(site: &Running) -> SocketAddr {
    let active = site.status().active.clone().expect("an active one");
    active.address.expect("its address")
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[track_caller]
fn await_gone(address: SocketAddr) {
    eventually(
        || format!("nobody listens on {address}"),
        || {
            let refused = TcpStream::connect(address).err()?;
            (refused.kind() == io::ErrorKind::ConnectionRefused).then_some(())
        },
    );
}

/// A batch file that runs `sample-app`, whose version it tells.
fn launcher(name: &str) -> Release {
    let app = binaries::sample_app().display();
    let version = name.split('.').next().unwrap_or(name);
    let batch = format!("@echo off\r\n\"{app}\" --version-name {version} %*\r\n");
    file(name, batch.as_bytes())
}

#[test]
fn an_app_ends_with_a_handoff_that_is_killed() {
    let site = Site::watching_a_pointer().start(app("v1").that("--leak-child"));
    let app = app_of(&site);
    site.kill();
    await_gone(app);
    await_gone(site.address());
}

#[test]
fn what_a_batch_file_starts_serves_and_ends_with_it() {
    for suffix in ["cmd", "bat"] {
        let command = ["{artifact}", "-port", "{port}"];
        let site = Site::watching_a_pointer().running(&command);
        let site = site.start(launcher(&format!("v1.{suffix}")));
        site.await_version("v1");
        let v1 = app_of(&site);
        site.deploy(launcher(&format!("v2.{suffix}")));
        site.await_version("v2");
        site.wait_until("v1 is stopped", |status| status.is_at_rest());
        await_gone(v1);
        let v2 = app_of(&site);
        site.kill();
        await_gone(v2);
    }
}

#[test]
fn where_jobs_are_refused_releases_are_handed_off_all_the_same() {
    let site = without_jobs().running(&["{artifact}", "-port", "{port}"]);
    let site = site.start(launcher("v1.cmd"));
    site.await_version("v1");
    site.await_log("no job object");
    let v1 = app_of(&site);
    site.deploy(launcher("v2.cmd"));
    site.await_version("v2");
    site.wait_until("v1 is stopped", |status| status.is_at_rest());
    // What the batch file has started, too.
    await_gone(v1);
}

#[test]
fn an_app_that_outlives_a_killed_handoff_holds_nothing_of_it_and_is_ended_by_the_next_one() {
    let mut site = without_jobs().start("v1");
    // Open while an app is started: the app would keep it open.
    let mut client = site.connect();
    assert_eq!(client.get("/version").expect("an answer").text(), "v1");
    site.deploy("v2");
    site.await_version("v2");
    site.wait_until("v1 is stopped", |status| status.is_at_rest());
    let orphan = app_of(&site);

    site.kill();
    assert!(accepts(orphan), "without a job it outlives handoff");
    await_gone(site.address());
    client.rest();

    site.start_again();
    await_gone(orphan);
    site.await_log("a dead sidecar left behind");
    site.await_version("v2");
}

#[test]
fn a_handoff_ends_though_what_its_app_started_outlives_the_app() {
    // It has the other end of what handoff reads, and nobody knows whose it is: its parent has ended.
    let app = binaries::sample_app().display();
    let batch = format!(
        "@echo off\r\ncmd /c start \"\" /b \"{app}\" --leaked-child\r\n\
         \"{app}\" --version-name v1 %*\r\n"
    );
    let site = without_jobs().running(&["{artifact}", "-port", "{port}"]);
    let site = site.start(file("v1.cmd", batch.as_bytes()));
    site.await_version("v1");
    site.ask_to_stop();
    assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
}

#[test]
fn a_siblings_app_is_left_alone() {
    let site = without_jobs().start("v1");
    let apps = app_of(&site);
    let cache = site.cache();
    let sibling = without_jobs().with("--cache", cache.to_str().expect("a path"));
    let sibling = sibling.start("v1");
    sibling.await_version("v1");
    assert!(accepts(apps));
    site.await_version("v1");
}

#[test]
fn another_program_cannot_take_the_port_over() {
    use socket2::{Domain, Socket, Type};

    let site = Site::watching_a_pointer().start("v1");
    let thief = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    thief.set_reuse_address(true).expect("an option");
    thief.bind(&site.address().into()).unwrap_err();
}

/// Opens a file as a scanner for viruses does, or who still writes it: for itself alone.
fn locked(path: &Path) -> File {
    use std::os::windows::fs::OpenOptionsExt as _;

    let file = File::options().write(true).share_mode(0).open(path);
    file.expect("a file for oneself")
}

#[test]
fn an_artifact_and_a_pointer_that_are_locked_are_waited_for() {
    let site = Site::watching_a_pointer().start("v1");
    let v2 = site.upload("v2");
    let lock = locked(&v2);
    site.point(v2.display().to_string());
    site.await_problem("is open for writing");
    site.await_version("v1");
    drop(lock);
    site.await_version("v2");

    let v3 = site.upload("v3");
    let folder = v3.ancestors().nth(2).expect("the site's folder");
    let mut pointer = locked(&folder.join("_artifact.txt"));
    pointer.set_len(0).expect("it is empty");
    write!(pointer, "{}", v3.display()).expect("it is written");
    site.await_problem("os error 32");
    site.await_version("v2");
    drop(pointer);
    site.await_version("v3");
}

#[test]
fn an_artifact_that_somebody_reads_is_copied() {
    use std::os::windows::fs::OpenOptionsExt as _;

    // As a sidecar beside this one does for its own copy; and as who lets nobody write meanwhile.
    const SHARE_READING: u32 = 1;
    const SHARE_ALL: u32 = 7;
    let site = Site::watching_a_pointer().start("v1");
    for (version, share) in [("v2", SHARE_ALL), ("v3", SHARE_READING)] {
        let path = site.upload(version);
        let reader = File::options().read(true).share_mode(share).open(&path);
        let _reader = reader.expect("a reader");
        site.point(path.display().to_string());
        site.await_version(version);
    }
}

/// Serves, swaps, and serves files, wherever all of it lies.
#[track_caller]
fn works_at(place: fn(PathBuf) -> PathBuf) {
    for site in [
        Site::watching_a_pointer(),
        Site::watching_a_folder(),
        Site::overwritten_in_place(),
    ] {
        let site = site.at(place).start("v1");
        site.await_version("v1");
        site.deploy("v2");
        site.await_version("v2");
        site.wait_until("v1 is stopped", |status| status.is_at_rest());
        std::fs::write(site.shared().join("kept"), "").expect("a file");
    }
}

#[test]
fn a_path_may_have_blanks_and_other_letters() {
    works_at(|folder| folder.join("Program Files (x86) & 100% café"));
}

#[test]
fn the_path_of_a_batch_file_may_have_them_too() {
    let command = ["{artifact}", "-port", "{port}"];
    for place in [
        |folder: PathBuf| folder.join("Program Files"),
        |folder: PathBuf| folder.join("Program Files (x86) & 100% café"),
    ] {
        for suffix in ["cmd", "bat"] {
            let site = Site::watching_a_pointer().running(&command).at(place);
            let site = site.start(launcher(&format!("v1.{suffix}")));
            site.await_version("v1");
            site.deploy(launcher(&format!("v2.{suffix}")));
            site.await_version("v2");
        }
    }
}

#[test]
fn a_path_may_be_verbatim() {
    works_at(|folder| Path::new(r"\\?\").join(folder));
}

/// More than 260 characters.
fn deep(folder: PathBuf) -> PathBuf {
    let name = "a-folder-with-a-rather-long-name-of-sixty-characters-in-all";
    (0..5).fold(folder, |path, _| path.join(name))
}

#[test]
fn a_path_may_be_long_but_not_that_of_the_working_directory() {
    let site = Site::watching_a_pointer().at(deep).launch("v1");
    site.wait_until("the reason is said", |status| {
        let failure = status.last_failure.as_ref();
        failure.is_some_and(|failure| failure.reason.contains("--workdir"))
    });
    // Neither that of the program, under Wine. Where the cache is by default, it is not long.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let elsewhere = elsewhere.path().to_str().expect("a path");
    let site = Site::watching_a_pointer()
        .with("--workdir", elsewhere)
        .with("--cache", elsewhere);
    let site = site.at(deep).start("v1");
    site.await_version("v1");
    site.deploy("v2");
    site.await_version("v2");
}

fn on_a_share(folder: PathBuf) -> PathBuf {
    let path = folder.into_os_string().into_string().expect("a path");
    let path = path.replacen(r"C:\", "", 1);
    Path::new(r"\\localhost\c$").join(path)
}

#[test]
fn a_path_may_be_on_a_share() {
    works_at(on_a_share);
}

/// Windows' own cmd starts it elsewhere then, which Wine's does not: see the README's limits.
#[test]
fn a_batch_file_may_be_on_a_share() {
    let command = ["{artifact}", "-port", "{port}"];
    let site = Site::watching_a_pointer().running(&command).at(on_a_share);
    let site = site.start(launcher("v1.cmd"));
    site.await_version("v1");
}
