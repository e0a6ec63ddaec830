//! Assets of earlier releases (`--keep-assets`), for pages that are open when a release is superseded.

use tests::binaries::sample_app;
use tests::browser::{Browser, PROGRAM};
use tests::{Answer, Running, Site, eventually, folder, tools};

/// A page with a part that is loaded when it is asked for, as bundlers make them.
const PAGE: &str = "<!doctype html><meta charset=utf-8><title>shop</title><button>more</button>\
    <p id=shown></p><script type=module src=/dist/assets/main-VERSION.js></script>";
const MAIN: &str = "document.querySelector('button').onclick = async () => {\
    try { (await import('./lazy-VERSION.js')).show() }\
    catch (error) { document.querySelector('#shown').textContent = error } }; \
    document.querySelector('#shown').textContent = 'loaded VERSION';";
const LAZY: &str = "export const show = () => \
    { document.querySelector('#shown').textContent = 'the rest of VERSION' }";

fn release(version: &str) -> tests::Release {
    let of = |text: &str| text.replace("VERSION", version);
    folder(
        &format!("shop-{version}"),
        &[
            ("version.txt", version),
            ("page.html", &of(PAGE)),
            (&of("dist/assets/main-VERSION.js"), &of(MAIN)),
            (&of("dist/assets/lazy-VERSION.js"), &of(LAZY)),
            ("dist/assets/same.css", &of("/* VERSION */")),
            ("dist/private.js", "never"),
        ],
    )
}

fn site() -> Site {
    let app = sample_app().to_str().expect("UTF-8");
    Site::watching_a_pointer()
        .with("--keep", "0")
        .running(&[app, "--port", "{port}"])
}

fn keeping() -> Site {
    site().with("--keep-assets", "/dist/assets/=dist/assets")
}

fn deploy(site: &Running, version: &str) {
    site.deploy(release(version));
    site.await_shown("/version.txt", version);
}

fn ask(site: &Running, method: &str, target: &str, fields: &str) -> Answer {
    let mut connection = site.connect();
    connection.send(method, target, fields);
    connection.answer().expect("an answer")
}

fn await_found(site: &Running, target: &str) -> Answer {
    eventually(
        || format!("{target} is found; the log:\n{}", site.log()),
        || Some(site.get(target)).filter(|answer| answer.status == 200),
    )
}

#[test]
fn a_script_of_an_earlier_release_is_served_as_from_a_file_server() {
    let site = keeping().start(release("1"));
    for version in ["2", "3", "4"] {
        deploy(&site, version);
    }
    let old = "/dist/assets/lazy-1.js";
    let answer = await_found(&site, old);
    assert!(answer.text().contains("the rest of 1"), "{answer:?}");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/javascript"), "{kind}");
    let lasting = answer.header("cache-control").unwrap();
    assert!(lasting.contains("immutable"), "{lasting}");
    let etag = answer.header("etag").expect("a tag").to_owned();
    let length = answer.body.len().to_string();
    let mut kept = site.connect();
    kept.send("HEAD", old, "");
    let head = kept.head().unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(&*length))
    );
    // The connection goes on.
    assert_eq!(kept.get("/version.txt").unwrap().text(), "4");
    let part = ask(&site, "GET", old, "Range: bytes=0-5\r\n");
    assert_eq!((part.status, part.text()), (206, "export"));
    let known = ask(&site, "GET", old, &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((known.status, known.text()), (304, ""));

    // What the active release has is its own, and what nobody has is missed as it says.
    let same = site.get("/dist/assets/same.css");
    assert_eq!(
        (same.text(), same.header("etag") == Some(&etag)),
        ("/* 4 */", false)
    );
    for (method, target) in [
        ("GET", "/dist/assets/lazy-0.js"),
        ("GET", "/dist/assets/../private-1.js"),
        ("GET", "/dist/assets/%2e%2e/page.html"),
        ("GET", "/dist/private-1.js"),
    ] {
        assert_eq!(ask(&site, method, target, "").status, 404, "{target}");
    }
    assert_ne!(ask(&site, "POST", old, "Content-Length: 0\r\n").status, 200);
}

#[test]
fn it_is_kept_beyond_a_restart_of_handoff_and_for_its_time_only() {
    let mut site = keeping().start(release("1"));
    deploy(&site, "2");
    await_found(&site, "/dist/assets/lazy-1.js");
    site.kill();
    site.start_again();
    site.await_shown("/version.txt", "2");
    await_found(&site, "/dist/assets/lazy-1.js");
    drop(site);

    let site = keeping()
        .with("--keep-assets-for", "0s")
        .start(release("1"));
    deploy(&site, "2");
    deploy(&site, "3");
    await_found(&site, "/dist/assets/lazy-3.js");
    eventually(
        || "the first one has gone".to_owned(),
        || (site.get("/dist/assets/lazy-1.js").status == 404).then_some(()),
    );
}

