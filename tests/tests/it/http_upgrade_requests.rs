//! Requests to switch to another protocol, which are requests first: with several fields, and with a
//! body.

use tests::stage::{Stage, field};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\n";

#[test]
fn all_lines_of_an_upgrade_count() {
    let stage = Stage::new();
    let upgrade = UPGRADE.replace(
        "Upgrade: websocket\r\n",
        "Upgrade: other, h2c\r\nUpgrade: websocket\r\n",
    );
    let mut client = stage.client_sends(upgrade);
    let mut app = stage.app();
    assert_eq!(field(&app.head(), "upgrade"), Some("other, websocket"));
    app.send(SWITCH);
    assert_eq!(field(&client.answer_head(), "upgrade"), Some("websocket"));
    client.send("x");
    app.expect("x");
}

#[test]
fn the_body_of_a_request_to_upgrade_comes_before_the_tunnel() {
    for (framing, body) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let stage = Stage::new();
        let head = format!(
            "POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             {framing}\r\n\r\n"
        );
        let mut client = stage.client_sends(head);
        let mut app = stage.app();
        app.head();
        app.send(SWITCH.replace("websocket", "tcp"));
        client.answer_head();
        let (begin, rest) = body.split_at(3);
        client.send(begin);
        client.send(rest);
        app.expect(body);
        client.send("tunnel");
        app.expect("tunnel");
        app.send("back");
        client.expect("back");
    }
}

#[test]
fn a_request_to_upgrade_whose_body_breaks_off_is_no_tunnel() {
    let stage = Stage::new();
    let head = UPGRADE.replace("Host: a", "Host: a\r\nTransfer-Encoding: chunked");
    let mut client = stage.client_sends(head);
    let mut app = stage.app();
    app.head();
    app.send(SWITCH);
    client.answer_head();
    client.send("x\r\n");
    app.rest();
    client.rest();
}
