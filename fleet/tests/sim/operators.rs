//! People: they pause, promote, freeze, re-tag and pull plugs when they like.

use std::time::Duration;

use muster_fleet::rollout::view::BundleStanding;
use muster_fleet::rollout::{Freeze, Lease, Verb};
use muster_protocol::ids::SiteName;

use crate::boxes::EdgeBox;
use crate::coverage::VERBS;
use crate::invariants::{self, Broken};
use crate::nature::bundle;
use crate::setting;
use crate::world::{Happening, World};

const PEOPLE: [&str; 3] = ["anna", "bela", "chris"];

/// One random thing that somebody does.
pub(crate) fn act(world: &mut World) -> Result<(), Broken> {
    let (now, dice) = (world.now, world.rng.below(100));
    match dice {
        0..34 if !world.fleet.rollouts.is_empty() => {
            some_verb(world)?;
        }
        34..40 => {
            let sites = world.rng.chance(50).then(|| vec![site(world)]);
            let freeze = Freeze { since: now, by: "anna".to_owned(), reason: "audit".to_owned(), sites };
            world.fleet.freezes.push(freeze);
        }
        40..52 => world.fleet.freezes.clear(),
        52..58 => {
            let until = now.plus(Duration::from_secs(world.rng.between(60, 12 * 3600)));
            let lease = Lease { owner: "mri".to_owned(), reason: "MRI running".to_owned(), until };
            if world.rng.chance(50) {
                let site = site(world);
                world.site(&site).leases.push(lease);
            } else {
                let on = any_box(world);
                let id = world.boxes[on].id.clone();
                if let Some(known) = world.fleet.devices.get_mut(&id) {
                    known.leases.push(lease);
                }
            }
        }
        58..64 => {
            let on = any_box(world);
            let tag = (*world.rng.pick(&["ward", "rollouts"]), *world.rng.pick(&["icu", "er", "off"]));
            let id = world.boxes[on].id.clone();
            if let Some(known) = world.fleet.devices.get_mut(&id)
                && known.tags.remove(&tag.0.parse::<muster_protocol::ids::TagName>().unwrap()).is_none()
            {
                known.tags.insert(tag.0.parse().unwrap(), tag.1.parse().unwrap());
            }
        }
        64..74 => {
            let on = any_box(world);
            let hours = world.rng.between(1, 20);
            let back = Duration::from_secs(hours * 1800);
            if world.rng.chance(50) {
                world.power(on, false)?;
                world.at(back, Happening::Power { on, up: true });
            } else {
                world.link(on, false)?;
                world.at(back, Happening::Link { of: on, up: true });
            }
        }
        74..78 => {
            // The link of a whole site.
            let site = site(world);
            let back = Duration::from_secs(world.rng.between(600, 30_000));
            for on in 0..world.boxes.len() {
                if world.boxes[on].site == site {
                    world.link(on, false)?;
                    world.at(back, Happening::Link { of: on, up: true });
                }
            }
        }
        78..84 => {
            // A crash and a start.
            let on = any_box(world);
            world.power(on, false)?;
            world.at(Duration::from_secs(20), Happening::Power { on, up: true });
        }
        84..88 if world.boxes.len() < 45 => {
            let number = world.boxes.len();
            let site = site(world);
            let edge = EdgeBox::new(number, site, setting::hardware(world.rng.below(3)));
            world.add_box(edge, &setting::slot(), &bundle("v1"));
        }
        88..90 => {
            let on = any_box(world);
            let id = world.boxes[on].id.clone();
            world.fleet.devices.remove(&id);
        }
        90..92 => {
            let kind = world.rng.pick(&[1, 2]);
            if let Some(kind) = world.kinds.get(*kind - 1) {
                let standing = if world.rng.chance(50) {
                    BundleStanding::Yanked
                } else {
                    BundleStanding::Revoked { reason: "miscalibrated".to_owned() }
                };
                let bundle = kind.bundle.clone();
                world.strike(&bundle, standing);
            }
        }
        92..96 if world.fleet.rollouts.len() < 3 => setting::another_rollout(world),
        96..98 => {
            // Nobody has signed the catalogue anew in time.
            world.say(|| "the catalogue expires".to_owned());
            world.fleet.has_expired = true;
            let back = Duration::from_secs(world.rng.between(600, 30_000));
            world.at(back, Happening::Renewed);
        }
        _ => repeat_old_words(world)?,
    }
    world.look_soon();
    Ok(())
}

/// Somebody presses a button, whatever the rollout's state.
fn some_verb(world: &mut World) -> Result<(), Broken> {
    let index = world.rng.below(world.fleet.rollouts.len() as u64) as usize;
    // The gentle ones are used more often.
    let verb = if world.rng.chance(50) {
        *world.rng.pick(&[Verb::Approve, Verb::Resume, Verb::Promote, Verb::Retry])
    } else {
        *world.rng.pick(VERBS)
    };
    let by = *world.rng.pick(&PEOPLE);
    drop(verb_on(world, index, verb, by, "because")?);
    // Whoever looks at the same screen acts at the same moment, before the engine has looked.
    if matches!(verb, Verb::Abort | Verb::Rollback) && world.rng.chance(40) {
        let (verb, by) = (*world.rng.pick(VERBS), *world.rng.pick(&PEOPLE));
        drop(verb_on(world, index, verb, by, "me too")?);
    }
    Ok(())
}

/// A person acts, and it is written down.
pub(crate) fn verb_on(
    world: &mut World,
    index: usize,
    verb: Verb,
    by: &str,
    reason: &str,
) -> Result<Result<(), String>, Broken> {
    let before = world.fleet.rollouts[index].rollout.clone();
    let now = world.now;
    let acted = world.fleet.act(index, verb, by, reason, now);
    let after = &world.fleet.rollouts[index].rollout;
    world.coverage.verb(verb, before.phase.name(), acted.is_ok());
    if before.phase != after.phase {
        world.moved = now;
        world.coverage.step(&before, after);
    }
    invariants::acted(&before, after, verb, acted.is_ok())?;
    world.say(|| format!("{by} says {}: {}", verb.as_str(), if acted.is_ok() { "done" } else { "refused" }));
    world.look_soon();
    Ok(acted)
}

/// Whatever was heard of each device is said again.
fn repeat_old_words(world: &mut World) -> Result<(), Broken> {
    let now = world.now;
    let words = world.fleet.newest_words();
    for word in words {
        let changed = world.fleet.hear(&word, now);
        invariants::repeated_words_change_nothing(changed, &word)?;
    }
    Ok(())
}

fn site(world: &mut World) -> SiteName {
    let sites: Vec<SiteName> = world.fleet.sites.keys().cloned().collect();
    world.rng.pick(&sites).clone()
}

fn any_box(world: &mut World) -> usize {
    world.rng.below(world.boxes.len() as u64) as usize
}
