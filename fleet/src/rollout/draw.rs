//! Who is asked first: drawn anew for each bundle, so that the same ward is not always first, and spread over hardware
//! and sites, so that the first few stand for all.
//!
//! Of each hardware class one device comes first; then classes, and within them sites, take turns in proportion to their
//! size. Two boxes of one redundancy group share a stage before the last only where there is nobody else.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{DeviceId, Digest, SiteName, TagValue};

use super::plan::{Plan, Size};
use super::view::{DeviceView, FleetView, OPT_OUT};

/// Fine enough that a million devices of one stratum have places of their own.
const TURN: u64 = 1 << 40;

/// Where a device stands in the draw of a bundle. Not a secret and no proof of anything: it need only differ from bundle to
/// bundle, and it is asked for a whole fleet at once.
pub fn draw(bundle: &Digest, device: &DeviceId) -> u64 {
    let (seed, _) = bundle.as_bytes().split_at(8);
    let start = seed.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let sum = device
        .as_str()
        .bytes()
        .fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ (sum >> 31)
}

/// The stage of each device that the plan's selector matches. Who cannot be asked now waits in the last.
pub fn stages(plan: &Plan, bundle: &Digest, view: &FleetView) -> BTreeMap<DeviceId, usize> {
    let last = plan.stages.len().saturating_sub(1);
    let mut stages = BTreeMap::new();
    let mut eligible = Vec::new();
    for (id, device) in &view.devices {
        if !plan.selector.matches(&device.traits(id)) {
            continue;
        }
        if is_eligible(device) {
            eligible.push((id, device));
        } else {
            stages.insert(id.clone(), last);
        }
    }
    let cohort = eligible.len();
    let (named, mut queue) = apart(plan, in_order(bundle, eligible));
    let mut placed = 0;
    for (stage, target) in plan.targets(cohort).into_iter().enumerate() {
        let mut groups: BTreeSet<&TagValue> = BTreeSet::new();
        for (_, id, device) in named.iter().filter(|(of, ..)| *of == stage) {
            groups.extend(device.group());
            stages.insert((*id).clone(), stage);
            placed += 1;
        }
        let places = if stage == last { queue.len() } else { target.saturating_sub(placed) };
        let (taken, left) = take(queue, places, &mut groups, stage == last);
        placed += taken.len();
        stages.extend(taken.into_iter().map(|(id, _)| (id.clone(), stage)));
        queue = left;
    }
    stages
}

type Drawn<'a> = (&'a DeviceId, &'a DeviceView);
/// With its turn, and its place among those of the same turn.
type Turned<'a> = ((u64, u64), Drawn<'a>);

fn is_eligible(device: &DeviceView) -> bool {
    device.unfit.is_none() && device.bad.is_none() && !device.has(OPT_OUT)
}

/// Those whom a stage names, with that stage, and the others.
fn apart<'a>(
    plan: &Plan,
    drawn: Vec<Drawn<'a>>,
) -> (Vec<(usize, &'a DeviceId, &'a DeviceView)>, Vec<Drawn<'a>>) {
    let mut named = Vec::new();
    let mut others = Vec::new();
    for (id, device) in drawn {
        let stage = plan.stages.iter().position(|stage| match &stage.size {
            Size::Devices(devices) => devices.contains(id),
            Size::Matching(filter) => filter.matches(&device.traits(id)),
            Size::Count(_) | Size::Percent(_) => false,
        });
        match stage {
            Some(stage) => named.push((stage, id, device)),
            None => others.push((id, device)),
        }
    }
    (named, others)
}

/// Takes `places` from the front, passing over partners of those who are in it already as long as there are others.
fn take<'a>(
    queue: Vec<Drawn<'a>>,
    places: usize,
    groups: &mut BTreeSet<&'a TagValue>,
    whoever: bool,
) -> (Vec<Drawn<'a>>, Vec<Drawn<'a>>) {
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for (id, device) in queue {
        let is_partner = !whoever && device.group().is_some_and(|group| groups.contains(group));
        if taken.len() < places && !is_partner {
            groups.extend(device.group());
            taken.push((id, device));
        } else {
            left.push((id, device));
        }
    }
    let missing = (places - taken.len()).min(left.len());
    taken.extend(left.drain(..missing));
    (taken, left)
}

