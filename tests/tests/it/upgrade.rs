//! A new handoff where the old one runs: rename the running program, put the new one there,
//! recycle.

use std::fs;
use std::path::Path;

use tests::binaries::write_or_spawn;
use tests::{Deployment, Site, binaries, command};

fn install(program: &Path) {
    let handoff = binaries::handoff();
    let _alone = write_or_spawn();
    fs::copy(handoff, program).expect("a copy of handoff");
}

#[test]
fn the_running_program_is_renamed_and_the_new_one_serves_beside_it_until_the_old_one_ends() {
    let deployment = Deployment::default();
    let folder = deployment.site();
    let program = folder.join(format!("handoff{}", std::env::consts::EXE_SUFFIX));
    let start = || Site::watching_a_pointer().with_program(program.clone());
    install(&program);
    deployment
        .run_deploy("v1", &["--if-idle", "accept"])
        .with(0);
    let old = start().launch_in(&deployment);
    old.await_version("v1");
    let upload = old.begin_upload("/upload");

    fs::rename(&program, folder.join("handoff-old.exe")).expect("a running program can be renamed");
    install(&program);
    // Recycled, the platform starts the new one for new requests while the old one ends its own.
    let new = start().launch_in(&deployment);
    new.await_version("v1");
    old.get("/version");
    assert_eq!(upload.finish().unwrap().status, 200);
    deployment
        .run_deploy("v2", &[])
        .with(0)
        .saying(&["active in 2 sidecars"]);
    drop(old);
    new.await_version("v2");
    let state = deployment.state();
    let status = ["status", "--state", state.to_str().unwrap()];
    command::run(&status).with(0);
}
