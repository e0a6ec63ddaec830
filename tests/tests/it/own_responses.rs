//! Answers of handoff itself: errors, by their readers, and its health for load balancers.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tests::browser::{Browser, PROGRAM};
use tests::{Answer, Running, Site, app, command, eventually, tools};

/// The field of a browser.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

fn ask(site: &Running, method: &str, target: &str, fields: &str) -> Answer {
    let mut connection = site.connect();
    connection.send(method, target, fields);
    connection.answer().expect("an answer")
}

/// Nothing ever serves there, and nobody waits for it.
fn site_that_never_serves(pages: &TempDir) -> Running {
    Site::watching_a_pointer()
        .with("--error-pages", pages.path().to_str().expect("UTF-8"))
        .with("--max-held", "0")
        .launch(app("v1").that("--never-ready"))
}

fn await_page(site: &Running, part: &str) -> Answer {
    eventually(
        || format!("a browser gets {part:?}; the log:\n{}", site.log()),
        || Some(ask(site, "GET", "/", BROWSER)).filter(|answer| answer.text().contains(part)),
    )
}

#[test]
fn a_browser_gets_a_page_a_program_a_problem_and_nobody_the_reason() {
    let pages = TempDir::new().unwrap();
    let page = "<h1>Back in a moment</h1><p>{message} ({request_id})</p>";
    fs::write(pages.path().join("503.html"), page).unwrap();
    let site = site_that_never_serves(&pages);
    let answer = await_page(&site, "Back in a moment");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let shown = format!("the application is not available at the moment ({id})");
    assert!(answer.text().contains(&shown), "{answer:?}");

    let json = ask(
        &site,
        "GET",
        "/",
        "Accept: application/json, text/plain, */*\r\n",
    );
    assert_eq!(
        json.header("content-type"),
        Some("application/problem+json")
    );
    let problem: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(
        (&problem["status"], &problem["title"]),
        (&503.into(), &"Service Unavailable".into())
    );

    let text = ask(&site, "GET", "/", "X-Request-ID: mine-7\r\n");
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(text.text().contains("Request ID: mine-7"), "{text:?}");
    for answer in [&answer, &json, &text] {
        assert!(!answer.text().contains("too many"), "{answer:?}");
    }
    // The operator finds it by what the user sees.
    for id in [&*id, "mine-7"] {
        site.await_log(&format!("request_id=\"{id}\" reason=\"too many requests"));
    }
}

#[test]
fn a_page_that_changes_is_read_again_and_one_that_is_none_is_left_out() {
    let pages = TempDir::new().unwrap();
    let page = pages.path().join("503.html");
    fs::write(&page, "the first").unwrap();
    let site = site_that_never_serves(&pages);
    await_page(&site, "the first");
    fs::write(&page, "the second one").unwrap();
    await_page(&site, "the second one");
    fs::write(&page, b"\xff\xfe").unwrap();
    await_page(&site, "503 Service Unavailable");
    site.await_log("it is no text in UTF-8");
    fs::write(&page, "the third").unwrap();
    await_page(&site, "the third");
    fs::write(&page, vec![b'x'; 2 << 20]).unwrap();
    await_page(&site, "503 Service Unavailable");
    fs::remove_file(&page).unwrap();
    await_page(&site, "503 Service Unavailable");
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(&page).status();
        assert!(made.unwrap().success());
        site.await_log("it is a pipe, a socket or a device");
        await_page(&site, "503 Service Unavailable");
    }
}

#[test]
fn the_health_on_the_public_port_is_handoffs_own() {
    let site = Site::watching_a_pointer()
        .with("--public-health", "/up")
        .with("--shutdown-delay", "10s")
        .with("--shutdown-timeout", "120s");
    let site = site.launch(app("v1").that("--ready-after=2s"));
    assert_eq!(site.get("/up").status, 503, "nothing serves yet");
    site.await_active("v1");
    for target in ["/up", "/up?from=balancer"] {
        let answer = site.get(target);
        assert_eq!((answer.status, answer.text()), (200, "ok\n"), "{target}");
        assert_eq!(answer.header("x-release"), None);
    }
    let mut head = site.connect();
    head.send("HEAD", "/up", "");
    assert_eq!(head.head().unwrap().status, 200);
    let posted = ask(&site, "POST", "/up", "Content-Length: 0\r\n");
    assert!(
        posted.header("x-release").is_some(),
        "the app's: {posted:?}"
    );
    assert!(site.get("/up/").header("x-release").is_some());
    let upload = site.begin_upload("/upload");
    site.ask_to_stop();
    site.await_log("shutting down");
    eventually(
        || "it is unhealthy while it shuts down".to_owned(),
        || (site.get("/up").status == 503).then_some(()),
    );
    assert_eq!(upload.finish().unwrap().status, 200);
}

#[test]
fn what_cannot_be_a_folder_of_pages_or_a_path_is_said() {
    for (option, value, expected) in [
        ("--error-pages", "/nowhere", "expected an existing folder"),
        (
            "--public-health",
            "up",
            "expected a path that starts with /",
        ),
    ] {
        command::run(&["run", "--artifact", "/a", "--cache", "/c", option, value])
            .with(2)
            .saying(&[option, value, expected]);
    }
}

/// Pages as a site may have them.
fn write_pages(pages: &TempDir) {
    let page = |title: &str, text: &str| {
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content='width=device-width'><title>{title}</title>\
             <style>body{{font:18px/1.5 system-ui;max-width:32em;margin:15vh auto;padding:0 1em;\
             color:#223}}small{{color:#667}}</style><h1>{title}</h1><p>{text}</p>\
             <small>Reference: {{request_id}}</small></html>"
        )
    };
    for (name, title, text) in [
        (
            "503.html",
            "Back in a moment",
            "The shop is starting. Please try again.",
        ),
        ("maintenance.html", "Closed for maintenance", "{message}"),
    ] {
        fs::write(pages.path().join(name), page(title, text)).expect("write a page");
    }
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no browser")]
fn a_browser_shows_the_pages() {
    if !tools::has(PROGRAM) {
        return;
    }
    let pages = TempDir::new().unwrap();
    write_pages(&pages);
    let site = site_that_never_serves(&pages);
    await_page(&site, "Back in a moment");
    let mut shown = Browser::open(&format!("http://{}/", site.address()));
    shown.resize(800, 500, false);
    let pictures = std::env::var_os("HANDOFF_SCREENSHOTS").map(PathBuf::from);
    let picture = |shown: &mut Browser, name: &str| {
        if let Some(folder) = &pictures {
            shown.picture(&folder.join(name));
        }
    };
    shown.await_shown("h1", &["Back in a moment"]);
    shown.await_shown("small", &["Reference: "]);
    picture(&mut shown, "error.png");
    let message = "We are back at 14:00. <Thank you>";
    let place = site.deployment().place();
    let mut on = vec!["maintenance", "on", "--message", message];
    on.extend(place.iter().map(String::as_str));
    command::run(&on).with(0);
    shown.evaluate("location.reload()");
    shown.await_shown("h1", &["Closed for maintenance"]);
    shown.await_shown("p", &[message]);
    picture(&mut shown, "maintenance.png");
}
