use super::*;
use crate::deployment::status::{Outcome, UnixMillis};
use crate::release::{Generation, ReleaseId};

pub(super) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        Self { folder }
    }

    pub(super) fn memory(&self, sidecar: &str) -> Memory {
        let (cache, state) = (self.folder.path(), self.folder.path().join("state"));
        Memory::open(cache, &state, "command", sidecar.into()).unwrap()
    }
}

pub(super) fn release(name: &str) -> Release {
    Release {
        id: ReleaseId::new(name),
        digest: Digest::finish(Sha256::new_with_prefix(name)),
        shape: String::new(),
        artifact: "/copies".into(),
        dir: "/site".into(),
    }
}

pub(super) fn handoff(release: &Release, generation: u64, promoted: Option<u64>) -> Handoff {
    let mut handoff = Handoff::new(release, Generation(generation));
    handoff.promoted_ms = promoted.map(UnixMillis);
    handoff.outcome = match promoted {
        Some(_) => Outcome::Promoted,
        None => Outcome::Failed,
    };
    handoff
}

fn refusal(release: &Release) -> Refusal {
    Refusal {
        release: release.id.clone(),
        digest: release.digest.to_string(),
        shape: String::new(),
        at_ms: UnixMillis(1),
        reason: "exited with exit status: 3".to_owned(),
        error: None,
        exit: Some("exit status: 3".to_owned()),
        output: vec!["help".to_owned()],
        probe: None,
    }
}

fn good(memory: &Memory) -> Vec<String> {
    let good = memory.good_releases().into_iter();
    good.map(|release| release.id.to_string()).collect()
}

#[test]
fn what_served_last_comes_last_and_what_was_refused_does_not_come() {
    let site = Site::new();
    let mut memory = site.memory("one");
    assert!(memory.is_empty());
    for (generation, name) in [(1, "v1"), (2, "v2"), (3, "v3"), (4, "v1")] {
        let release = release(name);
        let handoff = handoff(&release, generation, Some(generation));
        memory.record_promotion(&release, handoff);
    }
    memory.refuse(refusal(&release("v3")));
    let bad = release("bad");
    memory.record_launch(&bad, handoff(&bad, 5, None));

    let memory = site.memory("two");
    assert_eq!(good(&memory), ["v2", "v1"]);
    let former = memory.former_releases();
    assert_eq!(former.len(), 1, "not the one that never served");
    assert_eq!(former[0].id, release("v3").id);
    let refused = memory.refusal(release("v3").digest).unwrap();
    assert_eq!(refused.reason, "exited with exit status: 3");
    assert_eq!(memory.refusal(release("v1").digest), None);
    assert!(!memory.is_empty());
}

#[test]
fn who_asks_for_it_or_serves_after_all_is_forgiven() {
    let site = Site::new();
    let mut memory = site.memory("one");
    for name in ["v1", "v2"] {
        memory.refuse(refusal(&release(name)));
    }
    memory.forgive(release("v1").digest);
    assert_eq!(memory.refusal(release("v1").digest), None);
    let v2 = release("v2");
    memory.record_promotion(&v2, handoff(&v2, 1, Some(1)));
    assert_eq!(site.memory("two").refusals(), []);
}

#[test]
fn siblings_add_to_what_is_there() {
    let site = Site::new();
    let (mut one, mut two) = (site.memory("one"), site.memory("two"));
    let (v1, v2) = (release("v1"), release("v2"));
    one.record_launch(&v1, handoff(&v1, 1, Some(1)));
    two.record_launch(&v2, handoff(&v2, 1, Some(2)));
    one.refuse(refusal(&release("bad")));
    two.refresh();
    assert_eq!(good(&two), ["v1", "v2"]);
    assert!(two.refusal(release("bad").digest).is_some());
}

#[test]
fn a_launch_is_remembered_once_as_it_was_last() {
    let site = Site::new();
    let mut memory = site.memory("one");
    let v1 = release("v1");
    memory.record_launch(&v1, handoff(&v1, 1, None));
    memory.record_launch(&v1, handoff(&v1, 1, Some(1)));
    assert_eq!(memory.records.launches.len(), 1);
    assert_eq!(good(&memory), ["v1"]);
}

#[test]
fn the_good_ones_outlast_any_number_of_failures() {
    let site = Site::new();
    let mut memory = site.memory("one");
    let v1 = release("v1");
    memory.record_launch(&v1, handoff(&v1, 1, Some(1)));
    let bad = release("bad");
    for generation in 2..HISTORY as u64 + 10 {
        let change = Change::Launch(Box::new(Launch {
            sidecar: "one".into(),
            artifact: "/copies".into(),
            dir: "/site".into(),
            handoff: handoff(&bad, generation, None),
        }));
        memory.records.apply(change);
    }
    assert_eq!(memory.records.launches.len(), HISTORY);
    assert_eq!(good(&memory), ["v1"]);
}

