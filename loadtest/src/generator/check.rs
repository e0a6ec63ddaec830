//! The check of an answer against its request. Pure.

use sample_app::{answers, grpc};

use super::failure::{Failed, Failure};
use super::http::Response;
use super::request::{Call, Method, Request, Visit};

/// Statuses of gRPC.
const OK: &str = "0";
const UNAVAILABLE: &str = "14";

/// The releases that may answer a request.
#[derive(Clone, Copy, Debug)]
pub struct Possible {
    /// Newest release that an answer had named when the request was sent.
    pub oldest: u32,
    /// Newest release that was deployed when the answer came.
    pub newest: u32,
}

/// Returns the number of the release that answered.
pub fn check(
    request: &Request,
    response: &Response,
    possible: Possible,
    has_journal: bool,
) -> Result<u32, Failed> {
    let is_upgrade = matches!(request.call, Call::WebSocket { .. });
    let expected = if is_upgrade { 101 } else { 200 };
    let failed = |kind, detail: String| Err(Failed::new(kind, detail));
    if response.status != expected {
        return Err(unexpected_status(response));
    }
    let call = if let Call::Grpc { method, count, .. } = request.call {
        Some((method, count))
    } else {
        None
    };
    let status = response.grpc_status.as_deref();
    // A drain has its deadline, and a stream of events may be longer.
    let is_cut = call.is_some_and(|(method, _)| method == Method::Events)
        && response.release.is_some()
        && status == Some(UNAVAILABLE);
    if call.is_some() && status != Some(OK) && !is_cut {
        let (status, body) = (status.unwrap_or("none"), excerpt(&response.body));
        return failed(
            Failure::Status,
            format!("grpc-status {status} behind {body}"),
        );
    }
    if has_journal {
        let seq = request.seq.to_string();
        match &response.id {
            None => return failed(Failure::Wrong, "the answer has no X-Request-ID".to_owned()),
            Some(id) if *id != seq => {
                let detail = format!("the answer to request {id}, not {seq}");
                return failed(Failure::MixedUp, detail);
            }
            Some(_) => {}
        }
    }
    let Some(name) = &response.release else {
        return failed(Failure::Wrong, "the answer has no X-Release".to_owned());
    };
    let digits = name.strip_prefix('v');
    let Some(number) = digits.and_then(|digits| digits.parse().ok()) else {
        let detail = format!("answered by release {name:?}, which was never deployed");
        return failed(Failure::Wrong, detail);
    };
    if number > possible.newest {
        let detail = format!("answered by {name} before it was deployed");
        return failed(Failure::WrongRelease, detail);
    }
    if number < possible.oldest {
        let newer = possible.oldest;
        let detail = format!("answered by {name} though v{newer} had answered before it was sent");
        return failed(Failure::WrongRelease, detail);
    }
    if let Some((method, count)) = call {
        let expected = messages(request, method, count, name);
        let is_begun = expected.starts_with(&response.body);
        if is_cut && is_begun && number < possible.newest {
            return Ok(number);
        }
        if is_begun && response.body.len() < expected.len() {
            let (length, all) = (response.body.len(), expected.len());
            let newest = possible.newest;
            let detail =
                format!("{name} sent {length} of {all} bytes, and v{newest} is the newest");
            return failed(Failure::Lost, detail);
        }
    }
    let is_right = match request.call {
        Call::Version | Call::Http10 => response.body == name.as_bytes(),
        Call::Home | Call::Slow(_) => response.body == answers::home(name).as_bytes(),
        Call::Echo(_) => response.body == request.body(),
        Call::Upload(_) | Call::Chunks { .. } => {
            response.body == answers::receipt_of(&request.body()).as_bytes()
        }
        Call::Events { count, .. } => {
            if let Some(missing) = missing_event(&response.body, count, name) {
                let detail = format!("{name} sent no event {missing} of {count}");
                return failed(Failure::Lost, detail);
            }
            response.body == events(1..=count, count, name).as_bytes()
        }
        Call::Grpc { method, count, .. } => response.body == messages(request, method, count, name),
        // The others of a visit were checked one by one.
        Call::Visit { visit, .. } => match visit {
            Visit::Session => response.body == answers::session(name, 1).as_bytes(),
            Visit::OldPage => response.body == answers::page(name).as_bytes(),
            Visit::Stream => true,
        },
        // The body of a page is the app's own business, and messages were checked one by one.
        Call::Page | Call::WebSocket { .. } => true,
    };
    if is_right {
        Ok(number)
    } else {
        let body = excerpt(&response.body);
        failed(Failure::MixedUp, format!("{name} answered with {body}"))
    }
}

/// Returns the failure of an answer with this status.
pub(super) fn unexpected_status(response: &Response) -> Failed {
    let body = excerpt(&response.body);
    Failed::new(Failure::Status, format!("{} with {body}", response.status))
}

/// Checks the answer of an app that is not sample-app.
pub fn check_status(response: &Response) -> Result<(), Failed> {
    if (200..400).contains(&response.status) {
        Ok(())
    } else {
        Err(unexpected_status(response))
    }
}

/// Returns the messages that answer a call of gRPC.
fn messages(request: &Request, method: Method, count: u32, name: &str) -> Vec<u8> {
    let message = |text: &[u8]| grpc::frame(&grpc::text(text)).to_vec();
    match method {
        Method::Version => message(name.as_bytes()),
        Method::Echo => request.body(),
        Method::Events => {
            let event = |number: u32| answers::event(number.into(), count.into(), name);
            let events = (1..=count).flat_map(|number| message(event(number).as_bytes()));
            events.collect()
        }
    }
}

