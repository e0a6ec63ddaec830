//! Many connections at once, and what is left of them.
#![cfg(target_os = "linux")] // Elsewhere the allocator gives memory back by itself.

use std::io::Write as _;
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
