//! Failing servers: each failure is found and named.

use sample_app::answers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::*;

/// A connection that is read in large parts: under Wine, a system call for each byte would make the
/// server too slow for the generator.
type Accepted = BufReader<TcpStream>;

/// Serves in the background until the runtime is dropped.
fn serve<F>(serve: impl Fn(Accepted) -> F + Send + 'static) -> (Runtime, SocketAddr)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let server = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(BufReader::new(stream)));
        }
    });
    (runtime, server)
}

/// Reads the path and the body of one request; none when the client has gone.
async fn request(stream: &mut Accepted) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head.split(' ').nth(1)?.to_owned(), body))
}

/// Returns the answer of a good app of this release.
fn good_answer(release: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let body = match path {
        "/echo" => body.to_owned(),
        "/version" => release.as_bytes().to_owned(),
        _ => answers::home(release).into_bytes(),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Release: {release}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Answers every request on a connection with what `answer` makes of a good answer, and hangs up
/// when that is shorter.
async fn answer_all(mut stream: Accepted, answer: impl Fn(Vec<u8>) -> Vec<u8>) {
    while let Some((path, body)) = request(&mut stream).await {
        let good = good_answer("v1", &path, &body);
        let length = good.len();
        let bytes = answer(good);
        if stream.write_all(&bytes).await.is_err() || bytes.len() < length {
            return;
        }
    }
}

fn plan(server: SocketAddr, timeout: Duration) -> LoadPlan {
    LoadPlan {
        server,
        destination: Destination::at(server),
        rate: NonZeroU32::new(400).unwrap(),
        connections: NonZeroUsize::new(2).unwrap(),
        timeout,
        deployed: Arc::new(AtomicU32::new(2)),
        mix: Mix::plain(NonZeroU32::new(400).unwrap(), NonZeroUsize::new(2).unwrap()),
        releases: Releases::InOrder,
        has_journal: false,
    }
}

/// Returns the outcomes of at least this many requests, on two kept connections and on new ones.
fn outcomes(server: SocketAddr, count: usize) -> Vec<Outcome> {
    outcomes_within(server, count, Duration::from_secs(20))
}

fn outcomes_within(server: SocketAddr, count: usize, timeout: Duration) -> Vec<Outcome> {
    let (sender, mut receiver) = unbounded_channel();
    let generator = Generator::start(plan(server, timeout), sender).unwrap();
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        outcomes.push(receiver.blocking_recv().unwrap());
    }
    generator.stop();
    while let Some(outcome) = receiver.blocking_recv() {
        outcomes.push(outcome);
    }
    assert_eq!(
        generator.join().unwrap(),
        outcomes.len() as u64,
        "every request has one outcome"
    );
    outcomes
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    outcome.failed.as_ref().map(|failed| failed.kind)
}

#[track_caller]
fn all_fail_as(kind: Failure, outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert_eq!(failure(outcome), Some(kind), "{outcome:?}");
    }
}

#[test]
fn good_answers_are_no_failures() {
    let (_runtime, server) = serve(|stream| answer_all(stream, |good| good));
    let outcomes = outcomes(server, 100);
    for outcome in outcomes {
        let times = outcome.due <= outcome.taken && outcome.taken < outcome.ended;
        assert!(times && !outcome.is_reopened, "{outcome:?}");
        assert_eq!((outcome.release, outcome.failed), (Some(1), None));
    }
}

#[test]
fn no_listener_is_refused() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = gone.local_addr().unwrap();
    drop(gone);
    all_fail_as(Failure::Refused, &outcomes(server, 20));
}

#[test]
fn silence_is_a_timeout() {
    let (_runtime, server) =
        serve(|mut stream| async move { while request(&mut stream).await.is_some() {} });
    all_fail_as(
        Failure::Timeout,
        &outcomes_within(server, 20, Duration::from_millis(20)),
    );
}

#[test]
fn each_spoilt_answer_is_a_failure_of_its_kind() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    fn without(mut good: Vec<u8>, missing: usize) -> Vec<u8> {
        good.truncate(good.len().saturating_sub(missing).max(1));
        good
    }
    let page = |_| {
        let head = b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n";
        [&head[..], &[b'-'; 100]].concat()
    };
    let cases: [(Failure, Spoil); 5] = [
        (Failure::Reset, |_| Vec::new()),
        (Failure::Status, page),
        (Failure::Truncated, |good| without(good, 1)),
        (Failure::Truncated, |good| without(good, 4)),
        (Failure::Truncated, |good| without(good, 60)),
    ];
    for (kind, spoil) in cases {
        let (_runtime, server) = serve(move |stream| answer_all(stream, spoil));
        all_fail_as(kind, &outcomes(server, 20));
    }
}

#[test]
fn an_answer_of_a_release_that_was_not_deployed_is_wrong() {
    let (_runtime, server) = serve(|mut stream| async move {
        while let Some((path, body)) = request(&mut stream).await {
            let _ = stream.write_all(&good_answer("v3", &path, &body)).await;
        }
    });
    all_fail_as(Failure::Wrong, &outcomes(server, 20));
}

