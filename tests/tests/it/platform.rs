//! The dealings of HttpPlatformHandler and ASP.NET Core's module with the process that they start.

use tests::stage::{OK, Stage};
use tests::status::Phase;
use tests::{Answer, Running, Site, eventually};

const TOKEN: &str = "7b0b2a0a-3c5e-4b0e-9d2f-5f0d3a1c9e77";
const FREE: &str = "0";

/// A deployment that the platform has started.
fn under_the_platform() -> Site {
    // The port is a sign only: the tests let the system choose one.
    Site::watching_a_pointer().with_variable("HTTP_PLATFORM_PORT", FREE)
}

/// Sends what the platform sends, with this token.
fn shutdown_request(site: &Running, path: &str, token: &str) -> Answer {
    let mut connection = site.connect();
    let headers = format!(
        "MS-ASPNETCORE-EVENT: shutdown\r\nMS-ASPNETCORE-TOKEN: {token}\r\nContent-Length: 0\r\n"
    );
    connection.send("POST", path, &headers);
    connection.answer().expect("an answer")
}

#[test]
fn the_shutdown_request_is_understood_and_a_request_in_flight_finished() {
    for variable in ["ASPNETCORE_TOKEN", "HTTP_PLATFORM_TOKEN"] {
        let site = under_the_platform().with_variable(variable, TOKEN);
        let site = site.with("--shutdown-timeout", "120s").start("v1");
        let upload = site.begin_upload("/upload");

        let answer = shutdown_request(&site, "/iisintegration", TOKEN);

        assert_eq!((answer.status, answer.release()), (202, "none"));
        site.wait_until("it shuts down", |status| status.phase == Phase::Stopping);
        assert_eq!(upload.finish().unwrap().status, 200);
        assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
        site.await_log("the platform's request");
    }
}

#[test]
fn eight_seconds_are_enough_for_what_does_not_end() {
    // The module kills after ten: what is not done by then would not be done in order.
    let site = under_the_platform().with_variable("ASPNETCORE_TOKEN", TOKEN);
    let site = site.start("v1");
    let _never_ends = site.begin_upload("/upload");
    assert_eq!(
        shutdown_request(&site, "/iisintegration", TOKEN).status,
        202
    );
    assert_eq!(site.await_exit().code(), Some(0), "{}", site.log());
    site.await_log("connections are cut: the shutdown timeout is over");
}

#[test]
fn it_comes_below_the_applications_path() {
    let site = under_the_platform().with_variable("ASPNETCORE_TOKEN", TOKEN);
    let site = site
        .with_variable("HTTP_PLATFORM_APPL_PATH", "/shop")
        .start("v1");
    let elsewhere = shutdown_request(&site, "/iisintegration", TOKEN);
    assert_eq!(elsewhere.release(), "v1", "the app's to answer");
    let answer = shutdown_request(&site, "/shop/iisintegration", TOKEN);
    assert_eq!(answer.status, 202);
    site.await_exit();
}

#[test]
fn with_another_token_it_is_a_request_like_any_other() {
    let site = under_the_platform().with_variable("ASPNETCORE_TOKEN", TOKEN);
    let site = site.start("v1");
    for wrong in ["", "7b0b2a0a", &TOKEN.to_uppercase()] {
        let answer = shutdown_request(&site, "/iisintegration", wrong);
        assert_eq!(answer.release(), "v1", "{wrong:?}: the app's to answer");
    }
    assert_eq!(site.status().phase, Phase::Running);
}

#[test]
fn where_there_is_no_token_none_is_right() {
    let site = under_the_platform().start("v1");
    for any in ["", TOKEN] {
        let answer = shutdown_request(&site, "/iisintegration", any);
        assert_eq!(answer.release(), "v1", "{any:?}: the app's to answer");
    }
}

/// Probes the port as the module does, and Azure's: the port opens, and the connection closes.
fn look_whether_the_port_is_open(site: &Running) {
    for _ in 0..20 {
        drop(site.connect());
    }
}

