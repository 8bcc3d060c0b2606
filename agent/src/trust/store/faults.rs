//! The store on a disk that fails at any step, and in a machine that loses power after any step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Mutex;

use muster_protocol::trust::author::{self, TargetsSpec};
use muster_protocol::trust::{Revocation, RevocationAction, SecretKey};
use tempfile::TempDir;

use super::tests::{
    BUNDLE, device, files, files_by, fitness, indexed, later, now, offline, online, open, order, order_for,
    permits, root, root_by, take,
};
use super::*;

/// What happens at the step whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// That step fails (a full disk, a bad sector); all before and after it work.
    Fails,
    /// The power is gone: that step happens by half or not at all, and nothing after it. What was done before is there.
    DiesKept,
    /// As before, but what was not flushed yet is lost: contents that no flush followed, and names that no flush of
    /// the folder followed.
    DiesLost,
}

#[derive(Debug, Default)]
struct Progress {
    steps: u32,
    dead: bool,
    /// Written and not flushed.
    unflushed: Vec<PathBuf>,
    /// What had a name before, until the folder is flushed.
    renamed: Vec<(PathBuf, Option<Vec<u8>>)>,
}

#[derive(Debug)]
struct FaultyDisk {
    at: u32,
    fate: Fate,
    progress: Mutex<Progress>,
}

impl FaultyDisk {
    fn new(at: u32, fate: Fate) -> Arc<Self> {
        Arc::new(Self { at, fate, progress: Mutex::default() })
    }

    fn was_reached(&self) -> bool {
        self.progress.lock().unwrap().steps > self.at
    }

    /// Counts a step; `half` is what a dying machine still does of it.
    fn step(&self, half: impl FnOnce()) -> io::Result<()> {
        let mut progress = self.progress.lock().unwrap();
        if progress.dead {
            return Err(io::Error::other("no power"));
        }
        let turn = progress.steps == self.at;
        progress.steps += 1;
        if !turn {
            return Ok(());
        }
        if self.fate == Fate::Fails {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        progress.dead = true;
        half();
        if self.fate == Fate::DiesLost {
            // The newest name is lost first, as a journal is cut off at its end.
            for (path, before) in progress.renamed.drain(..).rev() {
                match before {
                    Some(bytes) => fs::write(path, bytes).unwrap(),
                    None => fs::remove_file(path).unwrap(),
                }
            }
            for path in progress.unflushed.drain(..) {
                if path.exists() {
                    fs::write(path, b"").unwrap();
                }
            }
        }
        Err(io::Error::other("the power went"))
    }
}

impl Disk for FaultyDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|| fs::write(path, &bytes[..bytes.len() / 2]).unwrap())?;
        self.progress.lock().unwrap().unflushed.push(path.to_owned());
        LocalDisk.write(path, bytes)
    }

    fn flush(&self, path: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.progress.lock().unwrap().unflushed.retain(|other| other != path);
        LocalDisk.flush(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.progress.lock().unwrap().renamed.push((to.to_owned(), fs::read(to).ok()));
        LocalDisk.rename(from, to)
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.progress.lock().unwrap().renamed.clear();
        LocalDisk.flush_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| ())?;
        LocalDisk.remove(path)
    }
}

fn second_online() -> SecretKey {
    SecretKey::from_seed([12; 32])
}

/// A box that trusts version 1 and follows order 10; the update brings a root with other online keys, version 2 of
/// everything under them, and order 20.
fn before(dir: &TempDir) {
    let mut store = open(dir);
    take(&mut store, &files(1)).unwrap();
    store.accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap();
}

fn update() -> Files {
    let mut update = files_by(2, &second_online());
    update.insert("2.root.json".to_owned(), root_by(2, &second_online(), &online()));
    update
}

fn run(store: &mut TrustStore) -> Result<(), String> {
    for (name, bytes) in update() {
        store.offer(&name, &bytes).map_err(|error| error.to_string())?;
    }
    store.refresh(now()).map_err(|error| error.to_string())?;
    let order = order(20, &online());
    store.accept_order(&order, &device(), &fitness(), now()).map(drop).map_err(|error| error.to_string())
}

