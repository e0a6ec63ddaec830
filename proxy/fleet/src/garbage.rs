//! Garbage in the store: old artifacts, and the objects of machines that are gone.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use crate::channel::{ARTIFACTS, CHANNEL, Channel, MEMBERS};
use crate::store::{Listed, Store, StoreError};

/// Age from which something can be garbage: whoever uses it has done so by then.
const DAY: Duration = Duration::from_hours(24);

/// Removes the artifacts that are older than a day, but for the `keep` newest and those that the
/// channel names, and the objects of machines that have been silent for a day. Returns the number of
/// each.
///
/// # Errors
/// [`StoreError`] when the store does not permit it, or does not answer.
pub async fn collect(store: &Store, keep: usize) -> Result<(usize, usize), StoreError> {
    let artifacts = store.list(ARTIFACTS).await?;
    let members = store.list(MEMBERS).await?;
    // Read after the list: what was deployed meanwhile is named in it.
    let Some((channel, _)) = store.read::<Channel>(CHANNEL).await? else {
        return Ok((0, 0));
    };
    let all = artifacts.iter().chain(&members);
    let Some(now) = all.map(|one| one.modified).max() else {
        return Ok((0, 0));
    };
    let old = old_artifacts(&channel, artifacts, now, keep);
    let gone: Vec<_> = members.into_iter().filter(|one| is_old(one, now)).collect();
    for one in old.iter().chain(&gone) {
        store.delete(&one.path).await?;
    }
    Ok((old.len(), gone.len()))
}

fn old_artifacts(
    channel: &Channel,
    mut artifacts: Vec<Listed>,
    now: SystemTime,
    keep: usize,
) -> Vec<Listed> {
    let order = &channel.order;
    let named = std::iter::once(&order.release).chain(&order.before);
    let named: Vec<_> = named.map(|release| release.path()).collect();
    artifacts.sort_by_key(|one| Reverse(one.modified));
    let rest = artifacts.into_iter().skip(keep);
    rest.filter(|one| is_old(one, now) && !named.contains(&one.path))
        .collect()
}

fn is_old(one: &Listed, now: SystemTime) -> bool {
    one.modified + DAY < now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::tests::release;
    use crate::store::tests::in_memory;

    #[test]
    fn the_newest_the_young_and_what_may_run_are_kept() {
        let one = Channel::deploying(None, release("one"), None);
        let channel = Channel::deploying(Some(&one), release("two"), None);
        let of = |name: &str, days: u32| Listed {
            path: release(name).path(),
            modified: SystemTime::UNIX_EPOCH + days * DAY,
            tag: None,
        };
        let now = SystemTime::UNIX_EPOCH + 10 * DAY;
        let all = vec![
            of("one", 1),
            of("two", 2),
            of("a", 3),
            of("b", 4),
            of("c", 9),
        ];
        let old = |keep| {
            let old = old_artifacts(&channel, all.clone(), now, keep);
            old.into_iter().map(|one| one.path).collect::<Vec<_>>()
        };
        assert_eq!(old(0), [release("b").path(), release("a").path()]);
        assert_eq!(old(2), [release("a").path()]);
        assert!(old(5).is_empty());
    }

    #[tokio::test]
    async fn nothing_of_today_is_removed() {
        let store = in_memory();
        let channel = Channel::deploying(None, release("one"), None);
        store.swap(CHANNEL, &channel, None).await.unwrap();
        let path = release("other").path();
        store.send(&path, 2, &mut &b"ab"[..]).await.unwrap();
        assert_eq!(collect(&store, 0).await.unwrap(), (0, 0));
        store.delete(&path).await.unwrap();
        assert!(store.list(ARTIFACTS).await.unwrap().is_empty());
    }
}
