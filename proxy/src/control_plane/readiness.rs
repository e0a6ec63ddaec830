//! The readiness check that gates promotion.

use std::cell::RefCell;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::probe::{Found, Probe};

/// Minimum time between probes: many apps are ready in a few milliseconds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// Divisor of the time waited so far that gives the time to the next probe: readiness is detected
/// late by at most an eighth of the time that the start took.
const LATE_BY: u32 = 8;

/// Settings of the readiness check.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Request to the app.
    pub probe: Probe,
    /// Maximum time from the end of one probe to the next.
    pub interval: Duration,
    /// Number of successful probes in a row.
    pub rise: u32,
    /// Paths that are requested after that, so that the first client does not wait for them.
    pub warmup: Vec<PathAndQuery>,
    /// Check that the listener belongs to the instance.
    pub owner_check: OwnerCheck,
}

/// The consequence of another program of the same user listening on the app's port. One of another
/// user never gets a request, unless nobody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerCheck {
    /// The instance is not ready.
    Require,
    /// A warning appears in the log and in the status.
    Warn,
    /// None: the system is not asked.
    Off,
}

/// The end of a readiness check at its deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadinessTimeout {
    /// Result of the last probe.
    pub last_probe: String,
}

// === impl Readiness ===

impl Readiness {
    /// Probes until enough probes in a row succeed, and returns the address that answered, and how
    /// it was asked. The result of the last failed probe is in `last_probe` meanwhile, followed by `hint`.
    ///
    /// # Errors
    /// [`ReadinessTimeout`] at the deadline.
    pub async fn wait_until_ready(
        &self,
        port: u16,
        deadline: Instant,
        last_probe: &RefCell<Option<String>>,
        hint: &RefCell<String>,
    ) -> Result<Found, ReadinessTimeout> {
        let ready = async {
            let begun = Instant::now();
            let mut successes = 0;
            loop {
                match self.probe.find(port).await {
                    Ok(found) => {
                        successes += 1;
                        if successes >= self.rise {
                            return found;
                        }
                    }
                    Err(failure) => {
                        successes = 0;
                        last_probe.replace(Some(format!("{failure}{}", hint.borrow())));
                    }
                }
                tokio::time::sleep(self.pause_after(begun.elapsed())).await;
            }
        };
        tokio::time::timeout_at(deadline, ready)
            .await
            .map_err(|_elapsed| ReadinessTimeout {
                last_probe: last_probe
                    .borrow()
                    .clone()
                    .unwrap_or_else(|| "no probe was answered".to_owned()),
            })
    }

    /// Returns the time to the next probe.
    fn pause_after(&self, waited: Duration) -> Duration {
        (waited / LATE_BY).max(SHORTEST_PAUSE).min(self.interval)
    }

