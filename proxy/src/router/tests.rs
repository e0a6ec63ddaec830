use std::net::SocketAddr;

use super::*;

const HOLD: HoldLimits = HoldLimits {
    first_timeout: Duration::from_secs(110),
    timeout: Duration::from_secs(60),
    max: 2,
};

fn upstream(generation: u64) -> (Arc<Upstream>, Drain) {
    Upstream::new(
        Generation(generation),
        SocketAddr::from(([127, 0, 0, 1], 1)),
    )
}

#[tokio::test(start_paused = true)]
async fn a_held_request_goes_to_the_release_that_becomes_ready() {
    let router = Arc::new(Router::new(HOLD));
    let waiting = tokio::spawn({
        let router = Arc::clone(&router);
        async move {
            router
                .acquire_or_hold(None, None)
                .await
                .map(|u| u.generation)
        }
    });
    while router.held() == 0 {
        tokio::task::yield_now().await;
    }
    router.promote(upstream(1).0);
    assert_eq!(waiting.await.unwrap(), Ok(Generation(1)));
    assert_eq!(router.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_longer_before_the_first_release_than_later() {
    let router = Router::new(HOLD);
    let start = tokio::time::Instant::now();
    let held = router.acquire_or_hold(None, None).await;
    assert_eq!(held.err(), Some(HoldError::Expired));
    assert_eq!(start.elapsed(), HOLD.first_timeout);

    router.promote(upstream(1).0);
    router.withdraw();
    let start = tokio::time::Instant::now();
    assert!(router.acquire_or_hold(None, None).await.is_err());
    assert_eq!(start.elapsed(), HOLD.timeout);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_are_held() {
    let router = Router::new(HOLD);
    let (first, second, third) = tokio::join!(
        router.acquire_or_hold(None, None),
        router.acquire_or_hold(None, None),
        router.acquire_or_hold(None, None),
    );
    assert_eq!(first.err(), Some(HoldError::Expired));
    assert_eq!(second.err(), Some(HoldError::Expired));
    assert_eq!(third.err(), Some(HoldError::Full));
    assert_eq!(router.held(), 0);
}

#[tokio::test]
async fn nothing_is_held_at_shutdown() {
    let router = Router::new(HOLD);
    router.close();
    let held = router.acquire_or_hold(None, None).await;
    assert_eq!(held.err(), Some(HoldError::Closing));
}

#[tokio::test(start_paused = true)]
async fn who_could_not_reach_a_generation_waits_for_another() {
    let router = Router::new(HOLD);
    router.promote(upstream(1).0);
    let (acquired, ()) = tokio::join!(router.acquire_or_hold(Some(Generation(1)), None), async {
        tokio::task::yield_now().await;
        router.promote(upstream(2).0);
    });
    assert_eq!(acquired.map(|u| u.generation), Ok(Generation(2)));
}

#[tokio::test(start_paused = true)]
async fn in_a_maintenance_only_allowed_clients_are_routed_and_releases_go_on() {
    let router = Router::new(HOLD);
    let own = Some([10, 0, 0, 7].into());
    let begin = || {
        router.begin_maintenance(Maintenance {
            message: None,
            allow: vec!["10.0.0.0/8".parse().unwrap()],
        });
    };
    let generation = |acquired: Result<Arc<Upstream>, HoldError>| acquired.map(|u| u.generation);
    // Also what waits already is refused.
    let (held, ()) = tokio::join!(router.acquire_or_hold(None, None), async {
        tokio::task::yield_now().await;
        begin();
    });
    assert_eq!(held.err(), Some(HoldError::Maintenance));
    let (allowed, ()) = tokio::join!(router.acquire_or_hold(None, own), async {
        tokio::task::yield_now().await;
        router.promote(upstream(1).0);
    });
    assert_eq!(generation(allowed), Ok(Generation(1)));
    assert!(router.acquire().is_none());
    for other in [None, Some([11, 0, 0, 7].into())] {
        let refused = router.acquire_or_hold(None, other).await;
        assert_eq!(refused.err(), Some(HoldError::Maintenance));
    }
    router.promote(upstream(2).0);
    router.pause();
    begin();
    let (paused, ()) = tokio::join!(router.acquire_or_hold(None, own), async {
        tokio::task::yield_now().await;
        assert_eq!(router.held(), 1);
        router.resume();
    });
    assert_eq!(generation(paused), Ok(Generation(2)));
    assert_eq!(router.routed(), Some(Generation(2)));
    router.end_maintenance();
    assert_eq!(router.acquire().map(|u| u.generation), Some(Generation(2)));
}

#[tokio::test]
async fn an_upstream_is_drained_when_its_last_request_ends() {
    let router = Router::new(HOLD);
    let (blue, drain) = upstream(1);
    router.promote(blue);
    let request = router.acquire().unwrap();
    router.promote(upstream(2).0);

    let mut drained = std::pin::pin!(drain.wait());
    let pending = futures_poll_once(drained.as_mut()).await;
    assert!(pending, "a request is in flight");
    drop(request);
    drained.await;
}

#[tokio::test]
async fn the_workers_hear_of_each_superseded_generation_once() {
    let router = Router::new(HOLD);
    let mut notices = router.subscribe();
    router.promote(upstream(1).0);
    let (green, drain) = upstream(2);
    router.promote(green);
    router.evict(&drain.upstream(), Class::Tunnel);
    router.withdraw();
    router.withdraw();
    let mut heard = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        heard.push(notice);
    }
    assert_eq!(
        heard,
        [
            Notice::Promoted(Generation(1)),
            Notice::Promoted(Generation(2)),
            Notice::Superseded(Generation(1)),
            Notice::Evicted(Generation(2), Class::Tunnel),
            Notice::Superseded(Generation(2)),
        ]
    );
}

#[tokio::test]
async fn while_a_release_is_staged_its_token_leads_there_and_nothing_else() {
    let router = Router::new(HOLD);
    let generation = |upstream: Option<Arc<Upstream>>| upstream.map(|it| it.generation.0);
    let held = async || generation(router.acquire_or_hold(None, None).await.ok());
    router.promote(upstream(1).0);
    let (green, drain) = upstream(2);
    router.stage(Preview::new(green, Some("secret"), 0.0));
    assert!(router.acquire().is_none(), "no request misses the look");
    assert_eq!(held().await, Some(1));
    assert_eq!(generation(router.acquire_preview(b"secret")), Some(2));
    for wrong in [&b"secre"[..], b"secret2", b"", b"Secret"] {
        assert_eq!(generation(router.acquire_preview(wrong)), None);
    }
    assert_eq!(router.routed(), Some(Generation(1)));
    // The active one is launched again meanwhile.
    router.withdraw();
    assert_eq!(router.routed(), None);
    router.promote(upstream(3).0);
    assert!(router.acquire().is_none());
    assert_eq!(held().await, Some(3));
    // A pause holds both.
    router.pause();
    assert_eq!(generation(router.acquire_active()), None);
    assert_eq!(generation(router.acquire_preview(b"secret")), None);
    router.resume();
    assert_eq!(held().await, Some(3));
    assert_eq!(generation(router.acquire_preview(b"secret")), Some(2));
    router.unstage(Generation(3));
    assert!(router.acquire().is_none());
    router.unstage(Generation(2));
    assert_eq!(generation(router.acquire()), Some(3));
    assert_eq!(generation(router.acquire_preview(b"secret")), None);
    drain.wait().await;
}

#[tokio::test]
async fn a_staged_release_that_is_promoted_gets_all_requests() {
    let router = Router::new(HOLD);
    let mut notices = router.subscribe();
    let (blue, blue_drain) = upstream(1);
    router.promote(blue);
    let (green, _drain) = upstream(2);
    router.stage(Preview::new(Arc::clone(&green), Some("secret"), 0.0));
    router.promote(green);
    assert_eq!(
        router.acquire().map(|it| it.generation),
        Some(Generation(2))
    );
    assert!(router.acquire_preview(b"secret").is_none());
    blue_drain.wait().await;
    let heard: Vec<_> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
    assert_eq!(heard.last(), Some(&Notice::Superseded(Generation(1))));
}

#[tokio::test]
async fn a_pause_outlasts_a_stage_and_a_stage_a_pause() {
    let router = Router::new(HOLD);
    router.promote(upstream(1).0);
    router.pause();
    router.stage(Preview::new(upstream(2).0, Some("secret"), 0.0));
    router.unstage(Generation(2));
    assert!(router.acquire_active().is_none());
    router.stage(Preview::new(upstream(3).0, Some("secret"), 0.0));
    router.promote(upstream(4).0);
    assert!(router.acquire_active().is_none());
    router.resume();
    assert!(router.acquire().is_none());
    assert_eq!(
        router.acquire_active().map(|it| it.generation),
        Some(Generation(4))
    );
}

/// Polls the future once, and returns `true` if it is still pending.
async fn futures_poll_once(mut future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// The flag of an instance that has been stopped; a request that sees it panics.
struct StoppedInstance(AtomicBool);

/// Clients acquire, check that the instance behind the upstream still runs, and release; meanwhile
/// the route moves on and whatever is drained is stopped. A data plane that copied the address out
/// and dropped the handle would be caught here.
#[test]
fn no_request_meets_a_stopped_instance_while_the_route_moves() {
    const CLIENTS: usize = 4;
    const HANDOFFS: u64 = 5_000;
    let router = Router::new(HOLD);
    let instances: Vec<_> = (0..=HANDOFFS)
        .map(|_| StoppedInstance(AtomicBool::new(false)))
        .collect();
    let over = AtomicBool::new(false);
    let (first, mut draining) = upstream(0);
    router.promote(first);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut last = Generation(0);
                while !over.load(Ordering::Acquire) {
                    let upstream = router.acquire().unwrap();
                    assert!(upstream.generation >= last, "the route went back");
                    last = upstream.generation;
                    let StoppedInstance(stopped) = &instances[last.0 as usize];
                    for _ in 0..8 {
                        assert!(!stopped.load(Ordering::Acquire), "stopped under a request");
                        std::hint::spin_loop();
                    }
                    drop(upstream);
                }
            });
        }
        for generation in 1..=HANDOFFS {
            let (next, drain) = upstream(generation);
            router.promote(next);
            let superseded = std::mem::replace(&mut draining, drain);
            superseded.released.blocking_recv().unwrap_err();
            let StoppedInstance(stopped) = &instances[generation as usize - 1];
            stopped.store(true, Ordering::Release);
        }
        over.store(true, Ordering::Release);
    });
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_requests_whatever_is_promoted_meanwhile() {
    let router = Arc::new(Router::new(HOLD));
    router.promote(upstream(1).0);
    router.pause();
    assert!(router.acquire().is_none());
    assert_eq!(router.routed(), Some(Generation(1)));
    let waiting = tokio::spawn({
        let router = Arc::clone(&router);
        async move {
            router
                .acquire_or_hold(None, None)
                .await
                .map(|u| u.generation)
        }
    });
    while router.held() == 0 {
        tokio::task::yield_now().await;
    }
    router.promote(upstream(2).0);
    assert!(router.acquire().is_none());
    router.resume();
    assert_eq!(waiting.await.unwrap(), Ok(Generation(2)));
    assert_eq!(router.routed(), Some(Generation(2)));
}

