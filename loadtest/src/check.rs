//! Is this the answer to that request? Pure.

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
/// The status is not 200, the body is not what was asked for, or the release could not be.
pub fn check(shot: &Shot, answer: &Answer, possible: Possible) -> Result<u32, Failed> {
    if answer.status != 200 {
        return Err(Failed::new(
            Failure::Status,
            format!("{} with {}", answer.status, excerpt(&answer.body)),
        ));
    }
    let wrong = |detail| Err(Failed::new(Failure::Wrong, detail));
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
        return wrong(format!("answered by {name} before it was deployed"));
    }
    if number < possible.oldest {
        return wrong(format!(
            "answered by {name} though v{} had answered before it was sent",
            possible.oldest
        ));
    }
    let right = match shot.call {
        Call::Version => answer.body == name.as_bytes(),
        Call::Home => contains(&answer.body, name.as_bytes()),
        Call::Echo(_) => answer.body == shot.body(),
        // Its body is the app's own business.
        Call::Slow(_) => true,
    };
    if right {
        Ok(number)
    } else {
        wrong(format!("{name} answered with {}", excerpt(&answer.body)))
    }
}

/// The name, not followed by a digit: v1 is not in v10.
fn contains(body: &[u8], name: &[u8]) -> bool {
    body.windows(name.len()).enumerate().any(|(at, part)| {
        part == name && !body.get(at + name.len()).is_some_and(u8::is_ascii_digit)
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
        )
        .map_err(|failed| failed.kind)
    }

    #[test]
    fn right_answers_name_their_release() {
        let echo = shot(Call::Echo(64)).body();
        let slow = Call::Slow(Duration::from_secs(1));
        assert_eq!(verdict(Call::Version, &answer(200, "v3", b"v3")), Ok(3));
        assert_eq!(
            verdict(Call::Home, &answer(200, "v2", b"I am v2.\n")),
            Ok(2)
        );
        assert_eq!(verdict(Call::Echo(64), &answer(200, "v10", &echo)), Ok(10));
        assert_eq!(verdict(slow, &answer(200, "v3", b"done")), Ok(3));
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
    fn wrong_answers_are_found() {
        for (what, call, answer) in [
            (
                "body of another release",
                Call::Version,
                answer(200, "v3", b"v4"),
            ),
            ("v1 is not v10", Call::Home, answer(200, "v3", b"I am v30")),
            ("no release", Call::Version, answer(200, "", b"v3")),
            ("not one of ours", Call::Version, answer(200, "dev", b"dev")),
            (
                "not deployed yet",
                Call::Version,
                answer(200, "v11", b"v11"),
            ),
            (
                "older than one seen",
                Call::Version,
                answer(200, "v1", b"v1"),
            ),
            (
                "echo cut",
                Call::Echo(64),
                answer(200, "v3", &shot(Call::Echo(63)).body()),
            ),
            (
                "echo of another",
                Call::Echo(64),
                answer(200, "v3", &[b'x'; 64]),
            ),
        ] {
            assert_eq!(verdict(call, &answer), Err(Failure::Wrong), "{what}");
        }
    }
}