    /// Requests the warm-up paths, and returns what is wrong with the responses. They do not count:
    /// the instance has passed its readiness check.
    pub async fn warm_up(&self, found: Found, last_probe: &RefCell<Option<String>>) -> Vec<String> {
        let address = found.address;
        let mut problems = Vec::new();
        for path in &self.warmup {
            last_probe.replace(Some(format!("the warm-up GET {path} is not answered yet")));
            let problem = match self.probe.visit(found, path).await {
                Ok(status) if !status.is_server_error() && !status.is_redirection() => {
                    tracing::debug!(
                        event = "warmup_answered",
                        %address,
                        %path,
                        status = status.as_u16(),
                        "a warm-up request was answered"
                    );
                    continue;
                }
                Ok(status) => format!("the warm-up GET {path} was answered with {status}"),
                Err(error) => format!("the warm-up GET {path} was not answered: {error}"),
            };
            tracing::warn!(event = "warmup_failed", %address, "{problem}");
            problems.push(problem);
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::control_plane::probe::{AskedAs, ExpectedStatus};
    use crate::router::AppProtocol;

    fn readiness() -> Readiness {
        Readiness {
            probe: Probe {
                path: "/up".parse().unwrap(),
                host: None,
                headers: Vec::new(),
                timeout: Duration::from_secs(5),
                expected: ExpectedStatus::Good,
                body: None,
                active: None,
                grpc: None,
                protocol: Some(AppProtocol::Http1),
            },
            interval: Duration::from_millis(1),
            rise: 1,
            warmup: Vec::new(),
            owner_check: OwnerCheck::Off,
        }
    }

    /// Serves the next of `answers` on each connection, and the last one from then on.
    async fn app(answers: &'static [&'static str]) -> u16 {
        counted(answers, &std::sync::Arc::default()).await
    }

    async fn counted(
        answers: &'static [&'static str],
        asked: &std::sync::Arc<std::sync::atomic::AtomicUsize>,
    ) -> u16 {
        let asked = std::sync::Arc::clone(asked);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = answers[turn.min(answers.len() - 1)];
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    async fn wait(port: u16, timeout: Duration) -> Result<SocketAddr, ReadinessTimeout> {
        let deadline = Instant::now() + timeout;
        wait_for(&readiness(), port, deadline).await
    }

    #[tokio::test]
    async fn it_is_ready_once_an_answer_is_as_expected() {
        let port = app(&[
            "",
            "junk\r\n\r\n",
            "HTTP/1.1 503 No\r\n\r\n",
            "HTTP/1.1 204 OK\r\n\r\n",
        ])
        .await;
        let ready = wait(port, Duration::from_secs(30)).await.unwrap();
        assert_eq!(ready.port(), port);
    }

    async fn wait_for(
        readiness: &Readiness,
        port: u16,
        deadline: Instant,
    ) -> Result<SocketAddr, ReadinessTimeout> {
        readiness
            .wait_until_ready(port, deadline, &RefCell::default(), &RefCell::default())
            .await
            .map(|found| found.address)
    }

    #[tokio::test]
    async fn as_many_good_answers_in_a_row_are_needed_as_the_options_say() {
        const GOOD: &str = "HTTP/1.1 204 OK\r\n\r\n";
        const BAD: &str = "HTTP/1.1 503 No\r\n\r\n";
        let readiness = Readiness {
            rise: 3,
            ..readiness()
        };
        let asked = std::sync::Arc::default();
        let port = counted(&[GOOD, GOOD, BAD, GOOD, GOOD, GOOD, GOOD], &asked).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        wait_for(&readiness, port, deadline).await.unwrap();
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 6);
    }

    #[test]
    fn an_instance_is_probed_often_at_first_and_never_less_often_than_the_interval() {
        let readiness = Readiness {
            interval: Duration::from_millis(500),
            ..readiness()
        };
        let pause = |ms| readiness.pause_after(Duration::from_millis(ms)).as_millis();
        assert_eq!([pause(0), pause(10), pause(400)], [2, 2, 50]);
        assert_eq!([pause(4_000), pause(60_000)], [500, 500]);
    }

    #[tokio::test]
    async fn says_what_the_last_probe_said() {
        let port = app(&["HTTP/1.1 500 No\r\n\r\n"]).await;
        let never = wait(port, Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(
            never.last_probe,
            "GET /up answered 500 Internal Server Error, expected 200 to 399"
        );
    }

    #[tokio::test]
    async fn says_that_nothing_listens() {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap().port()
        };
        let never = wait(port, Duration::from_millis(200)).await.unwrap_err();
        let start = format!("nothing listens on port {port}: ");
        assert!(never.last_probe.starts_with(&start), "{never:?}");
    }

