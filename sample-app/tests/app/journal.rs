//! The journal: which requests reached the app.

use std::fs;
use std::thread;

use crate::client::{Connection, get, request};
use crate::running::{Release, eventually, start};

#[test]
fn each_request_leaves_a_line() {
    let release = Release::new("v1", &[]);
    let path = release.beside("journal");
    let (_app, address) = release.listen(&["--journal", path.to_str().unwrap()]);

    request(address, "GET", "/version", "X-Request-ID: id-1\r\n", b"");
    request(
        address,
        "POST",
        "/upload?part=2",
        "X-Request-ID: id-2\r\n",
        b"abc",
    );
    get(address, "/no-such-file");
    get(address, "/slow?ms=soon");

    assert_eq!(
        fs::read_to_string(path).unwrap(),
        "id-1 GET /version v1\nid-2 POST /upload v1\n- GET /no-such-file v1\n- GET /slow v1\n"
    );
}

#[test]
fn the_line_is_there_before_the_answer() {
    let release = Release::new("v1", &[]);
    let path = release.beside("journal");
    let (_app, address) = release.listen(&["--journal", path.to_str().unwrap()]);
    let mut connection = Connection::open(address);

    connection.send("GET", "/slow?ms=3600000", "X-Request-ID: early\r\n");

    eventually("the journal has the request", || {
        fs::read_to_string(&path).is_ok_and(|journal| journal == "early GET /slow v1\n")
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
                let mut connection = Connection::open(address);
                for n in 0..REQUESTS {
                    connection.send("GET", "/", &format!("X-Request-ID: {client}-{n}\r\n"));
                    connection.answer().unwrap();
                }
            });
        }
    });

    let journal = fs::read_to_string(path).unwrap();
    for (client, version) in ["v1", "v1", "v2", "v2"].into_iter().enumerate() {
        for n in 0..REQUESTS {
            let line = format!("{client}-{n} GET / {version}");
            assert!(
                journal.lines().any(|other| other == line),
                "no line {line:?}"
            );
        }
    }
    assert_eq!(journal.lines().count(), 4 * REQUESTS);
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
    assert_eq!(app.exit_status().code(), Some(1));
}
