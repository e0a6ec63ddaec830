//! The schedule against a scripted strategy; time is paused.

use std::io;
use std::net::SocketAddr;

use super::*;

/// The result of a deploy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Seen at once; the previous release stops after three seconds.
    Serves,
    /// Seen at once; the previous release never stops.
    Lingers,
    Refused,
    Ignored,
    Breaks,
}

struct Scripted {
    fates: Vec<Fate>,
    deploys: Vec<(u32, Instant)>,
    see: watch::Sender<u32>,
}

impl Strategy for Scripted {
    fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    async fn deploy(&mut self, release: &Release, _swap: &mut Swap) -> Result<(), StrategyError> {
        let fate = self.fates[self.deploys.len()];
        self.deploys.push((release.number, Instant::now()));
        match fate {
            Fate::Serves | Fate::Lingers => {
                self.see.send_replace(release.number);
            }
            Fate::Refused | Fate::Ignored => {}
            Fate::Breaks => {
                let source = io::Error::other("disk full");
                return Err(StrategyError::Deploy {
                    release: release.name(),
                    source,
                });
            }
        }
        Ok(())
    }

    fn observe(&mut self, swaps: &mut [Swap]) -> Result<(), StrategyError> {
        for swap in swaps {
            // Releases are numbered from 2.
            let number = swap.number as usize - 2;
            let (fate, at) = (&self.fates[number], self.deploys[number].1);
            match fate {
                Fate::Refused => swap.refused = Some("it exited".to_owned()),
                Fate::Serves | Fate::Lingers => {
                    swap.phases.promoted_ms = Some(1);
                    let stopped = *fate == Fate::Serves && at.elapsed() >= Duration::from_secs(3);
                    swap.phases.stopped_ms = stopped.then_some(3000);
                }
                Fate::Ignored | Fate::Breaks => {}
            }
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), StrategyError> {
        Ok(())
    }
}

/// The deploys with their times in milliseconds, the swaps, the result and its time.
type Run = (
    Vec<(u32, u128)>,
    Vec<Swap>,
    Result<(), StrategyError>,
    Duration,
);

async fn play(fates: &[Fate]) -> Run {
    play_that(fates, None, true).await
}

async fn play_that(fates: &[Fate], at_most: Option<Duration>, names_releases: bool) -> Run {
    let releases: Vec<Release> = (2..)
        .take(fates.len())
        .map(|number| Release {
            number,
            file: "f".into(),
            sha256: number.to_string(),
        })
        .collect();
    let (see, seen) = watch::channel(1);
    let mut strategy = Scripted {
        fates: fates.to_vec(),
        deploys: Vec::new(),
        see,
    };
    let deployed = AtomicU32::new(1);
    let every = Duration::from_secs(2);
    let mut schedule = Schedule {
        releases: &releases,
        controls: &[],
        pace: Pace::AfterSeen { every, at_most },
        names_releases,
        deployed: &deployed,
        seen,
    };
    let mut played = Played::default();
    let start = Instant::now();
    let result = schedule.play(&mut strategy, &mut played).await;
    assert_eq!(
        deployed.load(Ordering::Relaxed) as usize,
        1 + strategy.deploys.len()
    );
    let deploys = strategy
        .deploys
        .iter()
        .map(|(number, at)| (*number, (*at - start).as_millis()))
        .collect();
    (deploys, played.swaps, result, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn releases_follow_one_another_after_clients_saw_them() {
    let (deploys, swaps, result, took) = play(&[Fate::Serves; 3]).await;
    assert!(result.is_ok());
    assert_eq!(deploys, [(2, 2000), (3, 4000), (4, 6000)]);
    assert!(
        swaps
            .iter()
            .all(|swap| swap.phases.stopped_ms == Some(3000))
    );
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_release_ends_the_schedule() {
    let (deploys, swaps, result, _) = play(&[Fate::Serves, Fate::Refused, Fate::Serves]).await;
    assert!(result.is_ok());
    assert_eq!(deploys.len(), 2);
    assert_eq!(swaps[1].refused.as_deref(), Some("it exited"));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_clients_never_see_ends_the_schedule() {
    let (deploys, swaps, result, took) = play(&[Fate::Ignored, Fate::Serves]).await;
    assert!(result.is_ok());
    assert_eq!((deploys.len(), swaps.len()), (1, 1));
    assert!(took >= SEEN_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn an_old_release_that_never_stops_is_not_awaited_for_ever() {
    let (_, swaps, result, took) = play(&[Fate::Lingers]).await;
    assert!(result.is_ok());
    assert!(!swaps[0].is_over());
    assert!(took >= STOPPED_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_breaks_is_an_error_and_is_reported_as_a_swap() {
    let (_, swaps, result, _) = play(&[Fate::Breaks]).await;
    assert_eq!(result.unwrap_err().to_string(), "deploy v2: disk full");
    assert_eq!(swaps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_swaps_load_is_offered_once_as_long_as_between_two() {
    let (_, swaps, result, took) = play(&[]).await;
    assert!(result.is_ok() && swaps.is_empty());
    assert_eq!(took, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn what_names_no_release_is_deployed_without_being_seen() {
    let (deploys, _, result, _) = play_that(&[Fate::Ignored; 2], None, false).await;
    assert!(result.is_ok());
    assert_eq!(deploys, [(2, 2000), (3, 4000)]);
}

#[tokio::test(start_paused = true)]
async fn load_ends_when_its_time_is_over_and_nothing_is_deployed_that_late() {
    for (seconds, deploys) in [(5, 2), (6, 2), (7, 3), (1, 0)] {
        let time = Duration::from_secs(seconds);
        let played = play_that(&[Fate::Serves; 9], Some(time), true).await;
        assert_eq!(played.0.len(), deploys, "{seconds} s");
        // The previous release stops after three seconds.
        let last = deploys as u64 * 2 + 3;
        let least = if deploys == 0 {
            time
        } else {
            time.max(Duration::from_secs(last))
        };
        assert!(
            (least..least + OBSERVE * 4).contains(&played.3),
            "{:?}",
            played.3
        );
    }
}
