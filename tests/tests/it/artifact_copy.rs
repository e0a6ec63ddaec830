//! Private copies: what is copied, where to, and what when that fails.

use tests::{Site, folder, tools};

#[test]
fn copies_are_pruned_to_those_in_use_and_some_more() {
    let site = Site::watching_a_pointer().with("--keep", "1").start("v1");
    for version in ["v2", "v3", "v4", "v5", "v6", "v7"] {
        site.deploy(version);
        site.await_version(version);
        site.wait_until("only it is left", |status| status.is_at_rest());
    }
    // The active one, two good ones before it, and one more.
    tests::eventually(
        || format!("few copies are left, not {:?}", site.copies()),
        || (site.copies().len() <= 4).then_some(()),
    );
    let copies = site.copies();
    assert!(
        copies.iter().any(|copy| copy.starts_with("v7-")),
        "{copies:?}"
    );
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn what_leads_back_to_what_was_deployed_is_warned_about_if_it_can_be_reached() {
    if !tools::has("python3") {
        return;
    }
    let server = ["python3", "-m", "http.server", "--bind", "{host}", "{port}"];
    let site = Site::watching_a_pointer().running(&server);
    let site = site.launch(folder("v1", &[("index.html", "one")]));
    let venv = site.site().join("uploads/v2");
    let script = format!("#!{}/venv/bin/python\nimport app\n", venv.display());
    let module = venv.join("src").display().to_string();
    site.deploy(folder(
        "v2",
        &[
            ("index.html", "two"),
            ("venv/bin/uvicorn", &script),
            ("venv/lib/_app.pth", &module),
        ],
    ));
    site.await_shown("/index.html", "two");
    site.await_log("lead back into the deployed folder");
    site.await_log("venv/lib/_app.pth");
    // Nothing starts it.
    assert!(!site.log().contains("venv/bin/uvicorn,"));
}

#[cfg(unix)]
#[test]
fn a_script_that_names_the_deployed_folder_is_warned_about_if_it_is_started() {
    let app = tests::binaries::sample_app().display();
    let site = Site::watching_a_pointer()
        .running(&["sh", "start.sh"])
        .launch_empty();
    let deployed = site.site().join("uploads/v1");
    let deployed = deployed.display();
    // As pip writes it for a long path.
    let long = format!("#!/bin/sh\n'''exec' \"{deployed}/venv/bin/python\" \"$0\" \"$@\"\n' '''\n");
    let start = format!(
        "PATH=\"$PWD/venv/bin:$PATH\"\nexport TMPDIR={deployed}/tmp\nexec sh ./go \"$PORT\"\n"
    );
    let go = format!("command -v gunicorn\nexec '{app}' -port $1 --version-name v1\n");
    site.deploy(folder(
        "v1",
        &[
            ("start.sh", &start),
            ("go", &go),
            ("venv/bin/gunicorn", &long),
            ("venv/bin/flask", &long),
        ],
    ));
    site.await_version("v1");
    site.await_log("copy_leads_back");
    site.await_log("files=\"venv/bin/gunicorn, start.sh\" count=2");
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_back_has_a_remedy_of_its_own() {
    let build = |version| {
        let app = tests::binaries::sample_app().display();
        let script = format!("exec '{app}' -port $1 --version-name {version}\n");
        folder(version, &[("start", &script)])
    };
    let command = ["sh", "-c", "exec sh ./start {port}"];
    let site = Site::watching_a_pointer()
        .running(&command)
        .start(build("v1"));
    let v2 = site.upload(build("v2"));
    std::os::unix::fs::symlink(v2.join("start"), v2.join("run")).expect("a link");
    site.point(format!("{}\n", v2.display()));
    site.await_version("v2");
    site.await_log("ln -sr");
    assert!(!site.log().contains("--editable"), "{}", site.log());
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn an_empty_folder_beside_what_serves_takes_nothing_from_it() {
    if !tools::has("python3") {
        return;
    }
    let server = ["python3", "-m", "http.server", "--bind", "{host}", "{port}"];
    let site = Site::watching_a_pointer().running(&server);
    let site = site.launch(folder("v1", &[("sub/index.html", "one")]));
    site.await_shown("/sub/index.html", "one");
    std::fs::create_dir(site.site().join("uploads/v1/tmp")).expect("a folder");
    site.await_log("copy_replaced");
    site.await_shown("/sub/index.html", "one");
    tests::eventually(
        || format!("the first one stays, of {:?}", site.copies()),
        || (site.copies().len() == 2).then_some(()),
    );
    site.await_launches(1);
}

#[cfg(unix)]
#[test]
fn a_refused_release_is_tried_again_when_its_program_may_be_run() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    if !tools::has("python3") {
        return;
    }
    let script = "#!/bin/sh\nexec python3 -m http.server --bind 127.0.0.1 $PORT\n";
    let release = |name| folder(name, &[("run", script), ("index.html", name)]);
    let site = Site::watching_a_pointer().running(&["./run"]);
    let site = site.launch(release("v1"));
    let may_run = |name: &str| {
        let run = site.site().join("uploads").join(name).join("run");
        let permissions = Permissions::from_mode(0o755);
        std::fs::set_permissions(run, permissions).expect("a program");
    };
    may_run("v1");
    site.await_shown("/index.html", "v1");
    site.deploy(release("v2"));
    site.wait_until("v2 is refused", |status| {
        status.has_outcome("v2", tests::status::Outcome::Refused)
    });
    may_run("v2");
    site.await_shown("/index.html", "v2");
    site.await_log("release_reshaped");
}

/// A release whose program writes beside its code, before it serves.
#[cfg(unix)]
fn writes(name: &str, command: &str) -> tests::Release {
    let script = format!("{command}\nexec \"$1\" -port \"$2\" --version-name {name}\n");
    folder(name, &[("run.sh", &script)])
}

#[cfg(unix)]
#[test]
fn a_release_that_wrote_data_into_its_copy_is_named_at_the_next_deploy() {
    let app = tests::binaries::sample_app().to_str().expect("a path");
    let site = Site::watching_a_pointer().running(&["sh", "run.sh", app, "{port}"]);
    let site = site.start(writes(
        "v1",
        "mkdir -p uploads log && echo 1 > app.db && echo 1 > uploads/1 && echo 1 > log/app",
    ));
    site.deploy(writes("v2", ""));
    site.await_version("v2");
    site.await_log("data_left_in_copy");
    let status = site.wait_until("it is in the status", |status| status.data_left.is_some());
    let left = status.data_left.as_ref().expect("what is left");
    assert_eq!(left.files, ["app.db", "uploads/1"]);
    assert!(left.release.as_str().starts_with("v1-"), "{left:?}");
    let state = site.deployment().state();
    let said = tests::command::run(&["status", "--state", state.to_str().expect("a path")]);
    said.with(0).saying(&["app.db, uploads/1"]);
    // The new one writes nothing.
    site.deploy(writes("v3", ":"));
    site.await_version("v3");
    site.wait_until("nothing is left", |status| status.data_left.is_none());
}

#[cfg(unix)]
#[test]
fn a_release_that_changed_its_own_code_is_as_deployed_after_the_next_deploy_of_it() {
    let app = tests::binaries::sample_app().to_str().expect("a path");
    let site = Site::watching_a_folder().running(&["sh", "run.sh", app, "{port}"]);
    let change = "sed -i 's/ v1$/ changed/' run.sh";
    let site = site.with("--bake", "0s").start(writes("v1", change));
    site.deploy(writes("v2", ""));
    site.await_version("v2");
    site.wait_until("only it is left", |status| status.is_at_rest());
    // The same content under another name is the same release.
    let again = site.site().join("releases/again");
    let uploaded = site.upload(writes("v1", change));
    std::fs::rename(uploaded, again).expect("a deploy");
    site.await_version("v1");
}

#[cfg(unix)]
mod with_file_systems {
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write as _};
    use std::path::PathBuf;

    use rustix::process::Signal;
    use tests::mount::Mount;
    use tests::processes::signal;
    use tests::{file, release::sha256};

    use super::*;

    #[test]
    fn a_full_disk_is_told_and_tried_again_and_nothing_is_lost() {
        let Some(disk) = Mount::tmpfs("size=400m") else {
            return;
        };
        let site = Site::watching_a_pointer();
        let site = site
            .with("--cache", disk.path().to_str().unwrap())
            .start("v1");
        let filler = disk.path().join("filler");
        let mut file = File::create(&filler).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        drop(file);
        let v2 = site.upload("v2");
        let digest = sha256(&v2);
        site.point(format!("{}\nsha256={digest}\n", v2.display()));
        let status = site.await_problem("No space left on device");
        assert!(status.artifact_problem.clone().unwrap().contains("--cache"));
        site.await_version("v1");
        fs::remove_file(filler).unwrap();
        site.await_version("v2");
        site.wait_until("the problem is over", |s| s.artifact_problem.is_none());
        site.await_launches(2);
    }

    /// Fills the disk until not even an empty file can be made.
    fn fill(disk: &Mount) -> PathBuf {
        let filler = disk.path().join("filler");
        fs::create_dir(&filler).expect("a folder");
        let mut names = (0..).map(|number: u32| filler.join(number.to_string()));
        while names.next().is_some_and(|name| File::create(name).is_ok()) {}
        filler
    }

    #[test]
    fn on_a_full_disk_handoff_starts_again_with_what_it_has() {
        let Some(disk) = Mount::tmpfs("size=400m,nr_inodes=200") else {
            return;
        };
        let site = Site::watching_a_pointer();
        let mut site = site
            .with("--cache", disk.path().to_str().unwrap())
            .start("v1");
        site.ask_to_stop();
        site.await_exit();
        let staging = fs::read_dir(disk.path().join("staging")).unwrap();
        assert_eq!(staging.count(), 0, "nothing is left that could make room");
        let filler = fill(&disk);
        site.start_again();
        site.await_version("v1");
        site.deploy("v2");
        site.await_problem("No space left on device");
        site.await_version("v1");
        fs::remove_dir_all(filler).unwrap();
        site.await_version("v2");
    }

    #[test]
    fn a_cache_that_runs_no_programs_is_an_error_that_names_the_remedy() {
        let Some(disk) = Mount::tmpfs("noexec") else {
            return;
        };
        let cache = disk.path().to_str().unwrap();
        let site = Site::watching_a_pointer()
            .with("--cache", cache)
            .launch("v1");
        let status = site.await_problem("noexec");
        assert!(status.artifact_problem.clone().unwrap().contains("--cache"));
        assert!(status.handoffs.is_empty(), "{:?}", status.handoffs);
        // What another program reads need not be executable.
        let script = b"exec \"$1\" -port \"$2\"";
        let app = tests::binaries::sample_app().to_str().unwrap();
        let command = ["sh", "{artifact}", app, "{port}"];
        let site = Site::watching_a_pointer().running(&command);
        let site = site.with("--cache", cache).start(file("v1", script));
        site.await_version("dev");
    }

    #[test]
    fn a_cache_that_is_cleaned_while_handoff_runs_is_filled_again() {
        let site = Site::watching_a_pointer().with("--bake", "0s").start("v1");
        let clean = || fs::remove_dir_all(site.cache().join("releases")).expect("copies");
        clean();
        let pid = site
            .status()
            .active
            .clone()
            .expect("an active one")
            .pid
            .unwrap();
        signal(pid, Signal::KILL);
        site.wait_until("another one serves", |s| {
            s.active
                .as_ref()
                .is_some_and(|active| active.pid != Some(pid))
        });
        site.await_version("v1");

        // What else is needed for a deploy is there again, too.
        clean();
        site.deploy("v2");
        site.await_version("v2");
        site.wait_until("only it is left", |status| status.is_at_rest());

        clean();
        site.ask(r#"{"serial":1,"rollback":{"to":null,"serial":1}}"#);
        let status = site.await_active("v1");
        let refused: Vec<_> = status.refused.iter().map(|r| &r.release).collect();
        assert!(
            refused.iter().all(|id| id.as_str().starts_with("v2-")),
            "{refused:?}"
        );
    }

    #[test]
    fn what_is_not_to_be_copied_runs_where_it_is() {
        let site = Site::watching_a_pointer()
            .with("--copy", "never")
            .start("v1");
        let pid = site
            .status()
            .active
            .clone()
            .expect("an active one")
            .pid
            .unwrap();
        let runs = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(runs, site.site().join("uploads/v1"));
        assert!(site.copies().is_empty());
        site.deploy("v2");
        site.await_version("v2");
    }

    #[test]
    fn the_copies_of_a_killed_sidecar_in_the_making_are_removed() {
        let cache = tempfile::tempdir().unwrap();
        let path = cache.path().to_str().unwrap();
        let staging = || -> Vec<_> {
            let entries = fs::read_dir(cache.path().join("staging")).expect("the cache");
            entries.flatten().map(|entry| entry.file_name()).collect()
        };
        let site = Site::watching_a_pointer().with("--cache", path).start("v1");
        site.kill();
        let left = staging();
        assert_eq!(left.len(), 2, "its folder and its lock");
        drop(site);
        let site = Site::watching_a_pointer().with("--cache", path).start("v1");
        let present = staging();
        assert_eq!(present.len(), 2, "the new one's");
        assert!(left.iter().all(|name| !present.contains(name)));
        drop(site);
    }
}
