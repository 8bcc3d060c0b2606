//! What one look holds: a row for each device, made by walking members and fleet side by side, both sorted by id.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;

use super::{Advance, Assignment, Moment};
use crate::rollout::reason::Code;
use crate::rollout::view::{DeviceView, FleetView};
use crate::rollout::{Asked, Member, Members, Progress, Rollout};

pub(in crate::rollout) struct Look<'a> {
    pub(super) rollout: &'a Rollout,
    pub(super) view: &'a FleetView,
    pub(super) now: Timestamp,
    pub(super) rows: Vec<Row<'a>>,
    pub(super) out: Advance,
}

/// One device: what the fleet shows of it, and its part in the rollout before and after this look.
///
/// What the walks over all rows ask of each is kept in the row itself: fleet and members are large and lie far apart, and most
/// of a look's time was spent on the way to them.
pub(in crate::rollout) struct Row<'a> {
    pub(in crate::rollout) id: &'a DeviceId,
    /// `None` if it is no member of the fleet any more.
    pub(in crate::rollout) device: Option<&'a DeviceView>,
    online: bool,
    /// Whether it last proved to run the rollout's bundle.
    runs_it: bool,
    /// Marks of its site and of its most telling hardware class.
    marks: (u64, u64),
    /// Stage and part; `None` if it is no member.
    place: Option<(usize, Part)>,
    before: Option<&'a Member>,
    /// Only if this look changed it.
    after: Option<Box<Member>>,
}

/// A member's progress, as far as it counts for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Waiting,
    Excluded,
    InFlight,
    Ready,
    Baking,
    Baked,
    /// It failed, or went back by itself.
    Lost,
    /// It was told to go back.
    Back,
}

impl<'a> Row<'a> {
    fn new(
        bundle: &BundleRef,
        id: &'a DeviceId,
        before: Option<&'a Member>,
        device: Option<&'a DeviceView>,
    ) -> Self {
        let online = device.is_some_and(|device| device.online);
        let runs_it = device.is_some_and(|device| device.current.as_ref() == Some(bundle));
        let marks = device.map_or((0, 0), |device| (device.site.mark(), device.hardware.mark()));
        Self { id, device, online, runs_it, marks, place: before.map(place), before, after: None }
    }

    pub(in crate::rollout) fn member(&self) -> Option<&Member> {
        self.after.as_deref().or(self.before)
    }

    pub(super) fn part(&self) -> Option<Part> {
        self.place.map(|(_, part)| part)
    }

    /// Its part, if it belongs to a stage that is open.
    pub(super) fn within(&self, open: usize) -> Option<Part> {
        self.place.filter(|(stage, _)| *stage <= open).map(|(_, part)| part)
    }

    pub(in crate::rollout) fn is_online(&self) -> bool {
        self.online
    }

    pub(super) fn runs_it(&self) -> bool {
        self.runs_it
    }

    pub(super) fn site_mark(&self) -> u64 {
        self.marks.0
    }

    pub(super) fn hardware_mark(&self) -> u64 {
        self.marks.1
    }

    pub(super) fn set(&mut self, member: Member) {
        self.place = Some(place(&member));
        self.after = Some(Box::new(member));
    }

    pub(super) fn become_(&mut self, progress: Progress) {
        if let Some(member) = self.member() {
            let Member { stage, attempts, .. } = *member;
            self.set(Member { stage, attempts, progress });
        }
    }

    /// Whether its order wants what this rollout asked it for.
    pub(super) fn wishes(&self, bundle: &BundleRef, asked: Option<&Asked>) -> bool {
        let Some(wish) = self.device.and_then(|device| device.wish.as_ref()) else { return false };
        wish == bundle || asked.and_then(|asked| asked.via.as_ref()) == Some(wish)
    }
}

impl Part {
    /// As [`Progress::is_exposed`].
    pub(super) fn is_exposed(self) -> bool {
        match self {
            Self::InFlight | Self::Ready | Self::Baking | Self::Baked | Self::Lost => true,
            Self::Waiting | Self::Excluded | Self::Back => false,
        }
    }

