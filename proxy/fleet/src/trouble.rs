//! Trouble that lasts: told when it begins, when it becomes another, and when it is over.

use std::time::{Duration, Instant};

use crate::clock;
use crate::store::StoreError;

/// The trouble of a task at the moment, if it has any.
#[derive(Debug, Default)]
pub struct Trouble(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    cause: String,
    text: String,
    since: Instant,
}

// === impl Trouble ===

impl Trouble {
    /// Takes the result of the last try, and returns the line that is news: `over` at the end.
    pub fn note(&mut self, error: Option<&StoreError>, over: &str) -> Option<String> {
        let before = self.0.as_ref();
        let Some(error) = error else {
            return self
                .0
                .take()
                .map(|it| format!("{over}, after {}", it.time()));
        };
        let cause = error.cause();
        if before.is_some_and(|it| it.cause == cause) {
            return None;
        }
        let text = error.to_string();
        let lasts = before.map_or_else(String::new, |it| {
            format!("; it has not gone well for {}", it.time())
        });
        let line = format!("{text}{lasts}");
        let since = before.map_or_else(clock::now, |it| it.since);
        self.0 = Some(Lasting { cause, text, since });
        Some(line)
    }

    /// Returns the text of the error with which it began, or became another.
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|it| &*it.text)
    }

    /// Returns how long it lasts.
    pub fn lasts(&self) -> Option<String> {
        self.0.as_ref().map(Lasting::time)
    }
}

// === impl Lasting ===

impl Lasting {
    fn time(&self) -> String {
        let time = clock::now().saturating_duration_since(self.since);
        humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
    }
}

#[cfg(test)]
mod tests {
    use object_store::Error;

    use super::*;

    fn failed(reason: &str) -> StoreError {
        StoreError::Request(Error::Generic {
            store: "S3",
            source: reason.into(),
        })
    }

    #[tokio::test]
    async fn it_is_told_once_for_each_cause_and_at_its_end() {
        let mut trouble = Trouble::default();
        let mut note = |error: Option<&str>| {
            let error = error.map(failed);
            trouble.note(error.as_ref(), "the store answers again")
        };
        let forbidden = |time, id| {
            format!(
                "Error performing GET http://s/c in {time}, after 2 retries - Server returned \
                     non-2xx status code: 403 Forbidden: <Error><RequestId>{id}</RequestId></Error>"
            )
        };
        assert_eq!(note(None), None);
        let told = note(Some(&forbidden("1.5s", 1))).expect("it begins");
        assert!(
            told.contains("in 1.5s") && !told.contains("gone well"),
            "{told}"
        );
        clock::sleep(Duration::from_secs(90)).await;
        assert_eq!(note(Some(&forbidden("210.7ms", 2))), None);
        let told =
            note(Some("Error performing GET http://s/c in 1s - HTTP error")).expect("another");
        assert!(told.ends_with("it has not gone well for 1m 30s"), "{told}");
        assert_eq!(
            note(Some("Error performing GET http://s/c in 2s - HTTP error")),
            None
        );
        clock::sleep(Duration::from_secs(5)).await;
        let over = note(None);
        assert_eq!(
            over.as_deref(),
            Some("the store answers again, after 1m 35s")
        );
        assert_eq!(note(None), None);
        assert!(
            note(Some(&forbidden("1.5s", 3))).is_some(),
            "it begins anew"
        );
    }
}
