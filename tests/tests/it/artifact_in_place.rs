//! Overwriting what runs, slowly and under load.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::Site;
use tests::archive::program;
use tests::source::overwrite_slowly;

#[test]
fn what_is_overwritten_in_small_pieces_under_load_is_never_launched_by_halves() {
    // Long, so that a pause of a busy machine is not the end of the upload.
    let site = Site::overwritten_in_place()
        .with("--settle", "4s")
        .start("v1");
    let path = site
        .site()
        .join(format!("app{}", std::env::consts::EXE_SUFFIX));
    let over = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = site.get("/version");
                    assert_eq!(answer.status, 200);
                    assert!(["v1", "v2"].contains(&answer.text()), "{}", answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        overwrite_slowly(&path, &program("v2"), 40, Duration::from_millis(50));
        let served = catch_unwind(AssertUnwindSafe(|| site.await_version("v2")));
        over.store(true, Ordering::Relaxed);
        served.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert!(answered.into_inner() > 40);
    site.await_launches(2);
    assert_eq!(fs::read(&path).unwrap(), program("v2"));
}

#[test]
fn a_writer_that_opens_its_file_twice_is_waited_for_between() {
    let site = Site::overwritten_in_place()
        .with("--settle", "3s")
        .start("v1");
    let path = site
        .site()
        .join(format!("app{}", std::env::consts::EXE_SUFFIX));
    overwrite_slowly(&path, &program("v2"), 2, Duration::from_secs(1));
    site.await_version("v2");
    site.await_launches(2);
}
