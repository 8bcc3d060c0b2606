//! Who was activated and then fell silent? A dark box sends no failure, so silence itself is the evidence: its
//! hazard among the devices that run the bundle, beside the hazard of those that do not.
//!
//! ```text
//!   site's controls are silent too ─▶ the site is out: neither risk nor suspects there
//!   far more silence than without it ─▶ Fail
//!   more than chance explains ────────▶ Insufficient, the silent ones are missing
//! ```
//! Without controls nothing can be compared, so nothing is condemned; half the devices dark still holds.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, SiteName};

use super::{
    Case, GateLimits, Layer, LayerVerdict, Silence, Verdict, as_f64, devices, distributions, eprocess,
    storable,
};

/// Controls that fell silent longer ago say nothing of today's weather, and some have come back meanwhile.
const WINDOW_H: f64 = 24.0;
/// Below this chance, so much silence is not explained by the fleet's own and holds the stage.
const UNEXPLAINED: f64 = 0.1;

type Site<'a> = Option<&'a SiteName>;

/// What the devices without the bundle show.
#[derive(Default)]
struct Usual<'a> {
    /// Controls and silent ones among them, by site.
    sites: BTreeMap<Site<'a>, (usize, usize)>,
    silent: u64,
    hours: f64,
}

#[derive(Default)]
struct Seen<'a> {
    known: usize,
    excused: usize,
    hours: f64,
    suspects: Vec<DeviceId>,
    /// Suspects, counting a site without controls once: a cable that is cut there silences all its devices at once.
    events: u64,
    dark_sites: Vec<Site<'a>>,
}

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let limits = case.limits;
    let layer = LayerVerdict::of(Layer::Silence, "silence hazard beside controls, mixture e-process", limits);
    if limits.silence_after_h <= 0.0 {
        return layer.not_asked("the plan does not ask who fell silent");
    }
    let usual = usual(case);
    let seen = seen(case, &usual);
    if seen.known == 0 {
        return layer.not_asked("nothing is known yet of who is heard");
    }
    let compared = usual.hours > 0.0;
    let floor = limits.silences_per_hour_baseline.max(1e-9);
    // Half an event in as many quiet hours as the floor allows, before anything was seen: few controls do not make a
    // hazard of zero, nor one of one.
    let hazard = ((as_f64(usual.silent) + 0.5) / (usual.hours + 0.5 / floor)).max(floor);
    let log_e = eprocess::poisson(as_f64(seen.events), seen.hours, hazard);
    let threshold = eprocess::threshold(layer.alpha);
    let suspects = seen.suspects.len();
    let chance = distributions::poisson_at_least(suspects as u64, hazard * seen.hours);
    let layer = LayerVerdict {
        measured: Some(storable(log_e.exp())),
        limit: Some(storable(threshold.exp())),
        n: seen.known as u64,
        ..layer
    };
    let layer = layer.with_inputs(&[
        ("silent", as_f64(suspects as u64)),
        ("silent_events", as_f64(seen.events)),
        ("silent_with_their_site", as_f64(seen.excused as u64)),
        ("hours_at_risk", seen.hours),
        ("controls_silent", as_f64(usual.silent)),
        ("controls_hours_at_risk", usual.hours),
        ("hazard_per_hour", hazard),
        ("chance_of_so_many", chance),
    ]);
    let with_site = match seen.excused {
        0 => String::new(),
        n => format!("; {} silent with their whole site", devices(n)),
    };
    let unexplained = if compared { chance < UNEXPLAINED } else { suspects * 2 >= seen.known };
    let (verdict, sentence) = if compared && log_e >= threshold {
        let rest = "far more than among devices without it";
        (
            Verdict::Fail,
            format!("{suspects} of {} that run it fell silent, {rest}{with_site}", devices(seen.known)),
        )
    } else if seen.excused == seen.known {
        (Verdict::Insufficient, "every device that runs it is silent, and so is its whole site".to_owned())
    } else if suspects > 0 && unexplained {
        let after = limits.silence_after_h;
        let who = devices(suspects);
        (Verdict::Insufficient, format!("{who} that run it have not been heard for {after:.0} h{with_site}"))
    } else if suspects > 0 {
        let rest = "no more than is usual here";
        (Verdict::Pass, format!("{suspects} of {} are silent, {rest}{with_site}", devices(seen.known)))
    } else {
        (Verdict::Pass, format!("all of {} are heard{with_site}", devices(seen.known - seen.excused)))
    };
    LayerVerdict { verdict, missing: seen.suspects, sentence, ..layer }
}

fn usual<'a>(case: &Case<'a>) -> Usual<'a> {
    let mut usual = Usual::default();
    let heard = || case.controls.iter().filter(|(_, _, control)| was_heard(control.silence));
    for (_, stratum, control) in heard() {
        let site = usual.sites.entry(stratum.site.as_ref()).or_default();
        site.0 += 1;
        site.1 += usize::from(is_silent(control.silence, case.limits));
    }
    for (_, stratum, control) in heard() {
        let silence = control.silence;
        if usual.is_out(stratum.site.as_ref()) {
            continue;
        }
        usual.hours += silence.hours_at_risk.min(WINDOW_H);
        let lately = silence.silent_hours.is_some_and(|hours| hours <= WINDOW_H);
        usual.silent += u64::from(lately && is_silent(silence, case.limits));
    }
    usual
}