fn events(numbers: std::ops::RangeInclusive<u32>, count: u32, name: &str) -> String {
    let event = |number: u32| answers::event(number.into(), count.into(), name);
    numbers.map(event).collect()
}

/// Returns the first event that is missing in a stream that ended as it should.
fn missing_event(body: &[u8], count: u32, name: &str) -> Option<u32> {
    (1..=count).find(|number| {
        let event = events(*number..=*number, count, name);
        let mut parts = body.windows(event.len());
        !parts.any(|part| part == event.as_bytes())
    })
}

pub(super) fn excerpt(body: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).replace(['\r', '\n'], " ");
    if body.len() > 60 {
        format!("{shown:?}… ({} bytes)", body.len())
    } else {
        format!("{shown:?}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::request::Connection;
    use super::*;

    fn request(call: Call) -> Request {
        Request {
            seq: 4,
            connection: Connection::Kept,
            call,
        }
    }

    fn response(status: u16, release: &str, body: &[u8]) -> Response {
        Response {
            status,
            release: Some(release.to_owned()).filter(|name| !name.is_empty()),
            body: body.to_vec(),
            is_kept: true,
            ..Response::default()
        }
    }

    fn checked(call: Call, response: &Response) -> Result<u32, Failure> {
        let possible = Possible {
            oldest: 2,
            newest: 10,
        };
        check(&request(call), response, possible, false).map_err(|failed| failed.kind)
    }

    #[test]
    fn right_answers_name_their_release() {
        let echo = request(Call::Echo(64)).body();
        let slow = Call::Slow(Duration::from_secs(1));
        for (call, release, body, number) in [
            (Call::Version, "v3", &b"v3"[..], 3),
            (Call::Home, "v2", b"sample-app v2\n", 2),
            (Call::Echo(64), "v10", &echo, 10),
            (slow, "v3", b"sample-app v3\n", 3),
        ] {
            assert_eq!(checked(call, &response(200, release, body)), Ok(number));
        }
    }

    #[test]
    fn another_status_is_a_failure_of_its_own() {
        for response in [response(503, "v3", b"v3"), response(204, "v3", b"")] {
            assert_eq!(checked(Call::Version, &response), Err(Failure::Status));
        }
    }

    #[test]
    fn of_any_app_only_the_status_is_known() {
        let found = |status| check_status(&response(status, "", b"x"));
        for status in [200, 204, 302, 304] {
            assert_eq!(found(status), Ok(()), "{status}");
        }
        for status in [400, 404, 502, 503] {
            let failed = Failed::new(Failure::Status, format!("{status} with \"x\""));
            assert_eq!(found(status), Err(failed));
        }
    }

    #[test]
    fn wrong_answers_are_found() {
        use Call::{Echo, Home, Version};
        use Failure::{MixedUp, Wrong, WrongRelease};
        let twice = answers::home("v3").repeat(2).into_bytes();
        let slow = Call::Slow(Duration::from_secs(1));
        let short = request(Echo(63)).body();
        for (what, kind, call, release, body) in [
            ("another release", MixedUp, Version, "v3", &b"v4"[..]),
            ("v3 is not v30", MixedUp, Home, "v3", b"sample-app v30\n"),
            ("twice", MixedUp, Home, "v3", &twice),
            (
                "a slow one of another",
                MixedUp,
                slow,
                "v3",
                b"sample-app v2\n",
            ),
            ("no release", Wrong, Version, "", b"v3"),
            ("a strange release", Wrong, Version, "dev", b"dev"),
            ("not deployed yet", WrongRelease, Version, "v11", b"v11"),
            ("older than one seen", WrongRelease, Version, "v1", b"v1"),
            ("echo cut", MixedUp, Echo(64), "v3", &short),
            ("echo of another", MixedUp, Echo(64), "v3", &[b'x'; 64]),
        ] {
            let checked = checked(call, &response(200, release, body));
            assert_eq!(checked, Err(kind), "{what}");
            assert_eq!(kind.plain(), Wrong, "the demo's kind of: {what}");
        }
    }

    #[test]
    fn an_answer_names_its_request() {
        let named = |id: Option<&str>| {
            let response = Response {
                id: id.map(str::to_owned),
                ..response(200, "v3", b"v3")
            };
            let possible = Possible {
                oldest: 0,
                newest: 9,
            };
            let checked = check(&request(Call::Version), &response, possible, true);
            checked.map_err(|failed| failed.kind)
        };
        assert_eq!(named(Some("4")), Ok(3));
        assert_eq!(named(Some("5")), Err(Failure::MixedUp));
        assert_eq!(named(None), Err(Failure::Wrong));
    }

    #[test]
    fn a_digest_and_every_event_must_come() {
        let upload = Call::Upload(3);
        let receipt = |body: &[u8]| response(200, "v3", answers::receipt_of(body).as_bytes());
        assert_eq!(checked(upload, &receipt(&request(upload).body())), Ok(3));
        assert_eq!(checked(upload, &receipt(b"abc")), Err(Failure::MixedUp));

        let stream = Call::Events {
            count: 3,
            every: Duration::from_millis(1),
        };
        let sent = |numbers| response(200, "v3", events(numbers, 3, "v3").as_bytes());
        assert_eq!(checked(stream, &sent(1..=3)), Ok(3));
        assert_eq!(checked(stream, &sent(1..=2)), Err(Failure::Lost));
        assert_eq!(checked(stream, &sent(2..=3)), Err(Failure::Lost));
        let twice = [events(1..=3, 3, "v3"), events(3..=3, 3, "v3")].concat();
        let twice = response(200, "v3", twice.as_bytes());
        assert_eq!(checked(stream, &twice), Err(Failure::MixedUp));
    }
}
