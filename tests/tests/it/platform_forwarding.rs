//! The simulator passes requests and answers on as the module does, shown with an app that it runs
//! directly.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use tests::platform::{Event, Home, Iis, Module};
use tests::websocket::WebSocket;

fn app(attributes: &str) -> Home {
    Home::of_sample_app(
        "-port %HTTP_PLATFORM_PORT% --version-name v1",
        attributes,
        "",
    )
}

/// Makes a home whose app is the test.
fn the_test_is_the_app() -> (TcpListener, Home) {
    let app = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = app.local_addr().expect("an address").port();
    let arguments = format!("--port %HTTP_PLATFORM_PORT% --test {port}");
    let home = Home::of_sample_app(&arguments, "", "");
    home.install(Path::new(env!("CARGO_BIN_EXE_puppet")));
    (app, home)
}

/// The lines of its head. A readiness check of Azure's is a connection without a byte.
fn next_request(app: &TcpListener) -> (TcpStream, Vec<String>) {
    let heads = app.incoming().map(|stream| {
        let stream = stream.expect("a connection");
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        (stream, lines)
    });
    let mut requests = heads.filter(|(_, lines)| !lines.is_empty());
    requests.next().expect("a request")
}

#[test]
fn fields_are_edited_as_the_module_does() {
    for module in [Module::v1(), Module::azure()] {
        let (app, home) = the_test_is_the_app();
        let iis = Iis::start(&home, module);
        let mut client = iis.connect();
        let client_port = client.writer().local_addr().unwrap().port();
        let fields = "Connection: keep-alive\r\nX-Forwarded-For: 10.0.0.1:99\r\n\
                      MS-ASPNETCORE-TOKEN: mine\r\nx-odd-CASE: kept\r\n";
        client.send("GET", "/a?b=%20", fields);
        let (mut stream, lines) = next_request(&app);
        assert_eq!(lines[0], "GET /a?b=%20 HTTP/1.1");
        let has = |line: &str| lines.iter().any(|known| known == line);
        let starts = |start: &str| {
            let mut lines = lines.iter();
            lines.any(|line| line.to_ascii_lowercase().starts_with(start))
        };
        assert!(has("x-odd-CASE: kept") && has("Host: app"), "{lines:?}");
        assert!(
            !starts("connection:") && !starts("ms-aspnetcore"),
            "{lines:?}"
        );
        let forwarded = format!("X-Forwarded-For: 10.0.0.1:99, 127.0.0.1:{client_port}");
        assert!(starts(&forwarded.to_ascii_lowercase()), "{lines:?}");
        assert!(starts("x-forwarded-proto: http"), "{lines:?}");
        assert_eq!(starts("x-arr-log-id: "), module.front_end, "{lines:?}");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .unwrap();
        let answer = client.answer().unwrap();
        assert_eq!((answer.text(), answer.header("connection")), ("ok", None));
    }
}

#[test]
fn http_1_0_stays_what_it_is_and_websocket_extensions_may_go() {
    let (app, home) = the_test_is_the_app();
    let module = Module {
        strips_websocket_extensions: true,
        ..Module::v1()
    };
    let iis = Iis::start(&home, module);
    let mut old = iis.connect();
    old.write(b"GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(next_request(&app).1[0], "GET /old HTTP/1.0");
    let mut socket = iis.connect();
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Extensions: permessage-deflate\r\n";
    socket.send("GET", "/ws", fields);
    let (_, lines) = next_request(&app);
    let has = |line: &str| lines.iter().any(|known| known.starts_with(line));
    assert!(
        has("Connection: Upgrade") && has("Upgrade: websocket"),
        "{lines:?}"
    );
    assert!(!has("Sec-WebSocket-Extensions"), "{lines:?}");
}

#[test]
fn an_answer_is_collected_eight_kilobytes_at_a_time_by_version_1_only() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    // One event after an hour: what fits into the buffer stays there.
    let mut stuck = iis.connect();
    stuck.send("GET", "/stream?events=2&every=3600000", "");
    let direct = {
        let home = app("");
        let iis = Iis::start(&home, Module::v2());
        let mut stream = iis.connect();
        stream.send("GET", "/stream?events=2&every=3600000", "");
        let head = stream.head().unwrap();
        let chunk = stream.chunk().unwrap();
        (head.status, chunk.is_some())
    };
    assert_eq!(direct, (200, true));
    // No byte moves for two minutes: only then it is over, and nothing had been sent before.
    iis.waits_for(1, "it is ready", |event| {
        matches!(event, Event::Ready { .. })
    });
    let _ = iis.get("/version");
    iis.clock().advance(Duration::from_secs(120));
    let answer = stuck.answer().unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("timed out"), "{}", answer.text());
}

#[cfg_attr(
    windows,
    ignore = "Wine: a reset is seen as a proper end, or not at all"
)]
#[test]
fn an_answer_that_breaks_off_seems_complete_with_version_1_only() {
    for (module, seems_complete) in [(Module::v1(), true), (Module::v2(), false)] {
        let home = app("");
        let iis = Iis::start(&home, module);
        let mut stream = iis.connect();
        stream.send("GET", "/stream?events=100000&every=1", "");
        assert_eq!(stream.head().unwrap().status, 200);
        assert!(stream.chunk().unwrap().is_some());
        iis.kill(iis.started()[0].0);
        let ended_well = loop {
            match stream.chunk() {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!(ended_well, seems_complete, "{module:?}");
    }
}

#[test]
fn a_websocket_is_passed_through() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    let (mut socket, release) = WebSocket::open(iis.connect());
    assert_eq!(release, "v1");
    assert_eq!(socket.echo("hello").unwrap(), "hello");
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let home = app("");
    let iis = Iis::start(&home, Module::v1());
    let mut connection = iis.connect();
    connection.write(b"GET /version HTTP/1.0\r\n\r\n");
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.text()), (200, "v1"));
    assert_eq!(connection.rest(), b"");
}
