//! Hours of the mirror and of the deploy, which pass at once: stores that fail, and the requests of a
//! machine at rest.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser as _;
use handoff::commands::ExitStatus;
use handoff::deployment::rollout::Rollout;

use crate::channel::{CHANNEL, Channel, FleetRelease, MEMBERS, Member, MemberState};
use crate::cli::{Cli, FleetCommand, Pace};
use crate::store::Store;
use crate::store::tests::{Flaw, Flawed, forbidden, not_found, unavailable};
use crate::{artifact, clock, driver, mirror};

const TEN_MINUTES: Duration = Duration::from_mins(10);
/// Everything that a store may do but to answer rightly.
const FAILURES: [Flaw; 6] = [
    Flaw::Hangs,
    Flaw::Fails(unavailable),
    Flaw::Fails(forbidden),
    Flaw::Fails(not_found),
    Flaw::Answers("{}"),
    Flaw::Answers("{"),
];

/// Waits while somebody else lets the time pass.
async fn until(mut is_so: impl FnMut() -> bool) {
    let begun = clock::now();
    while !is_so() {
        assert!(clock::now() - begun < 60 * TEN_MINUTES, "it never is so");
        tokio::task::yield_now().await;
    }
}

async fn pass(time: Duration) {
    let end = clock::now() + time;
    until(|| clock::now() >= end).await;
}

async fn upload(store: &Store, name: &str) -> FleetRelease {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, name).unwrap();
    artifact::upload(store, &path).await.unwrap()
}

/// Changes the channel.
async fn change(store: &Store, next: impl Fn(&Channel) -> Channel) -> Channel {
    let changed = driver::change(store, |now| Ok(now.map(&next))).await;
    changed.unwrap().unwrap()
}

/// Deploys the first release, with no machine there.
async fn begin(store: &Store) -> Channel {
    let channel = Channel::deploying(None, upload(store, "one").await, None);
    store.swap(CHANNEL, &channel, None).await.unwrap();
    channel
}

/// Announces a release that no machine may run yet.
async fn announce(store: &Store) -> Channel {
    let two = upload(store, "two").await;
    let deploying =
        |now: &Channel| Channel::deploying(Some(now), two.clone(), Some(Rollout::default()));
    change(store, deploying).await
}

/// Runs a mirror until `script` ends, which gets its pointer file.
async fn with_mirror<S: Future<Output = ()>>(store: &Store, script: impl FnOnce(PathBuf) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let pointer = folder.path().join("pointer.txt");
    let args = ["handoff-fleet", "mirror", "s3://x/y", "--pointer"];
    let cli = Cli::parse_from(args.iter().map(AsRef::as_ref).chain([pointer.as_os_str()]));
    let FleetCommand::Mirror(options) = cli.command else {
        unreachable!("it is `mirror`");
    };
    tokio::select! {
        ended = mirror::run(store.clone(), &options) => panic!("{ended:?}"),
        () = script(pointer) => {}
    }
}

fn names(pointer: &PathBuf, release: &FleetRelease) -> bool {
    fs::read_to_string(pointer).is_ok_and(|content| content.contains(&release.sha256))
}

#[tokio::test]
async fn ten_minutes_at_rest_cost_a_machine_few_requests() {
    let store = Flawed::default().store();
    let one = begin(&store).await.order.release;
    with_mirror(&store, async |pointer| {
        until(|| names(&pointer, &one)).await;
        let before = store.sent();
        pass(TEN_MINUTES).await;
        let sent = store.sent().since(before);
        assert!((30..=44).contains(&sent.reads), "{sent}");
        assert!(sent.writes <= 4, "{sent}");
    })
    .await;
}

#[tokio::test]
async fn ten_minutes_of_each_failure_change_nothing_on_a_machine() {
    let flawed = Flawed::default();
    let store = flawed.store();
    let one = begin(&store).await.order.release;
    with_mirror(&store, async |pointer| {
        until(|| names(&pointer, &one)).await;
        let two = announce(&store).await.order.release;
        pass(TEN_MINUTES).await;
        let written = fs::metadata(&pointer).unwrap().modified().unwrap();
        for failure in FAILURES {
            let before = store.sent();
            *flawed.flaw.lock().unwrap() = Some(failure);
            pass(TEN_MINUTES).await;
            *flawed.flaw.lock().unwrap() = None;
            let sent = store.sent().since(before);
            assert!(sent.reads + sent.writes <= 100, "{failure:?}: {sent}");
            pass(TEN_MINUTES).await;
        }
        assert_eq!(fs::metadata(&pointer).unwrap().modified().unwrap(), written);
        change(&store, |now| now.with_rollout(None)).await;
        until(|| names(&pointer, &two)).await;
    })
    .await;
}

/// Writes what a machine says of itself.
async fn say(store: &Store, id: &str, serial: u64, state: MemberState) {
    let path = format!("{MEMBERS}/{id}.json");
    let known = store.read::<Member>(&path).await.unwrap();
    let member = Member::new(id, serial, state);
    let known = known.map(|(_, version)| version);
    store.swap(&path, &member, known.as_ref()).await.unwrap();
}

#[tokio::test]
async fn ten_minutes_of_each_failure_halt_no_roll_out() {
    let flawed = Flawed::default();
    let store = flawed.store();
    let since = begin(&store).await.since;
    for id in ["a", "b"] {
        say(&store, id, since, MemberState::Runs).await;
    }
    let channel = announce(&store).await;
    let since = channel.since;
    let pace = Pace {
        timeout: 60 * TEN_MINUTES,
        poll: Duration::from_secs(2),
    };
    let script = async {
        for nth in 1..=2 {
            let mut named = Vec::new();
            while named.len() < nth {
                pass(pace.poll).await;
                let (now, _) = store.read::<Channel>(CHANNEL).await.unwrap().unwrap();
                named = now.rollout.unwrap().may.into_iter().collect();
            }
            let id = &named[nth - 1];
            for failure in FAILURES {
                say(&store, id, since, MemberState::Going(None)).await;
                pass(2 * pace.poll).await;
                *flawed.flaw.lock().unwrap() = Some(failure);
                pass(TEN_MINUTES).await;
                *flawed.flaw.lock().unwrap() = None;
            }
            say(&store, id, since, MemberState::Runs).await;
            pass(10 * pace.poll).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = driver::drive(&store, channel, &pace) => ended.unwrap(),
        () = script => unreachable!("it waits"),
    };
    assert_eq!(ended, ExitStatus::Done);
    let (now, _) = store.read::<Channel>(CHANNEL).await.unwrap().unwrap();
    assert_eq!((now.back, now.rollout), (None, None));
    // Announced, one machine, the other, complete.
    assert_eq!(now.serial, since + 3);
}
