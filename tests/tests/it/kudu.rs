//! A push to App Service: what Kudu runs, in an environment like Kudu's.
#![cfg(unix)] // On Windows there need not be a bash; there the script runs handoff.exe all the same.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command::{self, Ended};
use tests::tools::has;
use tests::{Deployment, Release, Site, app, binaries};

/// A site as App Service has it, and Kudu beside it.
struct Kudu {
    deployment: Deployment,
    /// URL of the site, to wake it.
    url: String,
    /// True if cargo builds the program, false if it is pushed as a binary.
    is_built: bool,
}

impl Kudu {
    fn new() -> Self {
        let kudu = Self {
            deployment: Deployment::default(),
            url: "http://127.0.0.1:9/".to_owned(),
            is_built: false,
        };
        let installed = kudu.home().join("handoff/0.1.0");
        fs::create_dir_all(&installed).expect("a file or folder");
        symlink(binaries::handoff(), installed.join("handoff.exe")).expect("a file or folder");
        fs::create_dir_all(kudu.home().join("site/wwwroot")).expect("a file or folder");
        kudu
    }

    /// `%HOME%`
    fn home(&self) -> PathBuf {
        self.deployment
            .site()
            .parent()
            .expect("a folder above")
            .to_owned()
    }

    /// Pushes a commit, and starts what Kudu runs then.
    fn push(&self, commit: &str, release: impl Into<Release>) -> command::Command {
        let source = self.home().join("site/repository");
        fs::create_dir_all(&source).expect("a file or folder");
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-app");
        for file in ["deploy.sh", ".deployment"] {
            fs::copy(sample.join(file), source.join(file)).expect("a file or folder");
        }
        if self.is_built {
            fs::write(source.join("Cargo.toml"), "").expect("a file or folder")
        } else {
            release.into().write_to(&source.join("app.exe"))
        }

        let deployment = fs::read_to_string(source.join(".deployment")).expect("a file");
        let (_, line) = deployment.split_once("command = ").expect("a command");
        let mut words = line.split_whitespace();
        let mut script = Command::new(words.next().expect("a word"));
        script.args(words).current_dir(&source).env_clear();
        let path = std::env::var("PATH").expect("PATH");
        let tools = self.home().join("tools");
        script.env("PATH", format!("{}:{path}", tools.display()));
        for (name, value) in [
            ("HOME", self.home()),
            ("DEPLOYMENT_SOURCE", source),
            ("DEPLOYMENT_TARGET", self.home().join("site/wwwroot")),
            ("DEPLOYMENT_TEMP", self.home().join("temp")),
            ("HANDOFF_STATE", self.deployment.state()),
        ] {
            script.env(name, value);
        }
        for (name, value) in [
            ("SCM_COMMIT_ID", commit),
            ("SCM_COMMAND_IDLE_TIMEOUT", "60"),
            ("IN_PLACE_DEPLOYMENT", "0"),
            ("WEBSITE_SITE_NAME", "mysite"),
            ("WEBSITE_INSTANCE_ID", "0123456789abcdef"),
            ("WEBSITE_HOSTNAME", "mysite.azurewebsites.net"),
            ("WAKE_URL", &self.url),
        ] {
            script.env(name, value);
        }
        command::start(script)
    }

    fn pushed(&self, commit: &str, release: impl Into<Release>) -> Ended {
        self.push(commit, release).end()
    }
}

const FIRST: &str = "0123456789abcdef0123456789abcdef01234567";
const SECOND: &str = "fedcba9876543210fedcba9876543210fedcba98";
const THIRD: &str = "aaaaaaaaaa76543210fedcba9876543210fedcba";

#[test]
fn two_commits_in_a_row_are_two_releases_named_after_site_and_commit() {
    let kudu = Kudu::new();
    let site = Site::watching_a_pointer().launch_in(&kudu.deployment);
    for (commit, version) in [(FIRST, "v1"), (SECOND, "v2")] {
        let name = format!("mysite-{}", &commit[..10]);
        kudu.pushed(commit, version)
            .with(0)
            .saying(&[&name, "is active in 1 sidecar"]);
        assert!(
            kudu.deployment
                .pointer()
                .starts_with(&format!("releases/{name}.exe\n"))
        );
        site.await_version(version);
    }
    site.await_launches(2);
}