#[test]
fn bytes_after_an_answer_are_wrong() {
    let (_runtime, server) =
        serve(|stream| answer_all(stream, |good| [&good[..], b"HTTP/1.1 "].concat()));
    let outcomes = outcomes(server, 40);
    let fresh = |outcome: &&Outcome| outcome.request.connection == Connection::New;
    let (fresh, kept): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(fresh);
    for outcome in fresh {
        assert_eq!(failure(outcome), Some(Failure::Wrong), "{outcome:?}");
    }
    // There, the request that follows finds them.
    let found = kept.iter().filter(|outcome| outcome.failed.is_some());
    assert!(found.count() >= kept.len() / 3, "{kept:?}");
}

#[test]
fn the_queue_that_a_stalled_server_leaves_is_given_up() {
    let (_runtime, server) = serve(|mut stream| async move {
        // Read, and never answered.
        while request(&mut stream).await.is_some() {}
    });
    let start = Instant::now();
    let outcomes = outcomes_within(server, 400, Duration::from_millis(400));
    // Two kept connections would need 40 s for the 200 requests that they should carry.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    all_fail_as(Failure::Timeout, &outcomes);
    let failed = outcomes.iter().filter_map(|o| o.failed.as_ref());
    let unserved = failed.filter(|failed| failed.detail.starts_with("no connection was free"));
    assert!(unserved.count() > 100);
}

#[test]
fn an_older_release_after_a_newer_one_is_wrong() {
    let served = Arc::new(AtomicU32::new(0));
    let (_runtime, server) = serve(move |mut stream| {
        let served = Arc::clone(&served);
        async move {
            while let Some((path, body)) = request(&mut stream).await {
                let release = if served.fetch_add(1, Ordering::Relaxed) == 10 {
                    "v2"
                } else {
                    "v1"
                };
                let _ = stream.write_all(&good_answer(release, &path, &body)).await;
            }
        }
    });
    let outcomes = outcomes(server, 200);
    let newer = outcomes.iter().find(|o| o.release == Some(2)).unwrap();
    let mut before = outcomes.iter().filter(|o| o.ended < newer.ended);
    assert!(before.all(|outcome| failure(outcome).is_none()));
    let mut after = outcomes.iter().filter(|o| o.due > newer.ended);
    let is_wrong = |outcome: &Outcome| failure(outcome) == Some(Failure::Wrong);
    assert!(after.all(is_wrong), "{outcomes:?}");
    assert!(outcomes.iter().filter(|o| is_wrong(o)).count() > 20);
}

#[test]
fn a_kept_connection_that_was_closed_while_idle_is_opened_again() {
    let (_runtime, server) = serve(|mut stream| async move {
        if let Some((path, body)) = request(&mut stream).await {
            let _ = stream.write_all(&good_answer("v1", &path, &body)).await;
        }
    });
    let (outcomes_sender, mut outcomes) = unbounded_channel();
    let sender = Sender {
        http2: Connections::new(server, 1),
        plan: plan(server, Duration::from_secs(20)),
        started: Instant::now(),
        seen: Cell::new(0),
        outcomes: outcomes_sender,
    };
    let first = sender.plan.mix.request(0);
    let taken = Taken {
        request: first,
        due: Duration::ZERO,
        taken: Duration::ZERO,
    };
    let mut client = None;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        sender.send(taken, &mut client).await;
        let closed = async {
            while client.as_ref().unwrap().idle() != Idle::Closed {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), closed).await.unwrap();
        sender.send(taken, &mut client).await;
    });
    for is_reopened in [false, true] {
        let outcome = outcomes.try_recv().unwrap();
        assert_eq!(outcome.failed, None);
        assert_eq!(outcome.is_reopened, is_reopened);
    }
}

#[test]
fn an_answer_counts_though_the_rest_of_its_request_was_not_taken() {
    let (runtime, server) = serve(|mut stream| async move {
        let mut first = [0; 1];
        let _ = stream.read_exact(&mut first).await;
        let refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(refusal).await;
    });
    let answer = runtime.block_on(async {
        let mut client = Client::connect(server).await.unwrap();
        client.send(&vec![b'x'; 1 << 24]).await
    });
    assert_eq!(answer.map(|answer| answer.status), Ok(413));
}

#[test]
fn a_stall_shows_in_every_request_that_it_delays() {
    // Nothing is answered before the 20th new connection has come beside the two kept ones.
    let stall = Arc::new(Semaphore::new(0));
    let connections = Arc::new(AtomicU32::new(0));
    let (_runtime, server) = serve(move |stream| {
        let stall = Arc::clone(&stall);
        if connections.fetch_add(1, Ordering::Relaxed) + 1 == 22 {
            stall.add_permits(100_000);
        }
        async move {
            let _permit = stall.acquire().await;
            answer_all(stream, |good| good).await;
        }
    });
    let outcomes = outcomes(server, 100);
    let fresh = |o: &&Outcome| o.request.connection == Connection::New;
    let mut due: Vec<Duration> = outcomes.iter().filter(fresh).map(|o| o.due).collect();
    due.sort_unstable();
    let delayed = |o: &&Outcome| o.due < due[19] && o.request.call.wait().is_zero();
    for outcome in outcomes.iter().filter(delayed) {
        assert!(outcome.latency() >= due[19] - outcome.due, "{outcome:?}");
    }
}