/// Assets that nobody can keep: only a program that runs has them.
#[test]
#[cfg_attr(windows, ignore = "Wine: has no Node")]
fn what_is_in_a_program_is_asked_of_the_one_on_standby_and_of_one_that_drains() {
    const APP: &str = r#"
        const http = require('http');
        const version = require('./version.json');
        http.createServer((request, response) => {
            if (request.url === '/slow') return setTimeout(() => response.end('slow'), 3000);
            const isOwn = request.url === `/assets/${version}.js`;
            // The fallback of a single-page app.
            response.setHeader('Content-Type', isOwn ? 'text/javascript' : 'text/html');
            response.end(isOwn ? `script ${version}` : `page ${version}`);
        }).listen(process.env.PORT, '127.0.0.1');"#;
    if !tools::has("node") {
        return;
    }
    let app = |version: &str| folder(version, &[("app.js", APP), ("version.json", version)]);
    let site = Site::watching_a_pointer()
        .with("--keep-assets", "/assets=dist")
        .with("--bake", "10m")
        .running(&["node", "app.js"])
        .start(app("1"));
    site.deploy(app("2"));
    site.await_shown("/", "page 2");
    let status = site.wait_until("the first one is on standby", |status| {
        status.standby.is_some()
    });
    assert_eq!(status.standby.as_ref().unwrap().in_flight, 0);
    let old = site.get("/assets/1.js");
    assert_eq!((old.status, old.text()), (200, "script 1"));
    assert_eq!(site.get("/assets/2.js").text(), "script 2");
    assert_eq!(site.get("/assets/0.js").text(), "page 2", "nobody has it");
    assert_eq!(
        site.get("/assets/page").text(),
        "page 2",
        "it may be a page"
    );
    // It is as idle as before.
    site.wait_until("it is idle", |status| {
        status
            .standby
            .as_ref()
            .is_some_and(|standby| standby.in_flight == 0)
    });
    let mut slow = site.begin("/slow");
    site.wait_until("it is in flight", |status| {
        status
            .active
            .as_ref()
            .is_some_and(|active| active.in_flight > 0)
    });
    site.deploy(app("3"));
    site.await_shown("/", "page 3");
    assert_eq!(site.get("/assets/2.js").text(), "script 2");
    assert_eq!(slow.answer().unwrap().text(), "slow");
}

#[test]
fn without_the_option_it_is_missed() {
    let site = site().start(release("1"));
    deploy(&site, "2");
    assert_eq!(site.get("/dist/assets/lazy-1.js").status, 404);
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no browser")]
fn a_page_that_is_open_loads_the_rest_of_its_release_after_three_deploys() {
    if !tools::has(PROGRAM) {
        return;
    }
    for is_kept in [true, false] {
        let site = if is_kept { keeping() } else { site() };
        let site = site.start(release("1"));
        let mut page = Browser::open(&format!("http://{}/page.html", site.address()));
        page.await_shown("#shown", &["loaded 1"]);
        for version in ["2", "3", "4"] {
            deploy(&site, version);
        }
        page.evaluate("document.querySelector('button').click()");
        let shown = if is_kept {
            "the rest of 1"
        } else {
            "Failed to fetch dynamically imported module"
        };
        page.await_shown("#shown", &[shown]);
    }
}

/// The files are in the program, and a page takes the place of what it does not have.
#[test]
#[cfg_attr(windows, ignore = "Wine: has no browser")]
fn a_page_that_is_open_loads_the_rest_from_the_program_that_has_it_while_that_runs() {
    const APP: &str = r"
        const files = require('./files.json');
        require('http').createServer((request, response) => {
            const file = files[request.url] || files['/'];
            const isPage = file === files['/'];
            response.setHeader('Content-Type', isPage ? 'text/html' : 'text/javascript');
            response.end(file);
        }).listen(process.env.PORT, '127.0.0.1');";
    if !tools::has(PROGRAM) || !tools::has("node") {
        return;
    }
    let app = |version: &str| {
        let of = |text: &str| text.replace("VERSION", version);
        let files = serde_json::json!({
            "/": of(PAGE),
            "/version.txt": version,
            of("/dist/assets/main-VERSION.js"): of(MAIN),
            of("/dist/assets/lazy-VERSION.js"): of(LAZY),
        });
        folder(
            version,
            &[("app.js", APP), ("files.json", &files.to_string())],
        )
    };
    // On standby is the last one; a session keeps each one on which it began.
    for (option, value, deploys) in [("--bake", "10m", 1), ("--sticky", "cookie", 3)] {
        let site = Site::watching_a_pointer()
            .with("--keep-assets", "/dist/assets/=none")
            .with("--max-draining", "5")
            .with(option, value)
            .running(&["node", "app.js"])
            .start(app("1"));
        let mut page = Browser::open(&format!("http://{}/", site.address()));
        page.await_shown("#shown", &["loaded 1"]);
        for version in &["2", "3", "4"][..deploys] {
            site.deploy(app(version));
            site.await_shown("/version.txt", version);
        }
        page.evaluate("document.querySelector('button').click()");
        page.await_shown("#shown", &["the rest of 1"]);
    }
}
