//! Visits: what one client asks for over several swaps, each time on a connection of its own.

use std::net::SocketAddr;

use sample_app::answers;
use tokio::time::{Instant, sleep_until};

use super::check::{excerpt, unexpected_status};
use super::client::Client;
use super::failure::{Failed, Failure};
use super::http::Response;
use super::request::{Call, Destination, Request, Visit};

/// The requests of a visit after the first one.
#[derive(Debug)]
struct Visitor<'a> {
    server: SocketAddr,
    host: &'a str,
    /// `NAME=VALUE` of each cookie, by name.
    cookies: Vec<String>,
}

/// Makes the other requests of a visit, whose first one had this response.
///
/// # Errors
/// `session_lost`, `asset_missing`, and for events `lost` and `repeated`; and as [`Client::send`].
pub(super) async fn go_on(
    first: &Response,
    request: &Request,
    server: SocketAddr,
    destination: &Destination,
) -> Result<(), Failed> {
    let Call::Visit {
        visit,
        count,
        every,
    } = request.call
    else {
        return Ok(());
    };
    // The check of the first response reports anything else.
    let Some(release) = first.release.clone().filter(|_| first.status == 200) else {
        return Ok(());
    };
    let mut visitor = Visitor {
        server,
        host: &destination.host,
        cookies: Vec::new(),
    };
    let target = visit.target(count, every);
    if visit == Visit::Stream {
        return visitor.resume(first, (&target, count)).await;
    }
    visitor.keep_cookies(first);
    let mut next = Instant::now();
    for number in 2..=u64::from(count) {
        next += every;
        sleep_until(next).await;
        if visit == Visit::Session {
            let response = visitor.ask(&target, "").await?;
            visitor.keep_cookies(&response);
            let expected = answers::session(&release, number);
            if response.status != 200 {
                return Err(unexpected_status(&response));
            } else if response.body != expected.as_bytes() {
                let (body, expected) = (excerpt(&response.body), expected.trim_end());
                let detail = format!("the answer is {body}, not {expected:?}");
                return Err(Failed::new(Failure::SessionLost, detail));
            }
        } else {
            visitor.cookies.clear();
            let script = answers::asset_path(&release);
            let response = visitor.ask(&script, "").await?;
            if response.status != 404 && response.status != 200 {
                return Err(unexpected_status(&response));
            } else if response.body != answers::asset(&release).as_bytes() {
                let (status, body) = (response.status, excerpt(&response.body));
                let detail = format!("{script} of {release} is answered {status} with {body}");
                return Err(Failed::new(Failure::AssetMissing, detail));
            }
        }
    }
    Ok(())
}

// === impl Visitor ===

impl Visitor<'_> {
    /// Sends a request that apps do not number, on a connection of its own.
    async fn ask(&self, target: &str, fields: &str) -> Result<Response, Failed> {
        let host = self.host;
        let cookies = match self.cookies.join("; ") {
            none if none.is_empty() => none,
            some => format!("Cookie: {some}\r\n"),
        };
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{cookies}{fields}\r\n"
        );
        let mut client = Client::connect(self.server).await?;
        client.send(request.as_bytes()).await
    }

    fn keep_cookies(&mut self, response: &Response) {
        let name = |cookie: &str| cookie.split('=').next().map(str::to_owned);
        for cookie in &response.cookies {
            self.cookies.retain(|kept| name(kept) != name(cookie));
            self.cookies.push(cookie.clone());
        }
    }

    /// Opens the stream again until every event has come.
    async fn resume(&self, first: &Response, (target, count): (&str, u32)) -> Result<(), Failed> {
        let mut last = read_events(&first.body, 0, count)?;
        while last < count {
            let fields = format!("Last-Event-ID: {last}\r\n");
            let response = self.ask(target, &fields).await?;
            if response.status != 200 {
                return Err(unexpected_status(&response));
            }
            let before = last;
            last = read_events(&response.body, before, count)?;
            if last == before {
                let detail = format!("event {} of {count} never came", last + 1);
                return Err(Failed::new(Failure::Lost, detail));
            }
        }
        Ok(())
    }
}

/// Reads a part of a stream, behind event `last`; returns the last one of it.
fn read_events(body: &[u8], mut last: u32, count: u32) -> Result<u32, Failed> {
    let text = String::from_utf8_lossy(body);
    let mut rest = &*text;
    while let Some((event, others)) = rest.split_once("\n\n") {
        rest = others;
        let number = event.strip_prefix("id: ").and_then(|event| {
            let (number, data) = event.split_once('\n')?;
            let release = data.strip_prefix(&format!("data: {number} of {count} from v"))?;
            release.parse::<u32>().ok()?;
            number.parse::<u32>().ok()
        });
        let kind = match number {
            Some(number) if number == last + 1 => {
                last = number;
                continue;
            }
            Some(number) if number <= last => Failure::Repeated,
            Some(_) => Failure::Lost,
            None => Failure::MixedUp,
        };
        let detail = format!("behind event {last} of {count} came {event:?}");
        return Err(Failed::new(kind, detail));
    }
    if rest.is_empty() {
        Ok(last)
    } else {
        let detail = format!("the stream ended within an event: {rest:?}");
        Err(Failed::new(Failure::Truncated, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_behind_its_last_event_and_nowhere_else() {
        let events = |numbers: &[u64]| {
            let events = numbers.iter().map(|at| answers::event(*at, 4, "v1"));
            events.collect::<String>()
        };
        let read = |text: &str, last| read_events(text.as_bytes(), last, 4).map_err(|it| it.kind);
        assert_eq!(read(&events(&[1, 2]), 0), Ok(2));
        assert_eq!(read(&events(&[3, 4]), 2), Ok(4));
        assert_eq!(read("", 2), Ok(2));
        assert_eq!(read(&events(&[2, 3]), 2), Err(Failure::Repeated));
        assert_eq!(read(&events(&[4]), 2), Err(Failure::Lost));
        assert_eq!(read("id: 3\ndata: 3 of 4", 2), Err(Failure::Truncated));
        assert_eq!(read("id: 3\ndata: x\n\n", 2), Err(Failure::MixedUp));
    }

    #[test]
    fn a_newer_cookie_takes_the_place_of_one_of_its_name() {
        let mut visitor = Visitor {
            server: ([127, 0, 0, 1], 80).into(),
            host: "x",
            cookies: Vec::new(),
        };
        for cookies in [&["a=1", "b=2"][..], &["a=3"]] {
            visitor.keep_cookies(&Response {
                cookies: cookies.iter().map(|cookie| (*cookie).to_owned()).collect(),
                ..Response::default()
            });
        }
        assert_eq!(visitor.cookies, ["b=2", "a=3"]);
    }
}