/// Waits until there is something to launch.
fn assert_copied(site: &Running) {
    let copies = site.copies_folder();
    eventually(
        || "the artifact is copied".to_owned(),
        || {
            let entries = std::fs::read_dir(&copies).ok()?.flatten();
            entries.map(|entry| entry.path()).find(|path| path.is_dir())
        },
    );
}

#[test]
fn connections_without_a_byte_launch_nothing_and_the_first_request_does() {
    let site = under_the_platform()
        .with("--first-launch-delay", "1h")
        .launch("v1");
    assert_copied(&site);
    look_whether_the_port_is_open(&site);
    let status = site.status();
    assert!(status.handoffs.is_empty(), "{status:#?}");

    site.await_version("v1");

    look_whether_the_port_is_open(&site);
    site.await_version("v1");
    let log = site.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn without_a_request_the_first_instance_is_launched_all_the_same() {
    let site = under_the_platform().launch("v1");
    site.await_log("event=\"first_launch_delayed\" delay=\"5s\"");
    site.await_active("v1");
}

#[test]
fn elsewhere_the_first_instance_waits_for_nothing() {
    let site = Site::watching_a_pointer().start("v1");
    assert!(!site.log().contains("first_launch_delayed"));
}

#[test]
fn what_is_newer_when_the_first_request_comes_is_launched_alone() {
    let site = under_the_platform()
        .with("--first-launch-delay", "1h")
        .launch("v1");
    assert_copied(&site);
    site.deploy("v2");
    let copies = site.copies_folder();
    eventually(
        || "both are copied".to_owned(),
        || {
            let entries = std::fs::read_dir(&copies).ok()?.flatten();
            let folders = entries.filter(|entry| entry.path().is_dir());
            (folders.count() == 2).then_some(())
        },
    );
    site.await_version("v2");
    site.await_launches(1);
}

#[cfg(unix)]
#[test]
fn the_app_gets_its_own_port_and_keeps_the_token() {
    let site = under_the_platform().with_variable("ASPNETCORE_TOKEN", TOKEN);
    let site = site.start("v1");
    let active = site.status().active.clone().expect("an active one");
    let pid = active.pid.expect("its process");
    let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let variables = String::from_utf8_lossy(&variables).into_owned();
    let has = |variable: &str| variables.split('\0').any(|v| v == variable);
    let port = active.address.expect("its address").port();
    assert!(has(&format!("HTTP_PLATFORM_PORT={port}")), "{variables}");
    assert!(has(&format!("ASPNETCORE_TOKEN={TOKEN}")), "{variables}");
}

/// Fields that the front end of App Service, ARR and the module add.
const ADDED: &[(&str, &str)] = &[
    ("max-forwards", "10"),
    ("x-waws-unencoded-url", "/a%2Fb?c=%20"),
    ("client-ip", "203.0.113.7:49152"),
    ("x-client-ip", "203.0.113.7"),
    ("x-client-port", "49152"),
    ("x-arr-log-id", "0c2b7d6a-1111-2222-3333-444455556666"),
    ("disguised-host", "shop.example.org"),
    ("x-site-deployment-id", "shop"),
    ("was-default-hostname", "shop.azurewebsites.net"),
    ("x-original-url", "/a%2Fb?c=%20"),
    ("x-forwarded-for", "203.0.113.7:49152, [2001:db8::1]:443"),
    ("x-forwarded-proto", "https"),
    ("x-appservice-proto", "https"),
    (
        "x-arr-ssl",
        "2048|256|C=US, O=Example, CN=Example CA|CN=*.azurewebsites.net",
    ),
    ("x-forwarded-tlsversion", "1.3"),
    ("x-arr-clientcert", "MIIB+zCCAWQ="),
    ("ms-aspnetcore-token", TOKEN),
    ("ms-aspnetcore-clientcert", "MIIB+zCCAWQ="),
];

#[test]
fn what_the_platform_adds_to_a_request_passes_untouched() {
    let added: String = ADDED
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    for method in ["GET", "OPTIONS", "TRACE"] {
        let stage = Stage::with(&[("--forwarded", "auto")]);
        let request =
            format!("{method} /a%2Fb?c=%20 HTTP/1.1\r\nhost: shop.example.org\r\n{added}\r\n");
        let mut client = stage.client_sends(&request);
        let mut app = stage.app();
        // But for the two methods that count how often they are passed on (RFC 9110, section 7.6.2).
        let counted = request.replace("max-forwards: 10", "max-forwards: 9");
        app.expect(if method == "GET" { &request } else { &counted });
        app.send(OK);
        client.answer_head();
    }
}

#[cfg(unix)]
#[test]
fn tokens_exist_on_windows_only() {
    for mode in ["close", "forward"] {
        let run = tests::program::handoff()
            .args(["run", "--artifact", "x", "--windows-auth", mode])
            .output();
        let run = run.expect("handoff can be started");
        assert_eq!(run.status.code(), Some(2));
        let said = String::from_utf8_lossy(&run.stderr);
        let expected =
            format!("--windows-auth is {mode:?}: expected off: only Windows has access tokens");
        assert!(said.contains(&expected), "{said}");
    }
}

/// Handoff's own handles are among these: its listener, its workers' ports, its status file.
#[cfg(windows)]
#[test]
fn a_client_that_names_every_handle_does_no_harm() {
    for mode in ["close", "forward"] {
        let site = under_the_platform()
            .with("--windows-auth", mode)
            .start("v1");
        let mut client = site.connect();
        for handle in (4..8192).step_by(4) {
            let field = match handle % 8 {
                0 => "X-IIS-WindowsAuthToken",
                _ => "MS-ASPNETCORE-WINAUTHTOKEN",
            };
            client.send("GET", "/version", &format!("{field}: {handle:x}\r\n"));
            assert_eq!(client.answer().unwrap().status, 200, "{handle:x}");
        }
        site.await_version("v1");
        site.deploy("v2");
        site.await_version("v2");
    }
}

/// Returns the field that the app gets from a module that left a token in handoff.
#[cfg(windows)]
#[track_caller]
fn field_of_a_real_token(mode: &str) -> Option<String> {
    use tests::tokens;

    let stage = Stage::with(&[
        ("HTTP_PLATFORM_PORT", FREE),
        ("--first-launch-delay", "0s"),
        ("--windows-auth", mode),
    ]);
    let handoff = stage.site().pid();
    let left = tokens::leave_one_in(handoff);
    assert!(tokens::is_one_of(handoff, left));
    let field = format!("X-IIS-WindowsAuthToken: {left:x}\r\n");
    let mut client = stage.client_sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
    let mut app = stage.app();
    let head = app.head();
    let given = tests::stage::field(&head, "x-iis-windowsauthtoken").map(str::to_owned);
    if let Some(given) = &given {
        let active = stage.site().status().active.clone().expect("an active one");
        let app = active.pid.expect("its process");
        let given = usize::from_str_radix(given, 16).expect("a handle");
        assert!(tokens::is_one_of(app, given), "{head}");
    }
    app.send(OK);
    client.answer_head();
    eventually(
        || "handoff has closed its own".to_owned(),
        || (!tokens::is_one_of(handoff, left)).then_some(()),
    );
    given
}

#[cfg(windows)]
#[test]
fn a_users_token_is_given_to_the_app_or_only_closed() {
    assert!(field_of_a_real_token("forward").is_some());
    assert_eq!(field_of_a_real_token("close"), None);
}

#[test]
fn a_field_that_names_a_token_never_reaches_the_app() {
    let stage = Stage::new();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-IIS-WindowsAuthToken: 1a4\r\n\
                   MS-ASPNETCORE-WINAUTHTOKEN: 1a8\r\n\r\n";
    let mut client = stage.client_sends(request);
    let mut app = stage.app();
    app.expect("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    app.send(OK);
    client.answer_head();
}