/// All that a state may be: before, with the new root only, with the new catalogue, with the new order.
fn check_whole(store: &TrustStore, context: &str) {
    let versions = store.versions();
    let order = store.order().map(|order| order.version);
    let state = (versions.trusted.root, versions.trusted.targets, order);
    let whole = [(1, Some(1), Some(10)), (2, None, Some(10)), (2, Some(2), Some(10)), (2, Some(2), Some(20))];
    assert!(whole.contains(&state), "{context}: {state:?}");
    assert_eq!(versions.trusted.timestamp, versions.trusted.targets, "{context}");
    assert_eq!(versions.trusted.snapshot, versions.trusted.targets, "{context}");
    // The new root's other online keys let time go, until they tell it themselves.
    let told = versions.trusted.targets.is_some();
    assert!(!told || store.floor() >= now().minus(Duration::from_mins(1)), "{context}: time fell");
}

#[test]
fn after_a_power_cut_at_any_step_the_state_is_whole_and_the_update_is_finished() {
    for fate in [Fate::DiesKept, Fate::DiesLost] {
        let mut cuts = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            before(&dir);
            let disk = FaultyDisk::new(cuts, fate);
            let outcome =
                TrustStore::open_on(Arc::<FaultyDisk>::clone(&disk), dir.path(), &root(1, &online()))
                    .map_err(|error| error.to_string())
                    .and_then(|mut store| run(&mut store));
            if !disk.was_reached() {
                outcome.unwrap();
                break;
            }
            let context = format!("{fate:?} at step {cuts}");
            let mut store = open(&dir);
            check_whole(&store, &context);
            run(&mut store).unwrap_or_else(|error| panic!("{context}: {error}"));
            let again = open(&dir);
            assert_eq!(again.versions(), store.versions(), "{context}");
            assert_eq!(again.order().map(|order| order.version), Some(20), "{context}");
            assert_eq!(again.versions().trusted.targets, Some(2), "{context}");
            cuts += 1;
        }
        // Root, floor, three files, floor, order: each written, flushed, renamed, its folder flushed; two old ones removed.
        assert_eq!(cuts, 7 * 4 + 2, "every step was cut");
    }
}

#[test]
fn a_step_that_fails_is_a_failed_update_and_leaves_what_was() {
    let mut at = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        before(&dir);
        let disk = FaultyDisk::new(at, Fate::Fails);
        let mut store =
            TrustStore::open_on(Arc::<FaultyDisk>::clone(&disk), dir.path(), &root(1, &online())).unwrap();
        let outcome = run(&mut store);
        if !disk.was_reached() {
            outcome.unwrap();
            break;
        }
        let context = format!("step {at}: {outcome:?}");
        check_whole(&store, &context);
        let done = (store.versions().trusted.targets, store.order().map(|order| order.version));
        // Old files that cannot be removed are in nobody's way; all else is a failure.
        let complete = done == (Some(2), Some(20));
        assert_eq!(outcome.is_ok(), complete, "{context}");
        let at_rest = open(&dir);
        check_whole(&at_rest, &context);
        // Nothing counts in memory that is not at rest.
        assert!(at_rest.versions().trusted.root >= store.versions().trusted.root, "{context}");
        assert!(at_rest.versions().trusted.targets >= done.0.filter(|_| complete), "{context}");
        run(&mut store).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(open(&dir).versions(), store.versions(), "{context}");
        at += 1;
    }
    assert!(at >= 6 * 4, "only {at} steps were tried");
}