#[tokio::test]
async fn a_pause_keeps_what_is_in_flight_and_does_not_count_as_a_drain() {
    let router = Router::new(HOLD);
    let (first, drain) = upstream(1);
    router.promote(first);
    router.pause();
    let drained = tokio::time::timeout(Duration::from_millis(20), drain.wait()).await;
    assert!(drained.is_err(), "it is set aside, not let go");
    router.withdraw();
    router.resume();
    assert!(router.acquire().is_none());
}

#[tokio::test(start_paused = true)]
async fn held_requests_are_let_go_a_few_at_a_time() {
    let hold = HoldLimits { max: 1000, ..HOLD };
    let router = Arc::new(Router::new(hold));
    let waiting: Vec<_> = (0..3 * RELEASE_BURST)
        .map(|_| {
            let router = Arc::clone(&router);
            tokio::spawn(async move {
                let got = router.acquire_or_hold(None, None).await;
                (got.is_ok(), tokio::time::Instant::now())
            })
        })
        .collect();
    while router.held() < waiting.len() {
        tokio::task::yield_now().await;
    }
    let promoted = tokio::time::Instant::now();
    router.promote(upstream(1).0);
    let mut at_once = 0;
    let mut last = promoted;
    for request in waiting {
        let (ok, when) = request.await.unwrap();
        assert!(ok);
        at_once += usize::from(when == promoted);
        last = last.max(when);
    }
    assert_eq!(at_once, RELEASE_BURST + 1);
    assert!(
        last - promoted >= RELEASE_INTERVAL * (RELEASE_BURST as u32),
        "{:?}",
        last - promoted
    );
}

