//! Golden wire files: JSON in, value out, the same JSON back. Old versions are kept for ever: a box in a cellar speaks them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a wire file that does not come back stops the test")]

use muster_protocol::chunk::Want;
use muster_protocol::drift::{Counter, Reference};
use muster_protocol::ids::{BootId, Digest};
use muster_protocol::limits::{LOCAL_LEASES_MAX, SLOTS_MAX};
use muster_protocol::manifest::Manifest;
use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{
    Ack, Epoch, Event, Health, Hello, LabelBlock, Message, ModelStats, Pane, Report, ShadowBlock, State,
    Status,
};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Consent, Order, Permit};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn golden<T: DeserializeOwned + Serialize>(name: &str, text: &str) {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let back: serde_json::Value = serde_json::to_value(&value).unwrap();
    let expected: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(back, expected, "{name} does not come back as it was");
}

#[test]
fn messages_come_back_as_they_were() {
    golden::<Hello>("hello", include_str!("wire/hello.json"));
    golden::<Status>("status", include_str!("wire/status.json"));
    golden::<State>("state", include_str!("wire/state.json"));
    golden::<Vec<Event>>("events", include_str!("wire/events.json"));
    golden::<State>("state_revoked", include_str!("wire/state_revoked.json"));
    golden::<Vec<Event>>("events_revoked", include_str!("wire/events_revoked.json"));
    golden::<Want>("want", include_str!("wire/want.json"));
    golden::<Ack>("ack", include_str!("wire/ack.json"));
    golden::<Epoch>("epoch", include_str!("wire/epoch.json"));
    golden::<Manifest>("manifest", include_str!("wire/manifest.json"));
    golden::<Manifest>("manifest_variants", include_str!("wire/manifest_variants.json"));
    golden::<State>("state_variants", include_str!("wire/state_variants.json"));
    golden::<Order>("order", include_str!("wire/order.json"));
    golden::<Order>("order_permits", include_str!("wire/order_permits.json"));
    golden::<State>("state_ready", include_str!("wire/state_ready.json"));
    golden::<Vec<Event>>("events_consent", include_str!("wire/events_consent.json"));
    golden::<Order>("order_capture", include_str!("wire/order_capture.json"));
    golden::<State>("state_capture", include_str!("wire/state_capture.json"));
    golden::<Event>("event_capture", include_str!("wire/event_capture.json"));
}

#[test]
fn messages_of_another_version_or_beyond_their_bounds_are_refused() {
    let with = |edit: fn(&mut serde_json::Value)| {
        let mut hello: serde_json::Value = serde_json::from_str(include_str!("wire/hello.json")).unwrap();
        edit(&mut hello);
        Hello::from_json(hello.to_string().as_bytes())
    };
    with(|_| ()).unwrap();
    with(|hello| hello["colour"] = "blue".into()).unwrap();
    assert!(with(|hello| hello["v"] = 2.into()).is_err());
    assert!(with(|hello| hello["name"] = "x".repeat(65).into()).is_err());
    assert!(with(|hello| hello["site"] = "ward/3".into()).is_err());
    assert!(Hello::from_json(b"not json").is_err());
    assert!(Hello::from_json(&vec![b' '; 300 * 1024]).is_err());
}

/// An order of a fleet that knows no permits says: at once, and ask nobody.
#[test]
fn what_an_older_fleet_or_box_leaves_out_is_what_it_meant() {
    let order: Order = serde_json::from_str(include_str!("wire/order.json")).unwrap();
    assert_eq!((order.want[0].activate, order.want[0].consent), (Permit::Now, Consent::NotNeeded));
    let state: State = serde_json::from_str(include_str!("wire/state.json")).unwrap();
    assert_eq!(state.leases, vec![]);
}

