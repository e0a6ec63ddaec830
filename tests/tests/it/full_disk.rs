//! A disk without any room, under the state folder of a sidecar that serves.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::symlink;

use tests::mount::Mount;
use tests::{Running, Site};

/// A sidecar that serves `v2` after `v1`, and has its state on this disk.
fn with_state_on(disk: &Mount) -> Running {
    let mut site = Site::watching_a_pointer().start("v1");
    site.ask_to_stop();
    site.await_exit();
    let state = site.deployment().state();
    fs::remove_dir_all(&state).expect("a state folder");
    symlink(disk.path(), &state).expect("a link");
    site.start_again();
    site.await_version("v1");
    site.deploy("v2");
    site.await_version("v2");
    site
}

/// Takes all room, also what has become free since.
fn fill(disk: &Mount) {
    let mut filler = File::options();
    let filler = filler.create(true).append(true);
    let mut filler = filler.open(disk.path().join("filler")).expect("a file");
    let full = loop {
        if let Err(error) = filler.write_all(&[0; 512]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull);
}

#[test]
fn commands_are_written_and_carried_out_and_the_status_is_seen_also_after_a_restart() {
    let Some(disk) = Mount::tmpfs("size=4m") else {
        return;
    };
    let mut site = with_state_on(&disk);
    let go_to = |site: &Running, to: &str| {
        fill(&disk);
        let rollback = site.deployment().run_command("rollback", &[to]);
        rollback.with(0).saying(&[to, "serves again"]);
        site.await_version(to);
    };
    for to in ["v1", "v2", "v1"] {
        go_to(&site, to);
    }
    site.kill();
    fill(&disk);
    site.start_again();
    site.await_active("v1");
    go_to(&site, "v2");
    site.ask_to_stop();
    site.await_exit();
    fill(&disk);
    site.start_again();
    site.await_active("v2");
    let status = site.deployment().run_command("status", &[]);
    status.with(0).saying(&["active", "v2-"]);
    go_to(&site, "v1");

    fs::remove_file(disk.path().join("filler")).expect("a file");
    site.deploy("v3");
    site.await_version("v3");
    site.ask_to_stop();
    site.await_exit();
}