#[tokio::test]
async fn a_canary_gets_its_share_of_new_clients_and_everybody_keeps_their_side() {
    let with_session = |generation| {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let token = Some(SessionToken::random());
        let generation = Generation(generation);
        let protocol = AppProtocol::default();
        Upstream::with_counts(
            generation,
            address,
            protocol,
            None,
            None,
            Arc::default(),
            token,
        )
        .0
    };
    let router = Router::new(HOLD);
    router.promote(with_session(1));
    let old = router.begin_session(Generation(1)).map(Session::new);
    router.stage(Preview::new(with_session(2), None, 0.25));
    assert!(router.acquire_preview(b"").is_none(), "it has no token");
    let new = router.begin_session(Generation(2)).map(Session::new);
    let side = |session| router.acquire_side(session).map(|it| it.generation.0);
    for _ in 0..100 {
        assert_eq!((side(old), side(new)), (Some(1), Some(2)));
    }
    let dealt = |count: usize| (0..count).filter(|_| side(None) == Some(2)).count();
    assert!((150..350).contains(&dealt(1000)));
    // The session of a release that has gone is none.
    let gone = Some(Session::new(SessionToken::random()));
    assert!((0..1000).any(|_| side(gone) == Some(2)));
    router.set_share(Generation(2), 1.0);
    assert_eq!((dealt(10), side(old)), (10, Some(1)));
    router.pause();
    assert_eq!((side(None), side(old), side(new)), (None, None, None));
    router.resume();
    let canary = router.acquire_side(new).expect("the canary");
    router.promote(canary);
    assert_eq!((dealt(10), side(old), side(new)), (0, Some(1), None));
    assert_eq!(router.acquire().map(|it| it.generation.0), Some(2));
}