    /// Whether the rollout waits for it.
    pub(super) fn is_pending(self) -> bool {
        match self {
            Self::Waiting | Self::InFlight | Self::Ready | Self::Baking => true,
            Self::Excluded | Self::Baked | Self::Lost | Self::Back => false,
        }
    }
}

fn place(member: &Member) -> (usize, Part) {
    let part = match &member.progress {
        Progress::Waiting => Part::Waiting,
        Progress::Excluded { .. } => Part::Excluded,
        Progress::Offered { .. } | Progress::Permitted { .. } => Part::InFlight,
        Progress::Ready { .. } => Part::Ready,
        Progress::Activated { .. } => Part::Baking,
        Progress::Baked { .. } => Part::Baked,
        Progress::Failed { .. } | Progress::Reverted { .. } => Part::Lost,
        Progress::Returning { .. } | Progress::Returned { .. } => Part::Back,
    };
    (member.stage, part)
}

/// Every device that is a member, or in the fleet, or both; in the order of their ids.
pub(in crate::rollout) fn rows<'a>(
    bundle: &BundleRef,
    members: &'a Members,
    fleet: &'a FleetView,
) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(members.len().max(fleet.devices.len()));
    let (mut members, mut devices) = (members.iter().peekable(), fleet.devices.iter().peekable());
    loop {
        let order = match (members.peek(), devices.peek()) {
            (None, None) => return rows,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((member, _)), Some((device, _))) => member.cmp(device),
        };
        let member = if order.is_le() { members.next() } else { None };
        let device = if order.is_ge() { devices.next() } else { None };
        match (member, device) {
            (Some((id, member)), device) => {
                rows.push(Row::new(bundle, id, Some(member), device.map(|(_, device)| device)));
            }
            (None, Some((id, device))) => {
                rows.push(Row::new(bundle, id, None, Some(device)));
            }
            (None, None) => {}
        }
    }
}

impl<'a> Look<'a> {
    pub(super) fn new(
        rollout: &'a Rollout,
        members: &'a Members,
        view: &'a FleetView,
        now: Timestamp,
    ) -> Self {
        Self { rollout, view, now, rows: rows(&rollout.bundle, members, view), out: Advance::default() }
    }

    pub(super) fn look_at(&mut self, time: Timestamp) {
        self.out.look_again = Some(self.out.look_again.map_or(time, |look| look.min(time)));
    }

    pub(super) fn wait(&mut self, code: Code, sentence: String, devices: usize) {
        self.out.waiting_on.push(super::WaitingOn { code: code.as_str(), sentence, devices });
    }

    /// Lets the row's order want again what the device ran before, unless somebody else has changed it meanwhile.
    pub(super) fn tell_to_go_back(&mut self, row: usize, asked: &Asked) {
        let row = &self.rows[row];
        // Nothing to go back to: it ran this bundle before it was asked.
        if asked.from.as_ref() == Some(&self.rollout.bundle) {
            return;
        }
        if row.device.is_some() && !row.wishes(&self.rollout.bundle, Some(asked)) {
            return;
        }
        self.out.assign.push(Assignment {
            device: row.id.clone(),
            bundle: asked.from.clone(),
            permit: Moment::Now,
            consent: Consent::NotNeeded,
        });
    }

    pub(super) fn answer(self) -> Advance {
        let Self { rows, mut out, .. } = self;
        out.members = rows
            .into_iter()
            .filter_map(|row| {
                let after = row.after.filter(|after| row.before != Some(&**after))?;
                Some((row.id.clone(), *after))
            })
            .collect::<BTreeMap<_, _>>();
        out
    }
}

/// Devices that make up `percent` of `asked`, rounded up, at least one.
pub(super) fn needed(asked: usize, percent: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 100 percent of a cohort, rounded up"
    )]
    let share = (percent / 100.0 * asked as f64).ceil() as usize;
    share.max(1)
}

/// A span of world time in hours.
pub(super) fn hours(span: std::time::Duration) -> f64 {
    span.as_secs_f64() / 3600.0
}
