//! Is this the answer to that request? Pure.

use sample_app::answers;

use crate::result::{Failed, Failure};
use crate::traffic::{Call, Shot};
use crate::wire::Answer;

/// The releases that may answer: `oldest` is the newest that an answer had named when the request
/// was sent, `newest` the newest that was deployed when its answer came.
#[derive(Debug, Clone, Copy)]
pub struct Possible {
    pub oldest: u32,
    pub newest: u32,
}

/// The number of the release that answered.
///
/// # Errors
/// The status is not 200 (or 101), the body is not what was asked for, or the release could not be;
/// with `named`, when the answer does not name its request.
pub fn check(shot: &Shot, answer: &Answer, possible: Possible, named: bool) -> Result<u32, Failed> {
    let is_talk = matches!(shot.call, Call::Talk { .. });
    let right = if is_talk { 101 } else { 200 };
    if answer.status != right {
        return Err(Failed::new(
            Failure::Status,
            format!("{} with {}", answer.status, excerpt(&answer.body)),
        ));
    }
    let wrong = |detail| Err(Failed::new(Failure::Wrong, detail));
    if named {
        let seq = shot.seq.to_string();
        match &answer.id {
            None => return wrong("the answer has no X-Request-ID".to_owned()),
            Some(id) if *id != seq => {
                return Err(Failed::new(
                    Failure::MixedUp,
                    format!("the answer to request {id}, not {seq}"),
                ));
            }
            Some(_) => {}
        }
    }
    let Some(name) = &answer.release else {
        return wrong("the answer has no X-Release".to_owned());
    };
    let Some(number) = name
        .strip_prefix('v')
        .and_then(|digits| digits.parse().ok())
    else {
        return wrong(format!(
            "answered by release {name:?}, which is none of ours"
        ));
    };
    if number > possible.newest {
        return Err(Failed::new(
            Failure::WrongRelease,
            format!("answered by {name} before it was deployed"),
        ));
    }
    if number < possible.oldest {
        return Err(Failed::new(
            Failure::WrongRelease,
            format!(
                "answered by {name} though v{} had answered before it was sent",
                possible.oldest
            ),
        ));
    }
    let right = match shot.call {
        Call::Version | Call::Old => answer.body == name.as_bytes(),
        Call::Home | Call::Slow(_) => answer.body == answers::home(name).as_bytes(),
        Call::Echo(_) => answer.body == shot.body(),
        // Its body is the app's own business.
        Call::Page => true,
        Call::Upload(_) | Call::Chunks { .. } => {
            answer.body == answers::receipt_of(&shot.body()).as_bytes()
        }
        Call::Events { count, .. } => {
            if let Some(missing) = missing_event(&answer.body, count, name) {
                return Err(Failed::new(
                    Failure::Lost,
                    format!("{name} sent no event {missing} of {count}"),
                ));
            }
            answer.body == events(1..=count, count, name).as_bytes()
        }
        // What was said was heard message by message.
        Call::Talk { .. } => true,
    };
    if right {
        Ok(number)
    } else {
        Err(Failed::new(
            Failure::MixedUp,
            format!("{name} answered with {}", excerpt(&answer.body)),
        ))
    }
}

/// All that can be said of the answer of an app that is not sample-app.
///
/// # Errors
/// The status is neither a success nor a redirection.
pub fn check_status(answer: &Answer) -> Result<(), Failed> {
    match answer.status {
        200..400 => Ok(()),
        status => Err(Failed::new(
            Failure::Status,
            format!("{status} with {}", excerpt(&answer.body)),
        )),
    }
}

fn events(numbers: std::ops::RangeInclusive<u32>, count: u32, name: &str) -> String {
    let event = |number: u32| answers::event(number.into(), count.into(), name);
    numbers.map(event).collect()
}

/// The first event that did not come, of a stream that ended as it should.
fn missing_event(body: &[u8], count: u32, name: &str) -> Option<u32> {
    (1..=count).find(|number| {
        let event = events(*number..=*number, count, name);
        !body
            .windows(event.len())
            .any(|part| part == event.as_bytes())
    })
}

