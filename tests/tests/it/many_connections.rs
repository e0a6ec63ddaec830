//! Many connections at once, and what is left of them.
#![cfg(target_os = "linux")] // Elsewhere the allocator gives memory back by itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use handoff::os::procfs::resident_memory;
use tests::wait::sleep_for;
use tests::{Site, eventually};

#[test]
fn their_memory_goes_back_to_the_system() {
    const MUCH: u64 = 64 << 20;
    let site = Site::watching_a_pointer().start("v1");
    let memory = || resident_memory(site.pid()).expect("it runs");
    let before = memory();
    let head = format!(
        "GET /version HTTP/1.1\r\nHost: a\r\nX: {}",
        "x".repeat(24 * 1024)
    );
    let open = |_| {
        let mut client = TcpStream::connect(site.address()).expect("no connection is refused");
        client.write_all(head.as_bytes()).expect("a head");
        client
    };
    let clients: Vec<TcpStream> = (0..2_000).map(open).collect();
    eventually(
        || "the heads are received".to_owned(),
        || (memory() > before + MUCH).then_some(()),
    );
    sleep_for(Duration::from_secs(2), "it is no moment only");
    drop(clients);
    eventually(
        || format!("{} bytes are in use, {before} were at first", memory()),
        || (memory() < before + MUCH / 4).then_some(()),
    );
}

/// Opens many connections with this request, and waits until each costs at most so many KiB.
fn assert_cost(request: &str, most: u64) {
    const CONNECTIONS: usize = 2_000;
    let site = Site::watching_a_pointer().start("v1");
    let open = |_| {
        let mut client = TcpStream::connect(site.address()).expect("no connection is refused");
        client.write_all(request.as_bytes()).expect("a request");
        let mut answer: Vec<u8> = Vec::new();
        let mut part = [0; 1024];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let n = client.read(&mut part).expect("an answer");
            assert!(n > 0, "it ended");
            answer.extend(&part[..n]);
        }
        client
    };
    let memory = || resident_memory(site.pid()).expect("it runs") >> 10;
    let before = memory();
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(open).collect();
    let each = || memory().saturating_sub(before) / CONNECTIONS as u64;
    eventually(
        || format!("each of them takes {} KiB", each()),
        || (each() <= most).then_some(()),
    );
    drop(clients);
}

#[test]
fn an_idle_one_keeps_no_buffers() {
    assert_cost("GET /version HTTP/1.1\r\nHost: a\r\n\r\n", 7);
}

#[test]
fn a_silent_tunnel_keeps_no_buffers() {
    assert_cost(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        8,
    );
}