#[test]
fn a_bad_build_fails_the_deployment_with_its_reason_and_the_site_does_not_notice() {
    let kudu = Kudu::new();
    let site = Site::watching_a_pointer().launch_in(&kudu.deployment);
    kudu.pushed(FIRST, "v1").with(0);
    kudu.pushed(SECOND, app("v2").that("--exit-code=3"))
        .with(1)
        .saying(&[
            "mysite-fedcba9876",
            "exit status: 3",
            "v2 exits at once with 3, as told by --exit-code",
        ]);
    site.await_version("v1");
    kudu.pushed(THIRD, "v3").with(0);
    site.await_version("v3");
}

#[test]
fn a_sleeping_site_is_woken_and_serves_its_old_release_before_it_is_given_the_new() {
    if !has("curl") {
        return;
    }
    let mut kudu = Kudu::new();
    let awake = Site::watching_a_pointer().launch_in(&kudu.deployment);
    kudu.pushed(FIRST, "v1").with(0);
    drop(awake);

    // App Service: what nobody wants does not run; whoever requests it waits until it does.
    let front_end = TcpListener::bind("127.0.0.1:0").unwrap();
    kudu.url = format!("http://{}/", front_end.local_addr().unwrap());
    let push = kudu.push(SECOND, "v2");
    let (mut request, _) = front_end.accept().unwrap();
    let mut head = [0; 512];
    let length = request.read(&mut head).unwrap();
    assert!(head[..length].starts_with(b"GET / HTTP/1.1\r\n"));
    let site = Site::watching_a_pointer().launch_in(&kudu.deployment);
    site.await_active("mysite-0123456789");
    request
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    push.end().with(0).saying(&["no sidecar runs: requesting"]);
    site.await_version("v2");
    site.await_launches(2);
}

#[test]
fn a_long_deployment_is_never_silent_for_long() {
    let kudu = Kudu::new();
    let _site = Site::watching_a_pointer().launch_in(&kudu.deployment);
    kudu.pushed(FIRST, "v1").with(0);
    let slow = kudu
        .pushed(SECOND, app("v2").that("--ready-after=25s"))
        .with(0);
    let lines = slow.stderr.matches("probing: GET / answered 503").count();
    assert!(lines >= 3, "{slow:#?}");
}

#[test]
fn a_build_is_waited_for_and_not_silent_either() {
    let mut kudu = Kudu::new();
    kudu.is_built = true;
    let built = kudu.deployment.build("v1");
    let tools = kudu.home().join("tools");
    fs::create_dir(&tools).unwrap();
    let release = "mkdir -p $DEPLOYMENT_TEMP/release && cp";
    let build = format!("sleep 12 && {release} {built:?} $DEPLOYMENT_TEMP/release/app.exe");
    fs::write(tools.join("cargo"), format!("#!/bin/sh\n{build}\n")).unwrap();
    fs::set_permissions(tools.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let site = Site::watching_a_pointer().launch_in(&kudu.deployment);
    kudu.pushed(FIRST, "v1")
        .with(0)
        .saying(&["still at it: cargo"]);
    site.await_version("v1");
    fs::write(
        tools.join("cargo"),
        "#!/bin/sh\necho error: no such type\nexit 101\n",
    )
    .unwrap();
    kudu.pushed(SECOND, "v2")
        .with(101)
        .saying(&["error: no such type"]);
    site.await_version("v1");
}

#[test]
fn what_is_missing_is_named() {
    let kudu = Kudu::new();
    let handoff = kudu.home().join("handoff");
    fs::remove_dir_all(&handoff).unwrap();
    kudu.pushed(FIRST, "v1")
        .with(1)
        .saying(&["no handoff.exe in"]);
}
