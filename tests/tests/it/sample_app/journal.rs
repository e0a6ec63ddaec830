//! The journal: which requests reached the app.

use std::fs;
use std::thread;

use sample_app::journal::{Entry, read};

use super::running::{Release, await_fact, connect, get, request, start};

#[test]
fn each_request_leaves_a_line() {
    let release = Release::new("v1", &[]);
    let path = release.beside("journal");
    let (app, address) = release.listen(&["--journal", path.to_str().unwrap()]);

    let answer = request(address, "GET", "/version", "X-Request-ID: id-1\r\n", b"");
    assert_eq!(answer.header("x-request-id"), Some("id-1"));
    request(
        address,
        "POST",
        "/upload?part=2",
        "X-Request-ID: id-2\r\n",
        b"abc",
    );
    get(address, "/no-such-file");
    get(address, "/slow?ms=soon");

    let entries: Vec<_> = read(&path).unwrap();
    assert!(entries.iter().all(|entry| entry.pid == app.pid()));
    let words = entries.iter().map(|entry| {
        let Entry {
            id,
            method,
            path,
            release,
            ..
        } = entry;
        format!("{id} {method} {path} {release}")
    });
    let words: Vec<_> = words.collect();
    assert_eq!(
        words,
        [
            "id-1 GET /version v1",
            "id-2 POST /upload v1",
            "- GET /no-such-file v1",
            "- GET /slow v1"
        ]
    );
}

#[test]
fn the_line_is_there_before_the_answer() {
    let release = Release::new("v1", &[]);
    let path = release.beside("journal");
    let (_app, address) = release.listen(&["--journal", path.to_str().unwrap()]);
    let mut connection = connect(address);

    connection.send("GET", "/slow?ms=3600000", "X-Request-ID: early\r\n");

    await_fact("the journal has the request", || {
        let entries = read(&path).unwrap();
        entries.iter().any(|entry| entry.id == "early")
    });
}

#[test]
fn two_releases_may_share_a_journal() {
    const REQUESTS: usize = 50;
    let first = Release::new("v1", &[]);
    let path = first.beside("journal");
    let flags = ["--journal", path.to_str().unwrap()];
    let (_one, address_1) = first.listen(&flags);
    let (_two, address_2) = Release::new("v2", &[]).listen(&flags);

    thread::scope(|scope| {
        for (client, address) in [address_1, address_1, address_2, address_2]
            .into_iter()
            .enumerate()
        {
            scope.spawn(move || {
                let mut connection = connect(address);
                for n in 0..REQUESTS {
                    connection.send("GET", "/", &format!("X-Request-ID: {client}-{n}\r\n"));
                    connection.answer().unwrap();
                }
            });
        }
    });

    let entries = read(&path).unwrap();
    for (client, version) in ["v1", "v1", "v2", "v2"].into_iter().enumerate() {
        for n in 0..REQUESTS {
            let id = format!("{client}-{n}");
            let found = entries
                .iter()
                .any(|entry| entry.id == id && entry.release == version);
            assert!(found, "no line of {id} and {version}");
        }
    }
    assert_eq!(entries.len(), 4 * REQUESTS);
}

#[test]
fn without_the_flag_nothing_is_written() {
    let (app, address) = start(&[]);

    get(address, "/");

    assert_eq!(fs::read_dir(app.release.site()).unwrap().count(), 0);
}

#[test]
fn a_journal_that_cannot_be_opened_is_an_error_that_names_it() {
    let mut app = Release::new("v1", &[]).spawn(&["--port", "0", "--journal", "no/such/folder"]);

    app.stderr.wait_for("--journal no/such/folder");
    assert_eq!(app.await_exit().code(), Some(1));
}