fn seen<'a>(case: &Case<'a>, usual: &Usual<'a>) -> Seen<'a> {
    let mut seen = Seen::default();
    for (id, stratum, shown) in case.running().filter(|(_, _, shown)| shown.silence.is_known()) {
        seen.known += 1;
        let site = stratum.site.as_ref();
        let silent = is_silent(shown.silence, case.limits);
        if usual.is_out(site) {
            seen.excused += usize::from(silent);
            continue;
        }
        if shown.silence.hours_at_risk.is_finite() {
            seen.hours += shown.silence.hours_at_risk.max(0.0);
        }
        if !silent {
            continue;
        }
        seen.suspects.push(id.clone());
        if usual.sites.contains_key(&site) || site.is_none() {
            seen.events += 1;
        } else if !seen.dark_sites.contains(&site) {
            seen.dark_sites.push(site);
            seen.events += 1;
        }
    }
    seen
}

impl Usual<'_> {
    /// Whether half of the site's controls or more are silent: then something happened to the site.
    fn is_out(&self, site: Site<'_>) -> bool {
        self.sites.get(&site).is_some_and(|&(controls, silent)| silent > 0 && silent * 2 >= controls)
    }
}

/// Who was away before the stage opened, and still is, tells nothing of what has happened since.
fn was_heard(silence: Silence) -> bool {
    silence.hours_at_risk.is_finite()
        && silence.hours_at_risk > 0.0
        && silence.silent_hours.is_none_or(|hours| hours < silence.hours_at_risk)
}

fn is_silent(silence: Silence, limits: &GateLimits) -> bool {
    silence.silent_hours.is_some_and(|hours| hours >= limits.silence_after_h)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, device};
    use super::super::{Control, DeviceEvidence, Evidence, Install, Stratum};
    use super::*;

    fn silence(silent: bool) -> Silence {
        Silence { hours_at_risk: 6.0, silent_hours: silent.then_some(3.0) }
    }

    fn at(site: &str) -> Stratum {
        Stratum { site: Some(site.parse().unwrap()), hardware: "x86_64".to_owned() }
    }

    /// Canaries and controls, each as (site, how many, how many of them silent).
    fn judged(canaries: &[(&str, u8, u8)], controls: &[(&str, u8, u8)]) -> LayerVerdict {
        let spread = |groups: &[(&'static str, u8, u8)]| -> Vec<(&'static str, bool)> {
            groups.iter().flat_map(|&(site, n, silent)| (0..n).map(move |i| (site, i < silent))).collect()
        };
        let leak = |groups: &[(&str, u8, u8)]| -> Vec<(&'static str, u8, u8)> {
            groups.iter().map(|&(site, n, silent)| (if site == "a" { "a" } else { "b" }, n, silent)).collect()
        };
        let exposed = (1..).zip(spread(&leak(canaries))).map(|(n, (site, silent))| {
            let shown = DeviceEvidence {
                install: Install::Succeeded,
                silence: silence(silent),
                ..DeviceEvidence::default()
            };
            (device(n), at(site), shown)
        });
        let controls = (100..).zip(spread(&leak(controls))).map(|(n, (site, silent))| {
            (device(n), at(site), Control { silence: silence(silent), ..Control::default() })
        });
        let evidence =
            Evidence { exposed: exposed.collect(), controls: controls.collect(), ..Evidence::default() };
        answer(Layer::Silence, &evidence, &GateLimits::default())
    }

    fn check(canaries: &[(&str, u8, u8)], controls: &[(&str, u8, u8)], expect: Verdict) {
        let layer = judged(canaries, controls);
        assert_eq!(layer.verdict, expect, "{canaries:?} beside {controls:?}: {}", layer.sentence);
    }

    #[test]
    fn silences() {
        use Verdict::{Fail, Insufficient, Pass};
        check(&[("a", 10, 0)], &[("a", 20, 0)], Pass);
        // One canary dark while its site and the fleet are up.
        check(&[("a", 10, 1)], &[("a", 20, 0)], Insufficient);
        check(&[("a", 10, 4)], &[("a", 20, 0)], Fail);
        check(&[("a", 1, 1)], &[("a", 20, 0)], Insufficient);
        // The whole site is out: nobody's fault.
        check(&[("a", 4, 4), ("b", 4, 0)], &[("a", 10, 10), ("b", 10, 0)], Pass);
        check(&[("a", 4, 4)], &[("a", 10, 10)], Insufficient);
        // All devices of a site without controls go at once: one event, not four.
        check(&[("a", 4, 4), ("b", 4, 0)], &[("b", 10, 0)], Insufficient);
        // A fleet that comes and goes.
        check(&[("a", 10, 2)], &[("a", 40, 9)], Pass);
        // Nobody to compare with: hold, never condemn.
        check(&[("a", 10, 9)], &[], Insufficient);
        check(&[("a", 10, 1)], &[], Pass);
    }

    /// Controls that have been away since before the stage opened make nobody's silence usual.
    #[test]
    fn who_was_away_before_is_no_control() {
        let away = Silence { hours_at_risk: 6.0, silent_hours: Some(6.0) };
        assert!(!was_heard(away) && was_heard(silence(true)) && was_heard(silence(false)));
        assert!(!was_heard(Silence::default()));
    }

    #[test]
    fn the_silent_are_named() {
        assert_eq!(judged(&[("a", 10, 2)], &[("a", 20, 0)]).missing, [device(1), device(2)]);
        assert!(!judged(&[], &[("a", 20, 0)]).applies);
    }
}