#[test]
fn a_file_cut_at_any_byte_gives_the_records_before_the_cut() {
    let site = Site::new();
    let mut memory = site.memory("one");
    for (generation, name) in [(1, "v1"), (2, "v2"), (3, "v3")] {
        let release = release(name);
        let handoff = handoff(&release, generation, Some(generation));
        memory.record_promotion(&release, handoff);
    }
    memory.refuse(refusal(&release("bad")));
    let whole = fs::read(&memory.file).unwrap();
    let mut counts = Vec::new();
    for cut in 0..=whole.len() {
        let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        let records = Records::parse(&whole[..cut]);
        let count = records.launches.len() + records.refusals.len();
        // The last line may be complete except for its end.
        assert!((lines..=lines + 1).contains(&count), "cut at {cut}");
        counts.push(count);

        // Writing continues from there.
        fs::write(&memory.file, &whole[..cut]).unwrap();
        if cut % 97 == 0 {
            let mut next = site.memory("two");
            next.refuse(refusal(&release("worse")));
            let again = site.memory("three");
            assert!(again.refusal(release("worse").digest).is_some());
        }
    }
    assert_eq!(counts.last(), Some(&4));
    // No byte that is wrong makes a wrong record.
    for place in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x20;
        let records = Records::parse(&damaged);
        let count = records.launches.len() + records.refusals.len();
        assert!(count < 4, "the damage at {place} went unseen");
    }
}

#[test]
fn another_path_to_the_same_folder_is_the_same_deployment() {
    let site = Site::new();
    let mut memory = site.memory("one");
    memory.refuse(refusal(&release("bad")));
    let roundabout = site.folder.path().join("state").join("..").join("state");
    let memory = Memory::open(site.folder.path(), &roundabout, "command", "two".into()).unwrap();
    assert!(memory.refusal(release("bad").digest).is_some());
}

#[test]
fn a_launch_of_which_nothing_came_is_known_to_whoever_comes_after() {
    let site = Site::new();
    let v1 = release("v1");
    let mut first = site.memory("first");
    let mut starting = handoff(&v1, 1, None);
    starting.outcome = Outcome::Starting;
    first.record_launch(&v1, starting);
    assert!(!first.is_unproven(v1.digest), "it is still at it");
    assert!(site.memory("second").is_unproven(v1.digest));
    first.record_promotion(&v1, handoff(&v1, 1, Some(7)));
    assert!(!site.memory("second").is_unproven(v1.digest));
}

#[test]
fn another_command_begins_anew_and_the_first_one_takes_the_memory_of_an_earlier_version() {
    let site = Site::new();
    let (cache, state) = (site.folder.path(), site.folder.path().join("state"));
    let v1 = release("v1");
    site.memory("one")
        .record_promotion(&v1, handoff(&v1, 1, Some(1)));
    let open = |command| Memory::open(cache, &state, command, "two".into()).unwrap();
    assert!(open("other").is_empty());
    assert!(!open("command").is_empty());

    let written = open("command").file;
    fs::rename(written, former_file(&cache.join("memory"), &state)).unwrap();
    assert!(!open("new").is_empty());
    assert!(open("command").is_empty());
}

#[test]
fn an_app_takes_its_own_launches_and_refusals_out_of_a_memory_that_others_shared() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let [shop, blog] = ["shop", "blog"].map(|name| {
        let path = folder.path().join("www").join(name);
        let source = crate::deployment::Source::Artifact(path.clone());
        (source, release_of(&path))
    });
    let former = FormerState::of(&shop.0).unwrap();
    fs::create_dir_all(former.folder.join("sidecars")).unwrap();
    let mut shared = Memory::open(&cache, &former.folder, "old", "one".into()).unwrap();
    for (generation, (_, release)) in [(1, &shop), (2, &blog)] {
        shared.record_promotion(release, handoff(release, generation, Some(generation)));
    }
    fs::rename(
        &shared.file,
        former_file(&cache.join("memory"), &former.folder),
    )
    .unwrap();

    for (source, release) in [&shop, &blog] {
        let (former, state) = (FormerState::of(source).unwrap(), source.default_state());
        assert!(Memory::take_over(&former, &cache, &state, "command").unwrap());
        assert!(!Memory::take_over(&former, &cache, &state, "command").unwrap());
        let memory = Memory::open(&cache, &state, "command", "two".into()).unwrap();
        assert_eq!(good(&memory), [release.id.to_string()]);
    }
}

fn release_of(path: &Path) -> Release {
    let digest = release("content").digest;
    Release {
        id: crate::deployment::names::release_id(None, path, digest),
        digest,
        ..release("content")
    }
}