#[test]
fn words_of_others_are_bounded() {
    let state = |edit: fn(&mut serde_json::Value)| {
        let mut state: serde_json::Value =
            serde_json::from_str(include_str!("wire/state_ready.json")).unwrap();
        edit(&mut state);
        State::from_json(state.to_string().as_bytes())
    };
    state(|_| ()).unwrap();
    assert!(state(|state| state["leases"][0]["owner"] = "x".repeat(65).into()).is_err());
    assert!(state(|state| state["leases"][0]["reason"] = "x".repeat(201).into()).is_err());
    let many = state(|state| {
        let lease = state["leases"][0].clone();
        state["leases"] = vec![lease; LOCAL_LEASES_MAX + 1].into();
    });
    assert!(many.is_err());
    let mut events: serde_json::Value =
        serde_json::from_str(include_str!("wire/events_consent.json")).unwrap();
    Event::from_json(events[0].to_string().as_bytes()).unwrap();
    events[0]["kind"]["by"] = "x".repeat(65).into();
    assert!(Event::from_json(events[0].to_string().as_bytes()).is_err());
}

fn report() -> Report {
    let reference = Reference::numeric(&(0..100_u8).map(f32::from).collect::<Vec<_>>()).unwrap();
    let mut counter = Counter::new(&reference);
    if let Counter::Numeric(numeric) = &mut counter {
        numeric.observe_all(&[1.0, 50.0, f32::NAN, 400.0]);
    }
    let at = |s: i64| Timestamp::from_seconds(1_770_000_000 + s);
    let bundle = Digest::of(b"bundle");
    Report {
        boot: BootId::mint([5; 16]),
        sequence: 7,
        held_from: 3,
        from: at(0),
        to: at(30),
        health: Health { uptime_s: 30, cpu_percent: 12.5, temperature_c: Some(41.0), ..Health::default() },
        models: vec![ModelStats {
            slot: "er".parse().unwrap(),
            bundle,
            requests: 3,
            rows: 4,
            failures: 0,
            refused: 1,
            latency: vec![0, 2, 1],
        }],
        panes: vec![Pane {
            slot: "er".parse().unwrap(),
            bundle,
            from: at(0),
            to: at(600),
            streams: vec![counter.take()],
        }],
        labels: vec![LabelBlock {
            slot: "er".parse().unwrap(),
            bundle,
            day: at(0),
            n: 2,
            label_sum: 1.0,
            prediction_sum: 0.75,
            loss_sum: 0.5,
            loss_sum_sq: 0.25,
            against: Some(PairedLoss {
                bundle: Digest::of(b"before"),
                n: 2,
                loss_sum: 0.625,
                diff_sum: -0.125,
                diff_sum_sq: 0.03125,
            }),
        }],
        shadows: vec![],
    }
}

fn report_of_a_shadow() -> Report {
    let shadow = ShadowBlock {
        slot: "er".parse().unwrap(),
        bundle: Digest::of(b"next"),
        against: Digest::of(b"bundle"),
        day: Timestamp::from_seconds(1_770_000_000),
        n: 400,
        differed: 7,
    };
    Report { shadows: vec![shadow], ..report() }
}

/// The binary report, byte for byte. A change of these bytes is a new version of the wire.
#[test]
fn reports_keep_their_bytes() {
    let bytes = report().encode().unwrap();
    assert_eq!(Report::decode(&bytes).unwrap(), report());
    assert_eq!(hex::encode(&bytes), include_str!("wire/report.hex").trim());
    let more = report_of_a_shadow().encode().unwrap();
    assert_eq!(Report::decode(&more).unwrap(), report_of_a_shadow());
    assert_eq!(hex::encode(&more), include_str!("wire/report_shadow.hex").trim());
    assert!(more.starts_with(&bytes), "what is new stands at the end");
}

#[test]
fn broken_reports_are_refused() {
    let good = report().encode().unwrap();
    for cut in 0..good.len() {
        assert!(Report::decode(&good[..cut]).is_err(), "{cut} bytes were taken for a report");
    }
    let more = report_of_a_shadow().encode().unwrap();
    for cut in good.len() + 1..more.len() {
        assert!(Report::decode(&more[..cut]).is_err(), "{cut} bytes were taken for a report");
    }
    assert!(Report::decode(&[&more[..], &[0]].concat()).is_err());
    let mut many = report_of_a_shadow();
    many.shadows = vec![many.shadows[0].clone(); SLOTS_MAX + 1];
    assert!(Report::decode(&many.encode().unwrap()).is_err());
    let mut other = good.clone();
    other[0] = 9;
    assert!(Report::decode(&other).is_err());
    // Whatever a flipped byte makes of it: an error or another report, never a crash.
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            drop(Report::decode(&flipped));
        }
    }
}
