use std::collections::BTreeSet;

use muster_protocol::ids::BootId;
use muster_protocol::message::Health;

use super::*;
use crate::clock::monotonic;

fn boot(i: u8) -> BootId {
    BootId::mint([i; 16])
}

fn open(dir: &Path, i: u8) -> Spool {
    Spool::open(dir, boot(i), Bounds { events: 6, reports: 4, report_bytes: 1 << 20 }).unwrap()
}

fn started(n: u64) -> EventKind {
    EventKind::TelemetryDropped { reports: n }
}

fn report() -> Report {
    let at = Timestamp::default();
    Report {
        boot: boot(9),
        sequence: 0,
        held_from: 0,
        from: at,
        to: at,
        health: Health::default(),
        models: vec![],
        panes: vec![],
        labels: vec![],
        shadows: vec![],
    }
}

fn events(spool: &mut Spool, now: Instant) -> Vec<(BootId, u64, u64)> {
    let due = spool.due(now).unwrap().into_iter();
    due.filter_map(|outbound| match outbound {
        Outbound::Event(event) => Some((event.boot, event.sequence, event.held_from)),
        Outbound::Report(_) => None,
        other @ (Outbound::Hello(_) | Outbound::Status(_) | Outbound::State(_) | Outbound::Want(_)) => {
            panic!("a spool keeps no {other:?}")
        }
    })
    .collect()
}

fn ack(i: u8, event: u64, report: u64) -> Ack {
    Ack { v: VERSION, boot: boot(i), event, report, state: 0 }
}

#[test]
fn entries_wait_for_their_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 1);
    let now = monotonic();
    for n in 1..=3 {
        assert_eq!(spool.event(Timestamp::default(), started(n)).unwrap(), n);
    }
    let all = vec![(boot(1), 1, 1), (boot(1), 2, 1), (boot(1), 3, 1)];
    assert_eq!(events(&mut spool, now), all);
    assert_eq!(events(&mut spool, now), vec![]);
    assert_eq!(events(&mut spool, now + ACK_SILENCE), all);
    spool.acknowledge(&ack(1, 2, 0)).unwrap();
    spool.unsend();
    assert_eq!(events(&mut spool, now), vec![(boot(1), 3, 3)]);
    spool.acknowledge(&ack(1, 3, 0)).unwrap();
    assert_eq!(spool.waiting(), 0);
    assert_eq!(spool.event(Timestamp::default(), started(4)).unwrap(), 4);
}

#[test]
fn what_an_earlier_boot_left_goes_first_under_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 1);
    spool.event(Timestamp::default(), started(1)).unwrap();
    spool.event(Timestamp::default(), started(2)).unwrap();
    spool.report(report()).unwrap();
    drop(spool);
    let mut spool = open(dir.path(), 2);
    spool.event(Timestamp::default(), started(3)).unwrap();
    assert_eq!(events(&mut spool, monotonic()), vec![(boot(1), 1, 1), (boot(1), 2, 1), (boot(2), 1, 1)]);
    spool.acknowledge(&ack(7, 9, 9)).unwrap();
    spool.acknowledge(&ack(1, 2, 1)).unwrap();
    assert_eq!(spool.waiting(), 1);
    assert_eq!(disk::list(dir.path()).unwrap().len(), 1, "the earlier boot's folder is gone");
}

#[test]
fn a_torn_entry_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 1);
    spool.event(Timestamp::default(), started(1)).unwrap();
    spool.event(Timestamp::default(), started(2)).unwrap();
    drop(spool);
    let folder = &disk::list(dir.path()).unwrap()[0];
    let segment = &disk::list(folder).unwrap()[0];
    let bytes = std::fs::read(segment).unwrap();
    std::fs::write(segment, &bytes[..bytes.len() - 3]).unwrap();
    let mut spool = open(dir.path(), 2);
    assert_eq!(events(&mut spool, monotonic()), vec![(boot(1), 1, 1)]);
}

