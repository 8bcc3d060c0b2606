//! Six-hour windows and a model that knows working hours alone: who is blamed for nights, a broken box, a site, the world.

use super::*;

/// Six-hour windows of a model that was trained on working hours alone, six weeks of them.
fn of_working_hours(sites: usize, each: usize) -> Fleet {
    let working = |window: &i64| (window / 4) % 7 < 5 && matches!(window % 4, 1 | 2);
    Fleet::spanning(Duration::from_hours(6), sites, each, (0..6 * 28).filter(working), hours)
}

/// What nights and weekends are like, to a model that knows neither.
fn hours(window: i64) -> f32 {
    let weekend = if (window / 4) % 7 >= 5 { -0.5 } else { 0.0 };
    weekend + [-1.0, 0.2, 0.4, -0.6][usize::try_from(window % 4).unwrap()]
}

/// Half of the streams know the hours; the others are always as they are at work.
fn usual(stream: usize, window: i64) -> f32 {
    if stream < 2 { hours(window) } else { 0.3 }
}

/// What is found in each window of a fortnight after four weeks of ordinary days and nights.
fn fortnight(mut fleet: Fleet, happens: &dyn Fn(usize, usize) -> f32) -> Vec<Vec<Finding>> {
    fleet.days(0..4 * 28, &|_, stream, window| Some(usual(stream, window)));
    let lived = (4 * 28..6 * 28).map(|window| {
        fleet.live(window, ROWS, &|place, stream, window| {
            Some(usual(stream, window) + happens(place, stream))
        });
        fleet.findings()
    });
    lived.collect()
}

fn asking(found: &[Vec<Finding>]) -> usize {
    found.iter().filter(|found| found.iter().any(|finding| finding.kind.may_ask())).count()
}

#[test]
fn nights_and_weekends_ask_for_nothing() {
    let found = fortnight(of_working_hours(6, 2), &|_, _| 0.0);
    assert_eq!((found.len(), asking(&found)), (56, 0));
}

#[test]
fn nights_and_weekends_hide_no_broken_box_and_blame_no_other() {
    let found =
        fortnight(of_working_hours(6, 3), &|place, stream| if (place, stream) == (7, 3) { 2.0 } else { 0.0 });
    assert_eq!(asking(&found), 0);
    let faults = found.iter().flatten().filter(|finding| finding.kind == Kind::DeviceFault);
    let blamed: BTreeSet<_> = faults.flat_map(|fault| &fault.devices).cloned().collect();
    assert_eq!(blamed, BTreeSet::from([device(7)]));
}

#[test]
fn nights_and_weekends_hide_no_site_of_twenty() {
    let found = fortnight(of_working_hours(20, 2), &|place, stream| {
        if place / 2 == 7 && matches!(stream, 1 | 2) { 0.8 } else { 0.0 }
    });
    assert_eq!(asking(&found), 0);
    let changes = found.iter().flatten().filter(|finding| finding.kind == Kind::SiteChange);
    let named: BTreeSet<_> = changes.flat_map(|change| &change.sites).cloned().collect();
    assert_eq!(named, BTreeSet::from(["site-07".parse().unwrap()]));
}

#[test]
fn nights_and_weekends_hide_no_new_regime() {
    let found =
        fortnight(of_working_hours(6, 2), &|_, stream| if matches!(stream, 1 | 2) { 0.8 } else { 0.0 });
    let first = found.iter().position(|found| found.iter().any(|finding| finding.kind.may_ask()));
    assert!(first.is_some_and(|first| first < 8), "asked in window {first:?}, wanted within two days");
}