fn in_order<'a>(bundle: &Digest, devices: Vec<Drawn<'a>>) -> Vec<Drawn<'a>> {
    let mut strata: BTreeMap<(&str, &SiteName), Vec<(u64, Drawn<'a>)>> = BTreeMap::new();
    for (id, device) in devices {
        let hardware = device.hardware.telling();
        strata.entry((hardware, &device.site)).or_default().push((draw(bundle, id), (id, device)));
    }
    // Within a class sites take turns, in proportion.
    let mut classes: BTreeMap<&str, Vec<Turned<'a>>> = BTreeMap::new();
    for ((hardware, _), mut stratum) in strata {
        stratum.sort_unstable_by_key(|&(drawn, (id, _))| (drawn, id));
        let all = stratum.len();
        let turns =
            stratum.into_iter().enumerate().map(|(rank, (drawn, device))| ((turn(rank, all), drawn), device));
        classes.entry(hardware).or_default().extend(turns);
    }
    // And so do classes, after one of each.
    let mut order = Vec::new();
    for (_, mut class) in classes {
        class.sort_unstable_by_key(|&(key, (id, _))| (key, id));
        let all = class.len();
        order.extend(class.into_iter().enumerate().map(|(rank, ((_, drawn), device))| {
            let turn = if rank == 0 { 0 } else { turn(rank, all) };
            ((turn, drawn), device)
        }));
    }
    order.sort_unstable_by_key(|&(key, (id, _))| (key, id));
    order.into_iter().map(|(_, device)| device).collect()
}

/// The middle of a share: the first of two stands at a quarter, the first of ten at a twentieth.
fn turn(rank: usize, of: usize) -> u64 {
    let (rank, of) = (rank as u64, (of as u64).max(1));
    (2 * rank + 1) * (TURN / (2 * of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::plan::tests::plan;

    fn device(n: u8) -> DeviceId {
        DeviceId::mint([n; 16])
    }

    /// Ten boxes with an NPU at one site, two without at two others, and a pair of partners among them.
    fn fleet() -> FleetView {
        let mut fleet = FleetView::default();
        for n in 0..12 {
            let site = if n < 10 { "north".to_owned() } else { format!("south-{n}") };
            let mut view = DeviceView::at(site.parse().unwrap());
            let class = if n < 10 { "x86_64-npu" } else { "x86_64" };
            view.hardware = BTreeSet::from([class.parse().unwrap()]).into();
            if n < 2 {
                view.tags.insert("redundancy".parse().unwrap(), "line-1".parse().unwrap());
            }
            fleet.devices.insert(device(n), view);
        }
        fleet
    }

    fn bundle(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn the_draw_depends_on_the_bundle() {
        let first = |n| (0..20).map(device).min_by_key(|device| draw(&bundle(n), device)).unwrap();
        assert!((0..10).map(first).collect::<BTreeSet<_>>().len() > 3);
    }

    #[test]
    fn the_first_two_stand_for_both_kinds_of_hardware() {
        for n in 0..20 {
            let stages = stages(&plan(&[Size::Count(2), Size::Percent(100.0)]), &bundle(n), &fleet());
            let canaries = stages.iter().filter(|(_, stage)| **stage == 0).map(|(id, _)| id);
            let fleet = fleet();
            let classes: BTreeSet<&str> = canaries.map(|id| fleet.devices[id].hardware.telling()).collect();
            assert_eq!(classes.len(), 2);
        }
    }

    #[test]
    fn partners_are_kept_apart_while_there_are_others() {
        for n in 0..20 {
            let stages = stages(&plan(&[Size::Count(5), Size::Percent(100.0)]), &bundle(n), &fleet());
            assert!(stages[&device(0)] + stages[&device(1)] > 0, "both partners are canaries");
            assert_eq!(stages.values().filter(|stage| **stage == 0).count(), 5);
        }
    }

    #[test]
    fn a_stage_adds_whom_it_names_and_those_who_cannot_come_last() {
        let named = Size::Devices([device(3)].into());
        let mut fleet = fleet();
        fleet.devices.get_mut(&device(4)).unwrap().unfit =
            Some(Box::new(crate::rollout::Cause::new("npu", "too old")));
        let stages = stages(&plan(&[named, Size::Count(3), Size::Percent(100.0)]), &bundle(1), &fleet);
        let of =
            |stage| stages.iter().filter(|(_, s)| **s == stage).map(|(id, _)| id.clone()).collect::<Vec<_>>();
        assert_eq!(of(0), [device(3)]);
        assert_eq!(of(1).len(), 2);
        assert_eq!(stages[&device(4)], 2);
        assert_eq!(stages.len(), 12);
    }
}