fn excerpt(body: &[u8]) -> String {
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

    use super::*;
    use crate::traffic::Connection;

    fn shot(call: Call) -> Shot {
        Shot {
            seq: 4,
            connection: Connection::Kept,
            call,
        }
    }

    fn answer(status: u16, release: &str, body: &[u8]) -> Answer {
        let release = Some(release.to_owned()).filter(|name| !name.is_empty());
        Answer {
            status,
            release,
            id: None,
            accept: None,
            body: body.to_vec(),
            keep: true,
        }
    }

    fn verdict(call: Call, answer: &Answer) -> Result<u32, Failure> {
        check(
            &shot(call),
            answer,
            Possible {
                oldest: 2,
                newest: 10,
            },
            false,
        )
        .map_err(|failed| failed.kind)
    }

    #[test]
    fn right_answers_name_their_release() {
        let echo = shot(Call::Echo(64)).body();
        let slow = Call::Slow(Duration::from_secs(1));
        assert_eq!(verdict(Call::Version, &answer(200, "v3", b"v3")), Ok(3));
        assert_eq!(
            verdict(Call::Home, &answer(200, "v2", b"sample-app v2\n")),
            Ok(2)
        );
        assert_eq!(verdict(Call::Echo(64), &answer(200, "v10", &echo)), Ok(10));
        assert_eq!(verdict(slow, &answer(200, "v3", b"sample-app v3\n")), Ok(3));
    }

    #[test]
    fn another_status_is_a_failure_of_its_own() {
        assert_eq!(
            verdict(Call::Version, &answer(503, "v3", b"v3")),
            Err(Failure::Status)
        );
        assert_eq!(
            verdict(Call::Version, &answer(204, "v3", b"")),
            Err(Failure::Status)
        );
    }

    #[test]
    fn of_any_app_only_the_status_is_known() {
        let found = |status| {
            check_status(&answer(status, "", b"x")).map_err(|failed| (failed.kind, failed.detail))
        };
        for status in [200, 204, 302, 304] {
            assert_eq!(found(status), Ok(()), "{status}");
        }
        for status in [400, 404, 502, 503] {
            let detail = format!("{status} with \"x\"");
            assert_eq!(found(status), Err((Failure::Status, detail)));
        }
    }

    #[test]
    fn wrong_answers_are_found() {
        for (what, kind, call, answer) in [
            (
                "body of another release",
                Failure::MixedUp,
                Call::Version,
                answer(200, "v3", b"v4"),
            ),
            (
                "v3 is not v30",
                Failure::MixedUp,
                Call::Home,
                answer(200, "v3", b"sample-app v30\n"),
            ),
            (
                "a body that came twice",
                Failure::MixedUp,
                Call::Home,
                answer(200, "v3", b"sample-app v3\nsample-app v3\n"),
            ),
            (
                "a slow body of another",
                Failure::MixedUp,
                Call::Slow(Duration::from_secs(1)),
                answer(200, "v3", b"sample-app v2\n"),
            ),
            (
                "no release",
                Failure::Wrong,
                Call::Version,
                answer(200, "", b"v3"),
            ),
            (
                "not one of ours",
                Failure::Wrong,
                Call::Version,
                answer(200, "dev", b"dev"),
            ),
            (
                "not deployed yet",
                Failure::WrongRelease,
                Call::Version,
                answer(200, "v11", b"v11"),
            ),
            (
                "older than one seen",
                Failure::WrongRelease,
                Call::Version,
                answer(200, "v1", b"v1"),
            ),
            (
                "echo cut",
                Failure::MixedUp,
                Call::Echo(64),
                answer(200, "v3", &shot(Call::Echo(63)).body()),
            ),
            (
                "echo of another",
                Failure::MixedUp,
                Call::Echo(64),
                answer(200, "v3", &[b'x'; 64]),
            ),
        ] {
            assert_eq!(verdict(call, &answer), Err(kind), "{what}");
            assert_eq!(
                kind.plain(),
                Failure::Wrong,
                "what the demo says of: {what}"
            );
        }
    }

    #[test]
    fn an_answer_names_its_request() {
        let named = |id: Option<&str>| {
            let answer = Answer {
                id: id.map(str::to_owned),
                ..answer(200, "v3", b"v3")
            };
            let possible = Possible {
                oldest: 0,
                newest: 9,
            };
            check(&shot(Call::Version), &answer, possible, true).map_err(|failed| failed.kind)
        };
        assert_eq!(named(Some("4")), Ok(3));
        assert_eq!(named(Some("5")), Err(Failure::MixedUp));
        assert_eq!(named(None), Err(Failure::Wrong));
    }

    #[test]
    fn a_digest_and_every_event_must_come() {
        let upload = Call::Upload(3);
        let receipt = |body: &[u8]| answer(200, "v3", answers::receipt_of(body).as_bytes());
        assert_eq!(verdict(upload, &receipt(&shot(upload).body())), Ok(3));
        assert_eq!(verdict(upload, &receipt(b"abc")), Err(Failure::MixedUp));

        let stream = Call::Events {
            count: 3,
            every: Duration::from_millis(1),
        };
        let sent = |numbers, name| answer(200, "v3", events(numbers, 3, name).as_bytes());
        assert_eq!(verdict(stream, &sent(1..=3, "v3")), Ok(3));
        assert_eq!(verdict(stream, &sent(1..=2, "v3")), Err(Failure::Lost));
        assert_eq!(verdict(stream, &sent(2..=3, "v3")), Err(Failure::Lost));
        let twice = [events(1..=3, 3, "v3"), events(3..=3, 3, "v3")].concat();
        let twice = answer(200, "v3", twice.as_bytes());
        assert_eq!(verdict(stream, &twice), Err(Failure::MixedUp));
    }
}
