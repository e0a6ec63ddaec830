//! The ways to tell an app its port and names: by placeholders, by the environment, by where it
//! runs.

use tests::Site;

#[test]
fn an_app_is_told_its_port_by_argument_or_by_environment() {
    for command in [
        &[][..],
        &["-port", "{port}"],
        &["--port={port}", "--host", "{host}"],
    ] {
        let site = Site::watching_a_pointer().running(command).start("v1");
        site.await_version("v1");
    }
}

#[test]
fn an_app_is_told_the_name_of_its_release() {
    let command = ["--version-name", "{release}"];
    let site = Site::watching_a_pointer().running(&command).start("v1");
    let release = site.status().active.clone().expect("an active one").release;
    let release = release.as_str();
    assert!(release.starts_with("v1-"), "{release}");
    site.await_version(release);
}

#[test]
fn a_file_runs_from_a_copy_in_the_folder_it_was_deployed_in() {
    let site = Site::overwritten_in_place().start("v1");
    std::fs::write(site.site().join("page.txt"), "beside the app").unwrap();
    site.await_shown("/page.txt", "beside the app");
}

#[cfg(unix)]
mod with_a_shell {
    use tests::{Running, file, folder};

    use super::*;

    /// Writes what it is told to a shared file, then serves.
    fn tells(words: &str) -> Vec<String> {
        let script = format!("printf '%s\\n' {words} > \"$1/seen\"; exec \"$0\" -port {{port}}");
        ["sh", "-c", &script, "{artifact}", "{shared}"]
            .map(str::to_owned)
            .into()
    }

    fn told(words: &str, site: Site) -> (Running, Vec<String>) {
        let command = tells(words);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let site = site.running(&command).start("v1");
        let seen = std::fs::read_to_string(site.shared().join("seen")).expect("what it was told");
        let seen = seen.lines().map(str::to_owned).collect();
        (site, seen)
    }

    #[test]
    fn placeholders_stand_for_what_the_app_needs_to_know() {
        let words =
            "'{port}' '{host}' '{artifact}' '{dir}' '{release}' '{shared}' '{other}' \"$PWD\"";
        let (site, seen) = told(words, Site::watching_a_pointer());
        let active = site.status().active.clone().expect("an active one");
        let address = active.address.unwrap();
        let dir = site.site().join("uploads").display().to_string();
        let copy = site.copies_folder();
        let artifact = copy.join(active.release.as_str()).join("v1");
        assert_eq!(
            seen,
            [
                address.port().to_string(),
                "127.0.0.1".to_owned(),
                artifact.display().to_string(),
                dir.clone(),
                active.release.to_string(),
                site.shared().display().to_string(),
                "{other}".to_owned(),
                dir,
            ]
        );
    }

    #[test]
    fn variables_say_the_port_to_whatever_framework_reads_them() {
        let names = [
            "PORT",
            "HTTP_PLATFORM_PORT",
            "SERVER_PORT",
            "ASPNETCORE_PORT",
            "ASPNETCORE_URLS",
            "SHARED_DIR",
            "HOST",
            "MINE",
        ];
        let words = names.map(|name| format!("\"${name}\"")).join(" ");
        let site = Site::watching_a_pointer().with_variable("MINE", "kept");
        let (site, seen) = told(&words, site);
        let port = site
            .status()
            .active
            .clone()
            .expect("an active one")
            .address
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let shared = site.shared().display().to_string();
        let port = port.to_string();
        assert_eq!(
            seen,
            [
                &*port,
                &*port,
                &*port,
                &*port,
                &*url,
                &*shared,
                "127.0.0.1",
                "kept"
            ]
        );
    }

    #[test]
    fn variables_for_handoff_do_not_reach_the_app() {
        let words = "\"${HANDOFF_KEEP-unset}\" \"${NOTIFY_SOCKET-unset}\" \"${LISTEN_FDS-unset}\"";
        let site = Site::watching_a_pointer()
            .with_variable("HANDOFF_KEEP", "5")
            .with_variable("NOTIFY_SOCKET", "/no/such")
            .with_variable("LISTEN_FDS", "1");
        let (_site, seen) = told(words, site);
        assert_eq!(seen, ["unset", "unset", "unset"]);
    }

    #[test]
    fn an_app_that_would_publish_the_state_folder_is_not_launched() {
        let site = Site::watching_a_pointer().with("--workdir", "/");
        let site = site.launch("v1");
        let status = site.wait_until("it is not accepted", |status| {
            let problem = status.artifact_problem.as_deref();
            problem.is_some_and(|problem| problem.contains("lies in the app's working directory"))
        });
        assert!(status.handoffs.is_empty(), "{status:#?}");
    }

    #[test]
    fn a_file_without_the_right_to_be_run_gets_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let site = Site::watching_a_pointer().start("v1");
        let v2 = site.upload("v2");
        std::fs::set_permissions(&v2, std::fs::Permissions::from_mode(0o644)).unwrap();
        site.point(v2.display().to_string());
        site.await_version("v2");
    }

    #[test]
    fn a_command_with_a_slash_is_in_the_folder() {
        let script = "#!/bin/sh\necho started from $PWD\nexit 4\n";
        let run = folder("v1", &[("bin/run", script)]);
        let site = Site::watching_a_pointer().running(&["bin/run"]);
        let site = site.launch(run);
        // Without the right to be run; what matters is where it was looked for.
        let status = site.wait_until("it fails", |status| status.last_failure.is_some());
        let reason = status.last_failure.clone().unwrap().reason;
        let copy = site.site().with_file_name("cache").join("releases");
        assert!(reason.contains(copy.to_str().unwrap()), "{reason}");
        assert!(reason.contains("v1/bin/run"), "{reason}");
    }

    #[test]
    fn a_script_with_an_interpreter_line_is_a_program() {
        let script = b"#!/bin/sh\necho a script got \"$1\"\nexit 5\n";
        let site = Site::watching_a_pointer().running(&["-x", "{port}"]);
        let site = site.launch(file("v1", script));
        let status = site.wait_until("it fails", |status| status.last_failure.is_some());
        let failure = status.last_failure.clone().unwrap();
        assert_eq!(failure.exit.as_deref(), Some("exit status: 5"));
        assert_eq!(failure.output, ["a script got -x"]);
    }
}
