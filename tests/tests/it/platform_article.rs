//! The article's own case, side by side: an app that watches its folder and ends itself, and the
//! same traffic with handoff before the app.
//!
//! `cargo test -p tests --test it platform_article:: -- --nocapture` prints the figures that
//! the README shows.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sample_app::overlay::{self, Overlay};
use tests::binaries::write_or_spawn;
use tests::eventually;
use tests::load::{Load, Tally};
use tests::platform::{Home, Iis, Module};

const DEPLOYS: usize = 10;
/// Requests a second; some of them take up to 1.2 s.
const RATE: u32 = 200;

/// The module that both are run by. A request that finds a kept connection closed is sent again:
/// without that the article's app would lose more.
fn module() -> Module {
    Module {
        resends: true,
        ..Module::v1()
    }
}

#[cfg_attr(
    windows,
    ignore = "Wine: too slow for this load, which is the point here"
)]
#[test]
fn an_app_that_ends_itself_loses_requests_and_behind_handoff_none_is_lost() {
    let article = with_the_article();
    let handoff = with_handoff();
    let mut out = std::io::stderr();
    for (who, tally) in [("the article's way", &article), ("handoff", &handoff)] {
        // Past the capture of the test runner: these figures are the point.
        let _ = writeln!(
            out,
            "{who}: {DEPLOYS} deploys at {RATE} requests/s: {tally}"
        );
    }
    assert!(article.lost() > 0, "{article}");
    assert_eq!(handoff.lost(), 0, "{handoff}");
}

fn with_handoff() -> Tally {
    // A deploy takes less time than the slow requests: more releases than usual drain at once.
    let home = Home::new().setting("HANDOFF_MAX_DRAINING", "20");
    home.deploy("v0");
    let iis = Iis::start(&home, module());
    iis.await_version("v0");
    let load = Load::offer(iis.address(), RATE);
    for number in 1..=DEPLOYS {
        home.deploy(format!("v{number}"));
        iis.await_version(&format!("v{number}"));
    }
    load.end()
}

fn with_the_article() -> Tally {
    let program = Path::new(env!("CARGO_BIN_EXE_article"));
    let home = Home::of_the_article(program);
    deploy(&home, program, "v0");
    let iis = Iis::start(&home, module());
    let serves = |version: &str| {
        eventually(
            || iis.failure(&format!("{version} serves")),
            || (iis.get("/version").release() == version).then_some(()),
        );
    };
    serves("v0");
    let load = Load::offer(iis.address(), RATE);
    for number in 1..=DEPLOYS {
        deploy(&home, program, &format!("v{number}"));
        serves(&format!("v{number}"));
    }
    load.end()
}

/// Deploys in the order that is kindest to the article: the pointer first, and the whole file at
/// once, so that no half of it is run and the old app not started again.
fn deploy(home: &Home, program: &Path, version: &str) {
    let name = format!("{version}{}", std::env::consts::EXE_SUFFIX);
    let overlay = Overlay {
        version: version.to_owned(),
        args: Vec::new(),
    };
    let whole = home.wwwroot().join(&name);
    {
        let _alone = write_or_spawn();
        overlay::write(program, &whole, &overlay).expect("a release");
    }
    fs::write(home.wwwroot().join("_artifact.txt"), &name).expect("a pointer");
    fs::rename(whole, home.wwwroot().join("_target").join(name)).expect("a new file");
}