/// The box's clock, against what was signed at `now()`: what may be activated, and what is said. The order that is
/// followed, and so what runs, is the same in every row.
#[test]
fn the_clock_table() {
    let (day, year) = (Duration::from_hours(24), Duration::from_hours(24 * 365));
    let check = |machine: Timestamp, floor: Timestamp, activates: bool, says: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        before(&dir);
        let store = open(&dir);
        let clock = crate::clock::TrustClock::manual(machine);
        clock.raise(store.floor());
        clock.raise(floor);
        let context = format!("the clock says {machine}, the floor {floor}");
        assert_eq!(permits(&store, clock.now()).is_ok(), activates, "{context}");
        let notices = super::super::notices(store.trusted(), clock.machine(), clock.now());
        let codes: Vec<&str> = notices.iter().map(|notice| notice.code.as_str()).collect();
        assert_eq!(codes, says.into_iter().collect::<Vec<_>>(), "{context}: {notices:?}");
        assert_eq!(store.order().map(|order| order.version), Some(10), "{context}: what runs goes on");
        assert!(store.trusted().find_target(&BUNDLE.parse().unwrap()).is_some(), "{context}");
        // And an order of that day that wants something new is judged by the same time.
        let mut store = store;
        let accepted =
            store.accept_order(&order_for("another", 11, &online()), &device(), &fitness(), clock.now());
        assert_eq!(accepted.is_ok(), activates, "{context}: {accepted:?}");
    };
    let none = Timestamp::default();
    check(now(), none, true, None);
    check(now().minus(Duration::from_mins(5)), none, true, None);
    check(Timestamp::default(), none, true, Some("clock_suspect"));
    check(now().minus(day), none, true, Some("clock_suspect"));
    check(now().plus(day), none, true, None);
    check(now().plus(day * 3), none, true, Some("stale_metadata"));
    check(now().plus(day * 8), none, false, Some("stale_metadata"));
    check(now().plus(year * 20), none, false, Some("clock_suspect"));
    // The floor is ahead of a clock that is right: raised by a clock that was wrong.
    check(now(), now().plus(day * 3), true, Some("clock_suspect"));
    check(now(), now().plus(day * 8), false, Some("clock_suspect"));
}

#[test]
fn a_clock_that_is_vouched_for_raises_the_floor_within_what_signatures_allow() {
    let dir = tempfile::tempdir().unwrap();
    before(&dir);
    let mut store = open(&dir);
    let issued = now().minus(Duration::from_mins(1));
    let mut check = |at: Timestamp, floor: Timestamp| {
        store.witness(at).unwrap();
        assert_eq!(store.floor(), floor, "after {at}");
        assert_eq!(open(&dir).floor(), floor, "at rest, after {at}");
    };
    check(issued.minus(Duration::from_hours(48)), issued);
    check(issued.plus(Duration::from_mins(30)), issued);
    check(issued.plus(Duration::from_hours(5)), issued.plus(Duration::from_hours(5)));
    check(issued.plus(Duration::from_hours(2)), issued.plus(Duration::from_hours(5)));
    // A forged time of the network, twenty years ahead: a timestamp signed today is still good, and so is the next one.
    check(later(7300), issued.plus(Duration::from_hours(6 * 24)));
    assert_eq!(take(&mut store, &files(2)).unwrap().outcome, Outcome::Updated);
    assert!(permits(&store, now()).is_ok());
}

#[test]
fn an_order_that_was_removed_by_hand_is_welcome_again_and_no_older_one() {
    let dir = tempfile::tempdir().unwrap();
    before(&dir);
    fs::remove_file(dir.path().join("order.json")).unwrap();
    let mut store = open(&dir);
    let mut accept = |version| store.accept_order(&order(version, &online()), &device(), &fitness(), now());
    assert!(matches!(accept(8), Err(AcceptError::Refused(OrderRefusal::OlderVersion { .. }))));
    assert!(matches!(accept(9), Ok(Verdict::Unchanged)));
    assert!(matches!(accept(10), Ok(Verdict::Accepted(_))));
    assert_eq!(open(&dir).order().map(|order| order.version), Some(10));
}

#[test]
fn what_was_seen_and_withheld_is_a_floor_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    before(&dir);
    let mut store = open(&dir);
    store.offer("timestamp.json", &files(6)["timestamp.json"]).unwrap();
    assert!(matches!(store.refresh(now()).unwrap().outcome, Outcome::Incomplete { .. }));
    assert_eq!(store.versions().trusted.timestamp, Some(1));
    let mut store = open(&dir);
    assert!(permits(&store, now()).is_ok(), "the old state holds");
    assert!(matches!(take(&mut store, &files(5)), Err(RefreshError::Trust(TrustError::Rollback { .. }))));
    assert_eq!(take(&mut store, &files(6)).unwrap().outcome, Outcome::Updated);
    assert!(!dir.path().join("ahead.timestamp.json").exists(), "passed, and removed");
}