    #[tokio::test]
    async fn finds_an_app_on_the_ipv6_loopback() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return eprintln!("skipped: this machine has no IPv6");
        };
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        });
        let ready = wait(address.port(), Duration::from_secs(30)).await;
        assert_eq!(ready, Ok(address));
    }

    /// Serves one answer by path, and by `X-Forwarded-Proto: https`.
    async fn site(answer: fn(&str, bool) -> String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let is_https = request.contains("x-forwarded-proto: https");
                let _ = stream.write_all(answer(&path, is_https).as_bytes()).await;
            }
        });
        port
    }

    /// Returns the failure of a check of `path`, or how the good answer was asked for.
    async fn check(
        path: &'static str,
        expected: ExpectedStatus,
        answer: fn(&str, bool) -> String,
    ) -> Result<AskedAs, String> {
        let probe = Probe {
            path: path.parse().unwrap(),
            expected,
            ..readiness().probe
        };
        let found = probe.find(site(answer).await).await;
        found
            .map(|found| found.asked_as)
            .map_err(|failure| failure.to_string())
    }

    fn to(location: &str) -> String {
        format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    }

    fn status(code: u16) -> String {
        format!("HTTP/1.1 {code} X\r\nContent-Length: 2\r\n\r\nok")
    }

    #[tokio::test]
    async fn an_answer_that_redirects_to_https_is_judged_by_the_one_there() {
        const ROOT: ExpectedStatus = ExpectedStatus::AnyOfRoot;
        let good = |_: &str, https| {
            if https {
                status(200)
            } else {
                to("https://example.org/")
            }
        };
        assert_eq!(check("/", ROOT, good).await, Ok(AskedAs::Https));
        let bad = |_: &str, https| {
            if https {
                status(500)
            } else {
                to("https://example.org/")
            }
        };
        let failure = check("/", ROOT, bad).await.unwrap_err();
        assert!(
            failure.starts_with("GET /, asked as https, answered 500"),
            "{failure}"
        );
        let circle = |_: &str, _| to("https://example.org/");
        let failure = check("/", ROOT, circle).await.unwrap_err();
        assert!(
            failure.contains("with the Location https://example.org/"),
            "{failure}"
        );
        // Somebody expects just that.
        let named = ExpectedStatus::Named(301..=301);
        assert_eq!(check("/", named, bad).await, Ok(AskedAs::Http));
    }

    #[tokio::test]
    async fn a_redirect_to_another_place_counts_at_the_root_only_or_if_it_is_named() {
        let login = |path: &str, _| match path {
            "/login" => status(200),
            _ => to("/login"),
        };
        let failure = check("/up", ExpectedStatus::Good, login).await.unwrap_err();
        assert!(failure.contains("with the Location /login"), "{failure}");
        let named = ExpectedStatus::Named(200..=399);
        assert_eq!(check("/up", named, login).await, Ok(AskedAs::Http));
        let root = || ExpectedStatus::AnyOfRoot;
        assert_eq!(check("/", root(), login).await, Ok(AskedAs::Http));
        let broken = |path: &str, _| match path {
            "/login" => status(500),
            _ => to("/login"),
        };
        let failure = check("/", root(), broken).await.unwrap_err();
        assert!(failure.starts_with("GET /login answered 500"), "{failure}");
        let elsewhere = |_: &str, _| to("http://login.example.org/");
        assert_eq!(check("/", root(), elsewhere).await, Ok(AskedAs::Http));
    }

    #[tokio::test]
    async fn a_doubtful_answer_is_compared_with_that_of_the_active_release() {
        let active = site(|_, _| status(200)).await;
        let doubtful = site(|_, _| status(400)).await;
        let probe = |active: u16| Probe {
            path: "/".parse().unwrap(),
            expected: ExpectedStatus::AnyOfRoot,
            active: Some(SocketAddr::from(([127, 0, 0, 1], active))),
            ..readiness().probe
        };
        let failure = probe(active).find(doubtful).await.unwrap_err().to_string();
        assert!(
            failure.contains("the active release answers 200"),
            "{failure}"
        );
        probe(doubtful).find(doubtful).await.unwrap();
    }

    #[tokio::test]
    async fn the_body_has_to_contain_the_text_and_further_fields_are_sent() {
        let probe = |text: &str, proto: &'static str| Probe {
            body: Some(text.to_owned()),
            headers: vec![(
                "x-forwarded-proto".parse().unwrap(),
                http::HeaderValue::from_static(proto),
            )],
            ..readiness().probe
        };
        let port = site(|_, https| if https { status(200) } else { status(500) }).await;
        probe("k", "https").find(port).await.unwrap();
        let failure = probe("no", "https").find(port).await.unwrap_err();
        assert!(
            failure.to_string().contains("without \"no\" in its body"),
            "{failure}"
        );
        probe("ok", "http").find(port).await.unwrap_err();
    }
}
