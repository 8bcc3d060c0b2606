//! From findings to incidents: which are told, grow, end, and are not told again.

use super::*;

fn finding(kind: Kind, places: &[usize], stream: &str) -> Finding {
    Finding {
        kind,
        onset: at(10),
        devices: places.iter().map(|place| device(*place)).collect(),
        sites: places.iter().map(|place| format!("site-{place}").parse().unwrap()).collect(),
        streams: vec![FoundStream {
            name: stream.parse().unwrap(),
            shift: None,
            psi_adj: 0.4,
            b: 1e-6,
            devices: places.len(),
            broken: None,
        }],
        reason: "because".into(),
    }
}

fn opened(seed: u8, finding: Finding) -> Incident {
    Incident::open(IncidentId::mint([seed; 16]), "er".parse().unwrap(), Digest::of(b""), finding, at(12))
}

#[test]
fn an_incident_grows_and_never_forgets() {
    let mut incident = opened(1, finding(Kind::NewRegime, &[1, 2], "age"));
    let newer = Finding { onset: at(11), ..finding(Kind::NewRegime, &[3], "pulse") };
    let done = reconcile(std::slice::from_ref(&incident), &[], vec![newer.clone()]);
    assert_eq!((done.open.len(), done.grow.len(), done.close.len()), (0, 1, 0));
    incident.update(newer);
    assert_eq!((incident.devices.len(), incident.sites.len(), incident.onset), (3, 3, at(10)));
    let names: Vec<&str> = incident.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!(names, ["pulse", "age"]);
    let sentence = incident.sentence();
    assert!(sentence.contains("the world has changed at site-1, site-2, site-3"), "{sentence}");
}

#[test]
fn an_incident_ends_by_itself_and_says_why() {
    let (fault, notice) = (
        opened(1, finding(Kind::DeviceFault, &[1], "age")),
        opened(2, finding(Kind::SiteDiffers, &[1], "age")),
    );
    let open = [fault.clone(), notice];
    let done = reconcile(&open, &[], Vec::new());
    assert_eq!(done.close.len(), 1, "a notice stands until it is read: {done:?}");
    assert!(done.close[0].0 == fault.id && done.close[0].1.contains("three quiet windows"));
    let done = reconcile(&open, &[], vec![finding(Kind::NewRegime, &[1, 2], "age")]);
    assert!(done.close[0].1.contains("something else now: the world has changed") && done.open.len() == 1);
    let other = finding(Kind::DeviceFault, &[2], "age");
    assert_eq!(reconcile(&open, &[], vec![other]).open.len(), 1, "another box is another incident");
}

#[test]
fn what_a_person_has_closed_is_not_told_again_unless_there_is_more() {
    let mut incident = opened(1, finding(Kind::SiteChange, &[1], "age"));
    let same = finding(Kind::SiteChange, &[1], "age");
    let reopened = |incident: &Incident, finding: &Finding| {
        !reconcile(&[], std::slice::from_ref(incident), vec![finding.clone()]).open.is_empty()
    };
    let closed = |by: &str| IncidentState::Closed { at: at(14), by: by.into(), reason: "new scanner".into() };
    incident.state = closed(FLEET);
    assert!(reopened(&incident, &same), "it had ended by itself");
    incident.state = closed("ana");
    assert!(!reopened(&incident, &same));
    assert!(reopened(&incident, &finding(Kind::SiteChange, &[1, 2], "age")));
    assert!(reopened(&incident, &finding(Kind::SiteChange, &[1], "pulse")));
    assert!(reopened(&incident, &finding(Kind::NewRegime, &[1], "age")));
    assert!(reopened(&incident, &Finding { onset: at(15), ..same }));
}

#[test]
fn a_thousand_broken_boxes_are_not_a_thousand_letters() {
    let open: Vec<Incident> = (0..OPEN_MAX)
        .map(|n| opened(u8::try_from(n).unwrap(), finding(Kind::DeviceFault, &[n], "age")))
        .collect();
    let regime = finding(Kind::NewRegime, &[1, 2], "age");
    let done = reconcile(&open, &[], vec![finding(Kind::DeviceFault, &[200], "age"), regime.clone()]);
    assert_eq!(done.open, [regime], "what is everybody's is told beside them");
}

/// A box of a hundred sites whose surest alarm a calm box would give with this chance.
fn standing(place: usize, chance: f64) -> Stand {
    use muster_protocol::drift::{Reading, StreamReadings};
    let own = if chance < 1.0 { Reading::Drift { onset: at(10), shift: None } } else { Reading::Calm };
    let readings = StreamReadings { training: own, own, season: Reading::Unknown };
    let stream = StreamStand { readings, psi_adj: 0.1, b: 0.01, chance, broken: None };
    let streams = BTreeMap::from([("age".parse().unwrap(), stream)]);
    let device = format!("d-{place:026}").parse().unwrap();
    Stand { device, site: format!("site-{}", place % 100).parse().unwrap(), streams }
}

#[test]
fn chance_alone_blames_no_box_of_a_thousand() {
    let told = |chances: &dyn Fn(usize) -> f64| {
        let stands: Vec<Stand> = (0..1000).map(|place| standing(place, chances(place))).collect();
        let found = assess(&stands.iter().collect::<Vec<_>>(), &BTreeMap::new());
        found.iter().map(|finding| (finding.kind, finding.devices.len())).collect::<Vec<_>>()
    };
    let lone = |chance: f64| told(&move |place| if place == 7 { chance } else { 1.0 });
    assert_eq!(lone(1e-3), [], "one in a thousand, of a thousand");
    assert_eq!(lone(1e-6), [(Kind::DeviceFault, 1)]);
    // What many share needs no better proof than in a small fleet.
    assert_eq!(told(&|place| if place % 100 < 60 { 5e-3 } else { 1.0 }), [(Kind::NewRegime, 600)]);
}