#[test]
fn beyond_the_bound_the_oldest_reports_go_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 1);
    for _ in 0..7 {
        spool.report(report()).unwrap();
    }
    assert_eq!(spool.take_dropped_reports(), 3);
    assert_eq!(spool.take_dropped_reports(), 0);
    let due = spool.due(monotonic()).unwrap();
    let reports: Vec<Report> = due
        .into_iter()
        .filter_map(|outbound| match outbound {
            Outbound::Report(report) => Some(report),
            Outbound::Event(_) => None,
            other @ (Outbound::Hello(_) | Outbound::Status(_) | Outbound::State(_) | Outbound::Want(_)) => {
                panic!("a spool keeps no {other:?}")
            }
        })
        .collect();
    let numbers: Vec<(u64, u64)> = reports.iter().map(|report| (report.sequence, report.held_from)).collect();
    assert_eq!(numbers, vec![(4, 4), (5, 4), (6, 4), (7, 4)]);
}

#[test]
fn the_window_holds_and_a_silent_past_does_not_block_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds::default();
    let mut spool = Spool::open(dir.path(), boot(1), bounds).unwrap();
    for n in 0..100 {
        spool.event(Timestamp::default(), started(n)).unwrap();
    }
    assert_eq!(spool.due(monotonic()).unwrap().len(), IN_FLIGHT_MAX);
    drop(spool);
    let mut spool = Spool::open(dir.path(), boot(2), bounds).unwrap();
    spool.event(Timestamp::default(), started(1)).unwrap();
    let boots: BTreeSet<BootId> =
        events(&mut spool, monotonic()).into_iter().map(|(boot, ..)| boot).collect();
    assert_eq!(boots, BTreeSet::from([boot(1), boot(2)]));
}

#[test]
fn what_a_failed_attempt_left_behind_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = Lane::open(dir.path(), "event").unwrap();
    std::fs::write(dir.path().join("event-000000000001.seg"), b"half a rec").unwrap();
    lane.append(b"one", lane::Durable::Yes).unwrap();
    lane.append(b"two", lane::Durable::Yes).unwrap();
    let lane = Lane::open(dir.path(), "event").unwrap();
    assert_eq!((lane.first(), lane.next(), lane.len()), (Some(1), 3, 2));
}

#[test]
fn segments_are_cut_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut lane = Lane::open(dir.path(), "event").unwrap();
    for _ in 0..10 {
        lane.append(&vec![7; 100 * 1024], lane::Durable::No).unwrap();
    }
    assert!(disk::list(dir.path()).unwrap().len() >= 3);
    let lane = Lane::open(dir.path(), "event").unwrap();
    assert_eq!((lane.len(), lane.next()), (10, 11));
    let mut lane = lane;
    lane.drop_through(9).unwrap();
    assert_eq!(disk::list(dir.path()).unwrap().len(), 1);
    lane.drop_through(10).unwrap();
    assert!(disk::list(dir.path()).unwrap().is_empty());
    lane.append(b"x", lane::Durable::No).unwrap();
    assert_eq!(lane.first(), Some(11));
}

#[test]
fn a_look_counts_what_waits_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(look(&dir.path().join("none")).unwrap(), Waiting::default());
    let mut spool = open(dir.path(), 1);
    for n in 1..=3 {
        spool.event(Timestamp::default(), started(n)).unwrap();
    }
    spool.report(report()).unwrap();
    let segment = spool.boots[0].dir.join("event-000000000001.seg");
    let torn = [std::fs::read(&segment).unwrap(), vec![7; 5]].concat();
    std::fs::write(&segment, &torn).unwrap();
    let waiting = look(dir.path()).unwrap();
    assert_eq!((waiting.events, waiting.reports, waiting.report_bytes), (3, 1, spool.report_bytes()));
    assert_eq!(std::fs::read(&segment).unwrap(), torn, "an agent may be writing there");
}