#[test]
fn a_revocation_outlives_the_keys_that_signed_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, &revoking(1)).unwrap();
    let path: BundlePath = BUNDLE.parse().unwrap();
    let revoked = |store: &TrustStore| store.trusted().revocations().contains_key(&path);
    assert!(revoked(&store));
    // A new root with other online keys comes, and the catalogue under it not yet.
    store.offer("2.root.json", &root_by(2, &second_online(), &online())).unwrap();
    store.refresh(now()).unwrap();
    assert_eq!(store.versions().trusted.targets, None);
    assert!(revoked(&store));
    let store = open(&dir);
    assert_eq!((store.versions().trusted.root, store.versions().trusted.targets), (2, None));
    assert!(revoked(&store), "forgotten by a restart");
}

fn revoking(version: u64) -> Files {
    let mut spec = TargetsSpec::empty().next(later(90));
    let revocation = Revocation { reason: "miscalibrated".to_owned(), action: RevocationAction::Stop };
    spec.revoke(&BUNDLE.parse().unwrap(), revocation).unwrap();
    let targets = author::sign(spec.envelope().unwrap(), &[&offline()]).unwrap();
    indexed(version, targets, &online())
}

/// With the stolen online key: what is here, signed once more under its version and with other bytes.
#[test]
fn a_version_that_is_signed_twice_never_reaches_the_disk() {
    let held = files(1);
    let mut targets = TargetsSpec::empty().next(later(90));
    targets.put(&author::target(BUNDLE.parse().unwrap(), b"another", serde_json::Value::Null));
    let targets = author::sign(targets.envelope().unwrap(), &[&offline()]).unwrap();
    let snapshot = indexed(1, targets.clone(), &online());
    let pin = author::Pin::of(1, &snapshot["snapshot.json"]);
    let newer = author::timestamp(2, later(7), now(), pin).unwrap();
    let mut snapshot_twice = snapshot;
    snapshot_twice.insert("timestamp.json".to_owned(), author::sign(newer, &[&online()]).unwrap());
    let two = BTreeMap::from([("targets.json".to_owned(), author::Pin::of(1, &targets))]);
    let two = author::sign(author::snapshot(2, later(14), &two).unwrap(), &[&online()]).unwrap();
    let newer = author::timestamp(2, later(7), now(), author::Pin::of(2, &two)).unwrap();
    let targets_twice = Files::from([
        ("targets.json".to_owned(), targets),
        ("snapshot.json".to_owned(), two),
        ("timestamp.json".to_owned(), author::sign(newer, &[&online()]).unwrap()),
    ]);
    for twice in [snapshot_twice, targets_twice] {
        let dir = tempfile::tempdir().unwrap();
        before(&dir);
        assert!(matches!(
            take(&mut open(&dir), &twice),
            Err(RefreshError::Trust(TrustError::Mismatch { .. }))
        ));
        for name in ["snapshot.json", "targets.json"] {
            assert_eq!(fs::read(dir.path().join(format!("1.{name}"))).unwrap(), held[name], "{name}");
        }
        let mut store = open(&dir);
        assert!(permits(&store, now()).is_ok(), "the old state holds, and opens");
        assert_eq!(take(&mut store, &files(3)).unwrap().outcome, Outcome::Updated);
    }
}

#[test]
fn time_that_a_stolen_key_told_is_forgotten_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    before(&dir);
    let mut store = open(&dir);
    let mut stolen = files(2);
    let pin = author::Pin::of(2, &stolen["snapshot.json"]);
    let far = author::timestamp(2, later(365), later(364), pin).unwrap();
    stolen.insert("timestamp.json".to_owned(), author::sign(far, &[&online()]).unwrap());
    take(&mut store, &stolen).unwrap();
    assert_eq!(store.floor(), later(364));
    // A root that keeps the key keeps what it said; one that replaces it does not, here and after a restart.
    store.offer("2.root.json", &root(2, &online())).unwrap();
    // By the time that it was told its files have expired; what counts is that the roots are taken.
    store.refresh(now()).ok();
    assert_eq!((store.versions().trusted.root, store.floor()), (2, later(364)));
    store.offer("3.root.json", &root_by(3, &second_online(), &online())).unwrap();
    store.refresh(later(364)).ok();
    assert_eq!((store.versions().trusted.root, store.floor()), (3, Timestamp::default()));
    let mut store = open(&dir);
    assert_eq!((store.versions().trusted.root, store.floor()), (3, Timestamp::default()));
    take(&mut store, &files_by(1, &second_online())).unwrap();
    assert_eq!(store.floor(), now().minus(Duration::from_mins(1)));
    assert!(permits(&store, now()).is_ok());
}
