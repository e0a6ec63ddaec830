use std::net::SocketAddr;

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

#[test]
fn a_tester_reaches_the_canary_while_there_is_one_and_is_counted_apart() {
    let router = Router::new(HoldLimits {
        first_timeout: Duration::ZERO,
        timeout: Duration::ZERO,
        max: 0,
    });
    let counts: [Arc<ResponseCounts>; 2] = Default::default();
    let counted = |generation: u64| {
        let token = Some(SessionToken::random());
        Upstream::with_counts(
            Generation(generation),
            SocketAddr::from(([127, 0, 0, 1], 1)),
            AppProtocol::default(),
            None,
            Some(Arc::clone(&counts[generation as usize - 1])),
            Arc::default(),
            token,
        )
    };
    let reached = || router.acquire_canary().map(|it| it.generation.0);
    router.promote(counted(1).0);
    assert_eq!(reached(), None);
    let (canary, mut drain) = counted(2);
    let preview = Preview::new(canary, Some("secret"), 0.0);
    let testers = preview.testers();
    router.stage(preview);
    assert_eq!(reached(), None, "a stage without a share is no canary");
    router.set_share(Generation(2), 0.01);
    let asked = router.acquire_canary().expect("the canary");
    asked.count_response(ResponseOutcome::AppFault);
    let with_token = router.acquire_preview(b"secret").expect("the canary");
    with_token.count_response(ResponseOutcome::NoFault);
    assert_eq!(testers.read(), (2, 1));
    asked.unanswered().count();
    let canary = drain.upstream().upgrade().expect("it is staged");
    canary.count_response(ResponseOutcome::NoFault);
    assert_eq!((counts[1].read(), counts[0].read()), ((1, 0), (0, 0)));
    assert_eq!(canary.unanswered().recent(), 1);
    assert!(canary.has_sessions(), "the tester gets the cookie");
    let session = router.begin_session(Generation(2)).map(Session::new);
    assert!(asked.resume_session(session.expect("a token")));
    drop((canary, with_token));

    router.pause();
    assert_eq!(reached(), None);
    router.resume();
    router.unstage(Generation(2));
    assert_eq!(reached(), None, "it has been aborted");
    assert_eq!(drain.released.try_recv(), Err(TryRecvError::Empty));
    let tunnel = asked.mark_tunnel();
    assert_eq!(drain.upstream().upgrade().expect("in flight").tunnels(), 1);
    drop((tunnel, asked));
    assert_eq!(drain.released.try_recv(), Err(TryRecvError::Closed));

    let (canary, _drain) = counted(2);
    router.stage(Preview::new(Arc::clone(&canary), None, 1.0));
    assert_eq!(reached(), Some(2));
    router.promote(canary);
    assert_eq!(reached(), None, "it serves everybody");
}
