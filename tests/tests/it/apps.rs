//! Apps that nobody here wrote.

use tests::{Site, folder, tools};

const NODE: &str = r#"
const http = require('http');
http.createServer((request, response) => {
    // Loaded when it is first asked for, as a real app's modules are.
    const text = request.url === '/page' ? require('./page.json').text : 'home';
    response.end(text);
}).listen(process.env.PORT, '127.0.0.1');
"#;

fn node(name: &str, page: &str) -> tests::Release {
    let page = format!("{{\"text\": \"{page}\"}}");
    folder(name, &[("server.js", NODE), ("page.json", &page)])
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Node")]
fn a_node_server_is_swapped() {
    if !tools::has("node") {
        return;
    }
    let site = Site::watching_a_pointer().running(&["node", "server.js"]);
    let site = site.start(node("one", "page one"));
    site.deploy(node("two", "page two"));
    site.await_shown("/page", "page two");
    site.wait_until("the first one is gone", |status| status.is_at_rest());
}

#[test]
#[cfg_attr(windows, ignore = "Wine: has no Python")]
fn a_python_server_is_swapped_to_another_folder() {
    if !tools::has("python3") {
        return;
    }
    let command = ["python3", "-m", "http.server", "{port}", "--bind", "{host}"];
    let site = Site::watching_a_pointer().running(&command);
    let site = site.start(folder("one", &[("index.html", "one"), ("only.txt", "one")]));
    site.await_shown("/index.html", "one");
    site.await_shown("/only.txt", "one");
    site.deploy(folder("two", &[("index.html", "two")]));
    site.await_shown("/", "two");
    assert_eq!(site.get("/only.txt").status, 404);
    site.wait_until("the first one is gone", |status| status.is_at_rest());
}

/// Waits for the file `go` among the shared ones, then is `$1` and what follows. Only a release
/// after the first waits: that one finds no file `wait`.
#[cfg(unix)]
const WHEN_TOLD: &str = r#"
    while test -e "$0/wait" && ! test -e "$0/go"; do sleep 0.1; done
    exec "$@""#;

/// Overwrites the artifact of a running site, and checks that the old release has all its old files
/// as long as it serves.
#[cfg(unix)]
fn keeps_its_files(
    site: &tests::Running,
    new: tests::Release,
    old: &[(&str, &str)],
    now: &[(&str, &str)],
) {
    std::fs::write(site.shared().join("wait"), "").expect("a shared file");
    site.deploy(new);
    site.wait_until("the new release starts", |status| {
        let candidate = status.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.pid.is_some())
    });
    for (target, text) in old {
        let answer = site.get(target);
        assert_eq!((answer.status, answer.text()), (200, *text), "GET {target}");
    }
    std::fs::write(site.shared().join("go"), "").expect("a shared file");
    for (target, text) in now {
        site.await_shown(target, text);
    }
}

#[cfg(unix)]
#[test]
fn a_python_server_overwritten_in_place_keeps_its_old_files_until_the_new_one_takes_over() {
    if !tools::has("python3") {
        return;
    }
    let python = ["python3", "-m", "http.server", "{port}", "--bind", "{host}"];
    let command = [&["sh", "-c", WHEN_TOLD, "{shared}"][..], &python].concat();
    let site = Site::overwritten_in_place().running(&command);
    let site = site.start(folder("one", &[("index.html", "one"), ("only.txt", "one")]));
    keeps_its_files(
        &site,
        folder("two", &[("index.html", "two")]),
        &[("/", "one"), ("/index.html", "one"), ("/only.txt", "one")],
        &[("/", "two")],
    );
    assert_eq!(site.get("/only.txt").status, 404);
}

#[cfg(unix)]
#[test]
fn a_node_server_overwritten_in_place_loads_its_own_modules_also_late() {
    if !tools::has("node") {
        return;
    }
    let command = ["sh", "-c", WHEN_TOLD, "{shared}", "node", "server.js"];
    let site = Site::overwritten_in_place().running(&command);
    let site = site.start(node("one", "page one"));
    keeps_its_files(
        &site,
        node("two", "page two"),
        &[("/page", "page one")],
        &[("/page", "page two")],
    );
}
