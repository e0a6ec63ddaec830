//! `handoff upgrade` with clients of HTTP/2: each connection gets two GOAWAYs (RFC 9113, section 6.8), and
//! no request is lost.
#![cfg(unix)] // There is no anchor on Windows yet.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::http2::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, FrameWire, GOAWAY, HEADERS, PING, RST_STREAM, Received,
    SETTINGS, WINDOW_UPDATE, frame,
};
use tests::wait::sleep_for;

use crate::self_upgrade::{anchored, anchored_status, app_pid, upgrade};

/// Number of clients, each with a connection.
const CLIENTS: usize = 4;
const UPGRADES: u32 = 4;

/// The last stream of the first GOAWAY.
const ANY_STREAM: u32 = u32::MAX >> 1;
/// Fields of `GET /version`, and the first byte of a head with the status 200 (RFC 7541, appendix A).
const GET_VERSION: &[u8] = b"\x82\x86\x01\x01a\x04\x08/version";
const OK: u8 = 0x88;

/// The account of a client.
#[derive(Debug, Default)]
struct Account {
    answered: usize,
    /// Streams behind the last one of a GOAWAY, which were sent again.
    sent_again: usize,
    /// Connections that ended with two GOAWAYs.
    told_twice: usize,
}

/// One connection.
struct Client {
    wire: FrameWire,
    goaways: Vec<u32>,
}

/// Ends the clients, also after a failure.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The end of a request.
enum Answer {
    Whole,
    /// No process has seen it.
    Unseen,
}

// === impl Client ===

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            wire: FrameWire::connect(address)?,
            goaways: Vec::new(),
        })
    }

    fn receive(&mut self) -> io::Result<Received> {
        let got = self.wire.receive()?;
        let is_ack = got.flags & ACK != 0;
        match got.kind {
            SETTINGS if !is_ack => self.wire.send(&frame(SETTINGS, ACK, 0, b""))?,
            PING if !is_ack => self.wire.send(&frame(PING, ACK, 0, &got.payload))?,
            DATA if !got.payload.is_empty() => {
                let length = u32::try_from(got.payload.len()).map_err(io::Error::other)?;
                let more = frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
                self.wire.send(&more)?;
            }
            GOAWAY => {
                let last = got.payload.first_chunk().expect("the last stream");
                self.goaways.push(u32::from_be_bytes(*last));
            }
            _ => {}
        }
        Ok(got)
    }

    fn get(&mut self) -> io::Result<Answer> {
        let stream = self.wire.next_stream();
        let flags = END_STREAM | END_HEADERS;
        self.wire
            .send(&frame(HEADERS, flags, stream, GET_VERSION))?;
        loop {
            let got = self.receive()?;
            if self.goaways.last().is_some_and(|last| *last < stream) {
                return Ok(Answer::Unseen);
            }
            if got.stream != stream {
                continue;
            }
            if got.kind == RST_STREAM || got.kind == HEADERS && got.payload.first() != Some(&OK) {
                return Err(io::Error::other(format!("{got:?}")));
            }
            if matches!(got.kind, HEADERS | DATA) && got.flags & END_STREAM != 0 {
                return Ok(Answer::Whole);
            }
        }
    }
}

/// Sends one request after the other, on a new connection after a GOAWAY.
fn send_requests(address: SocketAddr, is_over: &AtomicBool) -> io::Result<Account> {
    let mut account = Account::default();
    while !is_over.load(Ordering::Relaxed) {
        let mut client = Client::connect(address)?;
        while client.goaways.is_empty() {
            match client.get()? {
                Answer::Whole => account.answered += 1,
                Answer::Unseen => account.sent_again += 1,
            }
            if is_over.load(Ordering::Relaxed) {
                return Ok(account);
            }
            sleep_for(Duration::from_millis(5), "a steady client");
        }
        // Until the other end has closed the connection.
        while client.receive().is_ok() {}
        match client.goaways[..] {
            [ANY_STREAM, last] if last < ANY_STREAM => account.told_twice += 1,
            ref other => return Err(io::Error::other(format!("{other:?}"))),
        }
    }
    Ok(account)
}

#[test]
fn clients_of_http2_lose_nothing_over_several_upgrades() {
    let site = anchored().start("v1");
    let app = app_pid(&site.status());
    let (address, is_over) = (site.address(), AtomicBool::new(false));
    let accounts: Vec<Account> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| send_requests(address, &is_over)))
            .collect();
        let end = EndOnDrop(&is_over);
        for _ in 0..UPGRADES {
            let after = upgrade(&site);
            assert_eq!(app_pid(&after), app);
        }
        drop(end);
        let ends = clients.into_iter().map(|client| client.join());
        let ends = ends.map(|end| end.expect("no panic").expect("nothing is lost"));
        ends.collect()
    });
    let sum = |count: fn(&Account) -> usize| accounts.iter().map(count).sum::<usize>();
    let answered = sum(|account| account.answered);
    let told = sum(|account| account.told_twice);
    println!("{answered} answered, {told} connections told twice: {accounts:?}");
    assert!(answered > CLIENTS * 20, "{accounts:?}");
    // The last upgrade may be over before its clients have seen it.
    let expected = CLIENTS * (UPGRADES as usize - 1);
    assert!(told >= expected, "{accounts:?}");
    assert_eq!(anchored_status(&site).crashes, 0);
}
