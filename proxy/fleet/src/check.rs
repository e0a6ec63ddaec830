//! `check`: tries what a deployer or a machine needs of the store, and what a machine must not be able to do.

use std::time::{Duration, SystemTime};

use handoff::cli::output::print_line;
use handoff::commands::ExitStatus;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::channel::{ARTIFACTS, CHANNEL, Channel, MEMBERS};
use crate::store::{Store, StoreError, Version};

/// Writers in the race, and writes of each.
const WRITERS: usize = 16;
const WRITES: usize = 5;
/// Difference from the store's clock at which stores begin to refuse signed requests.
const MAX_SKEW: Duration = Duration::from_mins(5);

/// The rights that were tried, and how each ended.
type Tried = Vec<(&'static str, Result<(), String>)>;

/// Runs the command, for a machine or for those who deploy.
///
/// # Errors
/// None: what fails is printed.
pub async fn run(store: &Store, is_machine: bool) -> Result<ExitStatus, StoreError> {
    let tried = if is_machine {
        as_machine(store).await
    } else {
        as_deployer(store).await
    };
    for (what, result) in &tried {
        match result {
            Ok(()) => print_line(format_args!("ok      {what}")),
            Err(reason) => print_line(format_args!("FAILED  {what}: {reason}")),
        }
    }
    Ok(if tried.iter().all(|(_, result)| result.is_ok()) {
        ExitStatus::Done
    } else {
        ExitStatus::Refused
    })
}

async fn as_deployer(store: &Store) -> Tried {
    let path = format!("check-{:016x}", fastrand::u64(..));
    let read = store.read::<Value>(CHANNEL).await;
    let listed = store.list(MEMBERS).await;
    let first = store.swap(&path, &nonce(), None).await;
    let mut tried = vec![
        ("reads objects (s3:GetObject)", plain(&read)),
        ("lists objects (s3:ListBucket)", plain(&listed)),
        ("writes objects (s3:PutObject)", plain(&first)),
    ];
    if let Ok(first) = first {
        let skew = skew(store, &path).await;
        tried.push(("agrees with this machine about the time", skew));
        let conditions = conditions(store, &path, &first).await;
        tried.push(("keeps the conditions of a write", conditions));
        tried.push(("loses no write of many at once", race(store, &path).await));
        let deleted = store.delete(&path).await;
        tried.push(("deletes objects (s3:DeleteObject)", plain(&deleted)));
    }
    tried
}

async fn as_machine(store: &Store) -> Tried {
    let channel = store.read::<Channel>(CHANNEL).await;
    let mut tried = vec![("reads channel.json", plain(&channel))];
    if let Ok(Some((channel, _))) = &channel {
        let path = channel.order.release.path();
        let part = store.fetch(&path, 1, |_| Ok(())).await;
        tried.push(("reads artifacts", plain(&part)));
        let may = store.may_write(CHANNEL, channel).await;
        tried.push(("cannot deploy: channel.json", forbidden(&may)));
    }
    let path = format!("{ARTIFACTS}/check");
    let may = store.may_write(&path, &nonce()).await;
    tried.push(("cannot deploy: artifacts", forbidden(&may)));
    let path = format!("{MEMBERS}/check.json");
    tried.push(match store.read::<Value>(&path).await {
        // Without the right to list, S3 says so of what is missing.
        Err(error) if error.is_forbidden() => (
            "reads members: cannot be told without s3:ListBucket",
            Ok(()),
        ),
        read => ("reads members", plain(&read)),
    });
    let may = match store.may_write(&path, &nonce()).await {
        Ok(false) => Err("it is forbidden".to_owned()),
        may => plain(&may),
    };
    tried.push(("writes members", may));
    tried
}

async fn skew(store: &Store, path: &str) -> Result<(), String> {
    let theirs = store
        .modified(path)
        .await
        .map_err(|error| error.to_string())?;
    let ours = SystemTime::now();
    let skew = ours.duration_since(theirs);
    let skew = skew.unwrap_or_else(|ahead| ahead.duration());
    if skew < MAX_SKEW {
        return Ok(());
    }
    Err(format!("its clock differs by {} s", skew.as_secs()))
}

async fn conditions(store: &Store, path: &str, first: &Version) -> Result<(), String> {
    let ignored = |what: &str| Err(format!("the store ignores it: {what}"));
    let unchanged = store.read_unless::<Value>(path, Some(first)).await;
    if unchanged.map_err(|error| error.to_string())?.is_some() {
        return ignored("what has not changed is sent again");
    }
    match store.swap(path, &nonce(), None).await {
        Err(StoreError::Lost) => {}
        Ok(_) => return ignored("an object is created twice"),
        Err(error) => return Err(error.to_string()),
    }
    let second = store.swap(path, &nonce(), Some(first)).await;
    second.map_err(|error| error.to_string())?;
    match store.swap(path, &nonce(), Some(first)).await {
        Err(StoreError::Lost) => Ok(()),
        Ok(_) => ignored("a newer object is replaced"),
        Err(error) => Err(error.to_string()),
    }
}

/// Adds to one number by many writers at once, and returns an error unless each addition counts.
async fn race(store: &Store, path: &str) -> Result<(), String> {
    let (_, version) = match store.read::<Value>(path).await {
        Ok(Some(now)) => now,
        Ok(None) => return Err("what was written is not there".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let begun = store
        .swap(path, &(0, fastrand::u64(..)), Some(&version))
        .await;
    begun.map_err(|error| error.to_string())?;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (store, path) = (store.clone(), path.to_owned());
        writers.spawn(async move {
            let mut written = 0;
            while written < WRITES {
                let now = store.read::<(usize, u64)>(&path).await?;
                let ((count, _), known) = now.ok_or(StoreError::Lost)?;
                let next = (count + 1, fastrand::u64(..));
                match store.swap(&path, &next, Some(&known)).await {
                    Ok(_) => written += 1,
                    Err(StoreError::Lost) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
    }
    for ended in writers.join_all().await {
        ended.map_err(|error| error.to_string())?;
    }
    let now = store.read::<(usize, u64)>(path).await;
    let count = now.map_err(|error| error.to_string())?;
    let count = count.map_or(0, |((count, _), _)| count);
    let expected = WRITERS * WRITES;
    if count == expected {
        return Ok(());
    }
    Err(format!(
        "{count} of {expected} are there: two deploys at once could both succeed"
    ))
}

fn nonce() -> Value {
    fastrand::u64(..).into()
}

fn plain<T>(result: &Result<T, StoreError>) -> Result<(), String> {
    result.as_ref().map(drop).map_err(ToString::to_string)
}

fn forbidden(may: &Result<bool, StoreError>) -> Result<(), String> {
    match may {
        Ok(false) => Ok(()),
        Ok(true) => Err("it may: whoever runs code here can run it on all machines".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::FleetRelease;
    use crate::store::tests::{Flaw, flawed, in_memory};

    fn failed(tried: &Tried) -> Vec<&str> {
        let failed = tried.iter().filter(|(_, result)| result.is_err());
        failed.map(|(what, _)| *what).collect()
    }

    #[tokio::test]
    async fn a_good_store_passes_and_nothing_is_left() {
        let store = in_memory();
        let tried = as_deployer(&store).await;
        assert!(failed(&tried).is_empty(), "{tried:?}");
        assert_eq!(tried.len(), 7);
        assert!(store.list("").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn each_flaw_is_named() {
        for (flaw, named) in [
            (Flaw::IgnoresConditions, "keeps the conditions"),
            (Flaw::ChecksThenWrites, "loses no write"),
            (Flaw::ForbidsToList, "s3:ListBucket"),
            (Flaw::ForbidsToWrite, "s3:PutObject"),
            (Flaw::ForbidsToDelete, "s3:DeleteObject"),
        ] {
            let tried = as_deployer(&flawed(flaw)).await;
            let failed = failed(&tried);
            let is_named = failed.iter().any(|what| what.contains(named));
            assert!(is_named, "{flaw:?}: {tried:?}");
        }
    }

    #[tokio::test]
    async fn a_machine_that_could_deploy_is_reported_and_changes_nothing() {
        let release = FleetRelease {
            name: "app".to_owned(),
            sha256: "ab".repeat(32),
            size: 2,
        };
        let store = in_memory();
        store
            .send(&release.path(), 2, &mut &b"ab"[..])
            .await
            .unwrap();
        let channel = Channel::deploying(None, release, None);
        store.swap(CHANNEL, &channel, None).await.unwrap();
        let tried = as_machine(&store).await;
        let both = ["cannot deploy: channel.json", "cannot deploy: artifacts"];
        assert_eq!(failed(&tried), both);
        let (now, _) = store.read::<Channel>(CHANNEL).await.unwrap().unwrap();
        assert_eq!(now, channel);
        assert!(store.list(MEMBERS).await.unwrap().is_empty());
    }
}
