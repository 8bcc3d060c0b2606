//! Whether rows may be captured now: the fleet's wish held against the site's policy. Pure: what it decides is a function
//! of what it is told.

use std::collections::BTreeSet;

use muster_protocol::capture::{CaptureRequest, CaptureStanding};
use muster_protocol::drift::Floor;
use muster_protocol::ids::Digest;
use muster_protocol::limits::FEATURES_MAX;
use muster_protocol::manifest::Signature;
use muster_protocol::time::Timestamp;

use super::policy::Policy;

/// What a request is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub(super) policy: Result<&'a Policy, CaptureStanding>,
    /// What answers in the slot.
    pub(super) answering: Option<(&'a Digest, &'a Signature)>,
    /// Rows that this request has had, and all requests for the slot today.
    pub(super) had: u64,
    pub(super) had_today: u64,
    pub(super) floor: Floor,
    pub(super) clock: Clock,
    pub(super) now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Sound,
    /// It is later than the machine says.
    Suspect,
}

/// What may be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) columns: Vec<Column>,
    pub(super) rows: u64,
}

/// One column of an input, under the name that policy and file give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) tensor: String,
    pub(super) at: usize,
}

pub(super) fn judge(request: &CaptureRequest, moment: &Moment<'_>) -> Result<Allowed, CaptureStanding> {
    let wanted = u64::from(request.rows);
    if moment.had >= wanted {
        return Err(CaptureStanding::Done);
    }
    if moment.now >= request.until {
        return Err(CaptureStanding::Over);
    }
    let policy = moment.policy?;
    if moment.clock == Clock::Suspect {
        return Err(CaptureStanding::ClockSuspect);
    }
    if moment.now >= policy.until {
        return Err(CaptureStanding::SitePolicyOver);
    }
    let slot = policy.slots.get(&request.slot).ok_or(CaptureStanding::SlotNotAllowed)?;
    if wanted < moment.floor.rows() {
        return Err(CaptureStanding::TooFewRows);
    }
    let left_today = slot.rows_per_day.saturating_sub(moment.had_today);
    if left_today == 0 {
        return Err(CaptureStanding::DayFull);
    }
    let answering = moment.answering.filter(|(bundle, _)| **bundle == request.bundle);
    let (_, signature) = answering.ok_or(CaptureStanding::OtherBundle)?;
    let columns = allowed(signature, &slot.columns);
    if columns.is_empty() {
        return Err(CaptureStanding::NoColumns);
    }
    Ok(Allowed { columns, rows: left_today.min(wanted - moment.had) })
}

/// The columns of a bundle's inputs that are allowed by name, in the bundle's order.
fn allowed(signature: &Signature, names: &BTreeSet<String>) -> Vec<Column> {
    let columns = signature.inputs.iter().flat_map(|input| {
        // Names are of a table's columns; elsewhere an element of the row is named by its place.
        let names: &[String] = if input.shape.len() == 2 { &input.features } else { &[] };
        let places = input.shape.iter().skip(1).try_fold(1_i64, |all, &size| all.checked_mul(size));
        let places = places.and_then(|places| usize::try_from(places).ok()).unwrap_or(0);
        let count = if names.is_empty() { places.min(FEATURES_MAX) } else { names.len() };
        (0..count).map(move |at| {
            let name = names.get(at).cloned().unwrap_or_else(|| format!("{}[{at}]", input.name));
            Column { name, tensor: input.name.clone(), at }
        })
    });
    columns.filter(|column| names.contains(&column.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_protocol::capture::{CaptureReason, Sampling};
    use muster_protocol::ids::CaptureId;
    use muster_protocol::manifest::{Datatype, Tensor};

    use super::super::policy::SlotPolicy;
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn request() -> CaptureRequest {
        CaptureRequest {
            id: CaptureId::mint([1; 16]),
            slot: "m".parse().unwrap(),
            bundle: Digest::of(b"bundle"),
            why: CaptureReason::Review,
            rows: 50,
            until: now().plus(HOUR),
            sample: Sampling::Every(1),
        }
    }

    fn policy() -> Policy {
        let columns = ["age", "y[1]"].map(str::to_owned).into();
        let slots = [("m".parse().unwrap(), SlotPolicy { columns, rows_per_day: 20 })].into();
        Policy { recipients: Vec::new(), until: now().plus(HOUR), bytes: 1 << 20, slots }
    }

    fn signature() -> Signature {
        let tensor = |name: &str, features: &[&str]| Tensor {
            name: name.to_owned(),
            datatype: Datatype::Fp32,
            shape: vec![-1, 2],
            features: features.iter().map(|&name| name.to_owned()).collect(),
        };
        Signature { inputs: vec![tensor("x", &["name", "age"]), tensor("y", &[])], outputs: Vec::new() }
    }

    #[test]
    fn both_halves_are_needed_and_every_no_has_its_code() {
        let (bundle, other) = (Digest::of(b"bundle"), Digest::of(b"other"));
        let signature = signature();
        let check = |expect: Result<u64, CaptureStanding>, change: fn(&mut CaptureRequest, &mut Policy)| {
            let (mut request, mut policy) = (request(), policy());
            change(&mut request, &mut policy);
            let moment = Moment {
                policy: Ok(&policy),
                answering: Some((&bundle, &signature)),
                had: 0,
                had_today: 3,
                floor: Floor::LEAST,
                clock: Clock::Sound,
                now: now(),
            };
            assert_eq!(judge(&request, &moment).map(|allowed| allowed.rows), expect);
        };
        check(Ok(17), |_, _| ());
        check(Ok(7), |request, _| request.rows = 7);
        check(Err(CaptureStanding::Over), |request, _| request.until = now());
        check(Err(CaptureStanding::SitePolicyOver), |_, policy| policy.until = now());
        check(Err(CaptureStanding::SlotNotAllowed), |_, policy| policy.slots.clear());
        check(Err(CaptureStanding::SlotNotAllowed), |request, _| request.slot = "n".parse().unwrap());
        check(Err(CaptureStanding::TooFewRows), |request, _| request.rows = 4);
        check(Err(CaptureStanding::DayFull), |_, policy| {
            policy.slots.values_mut().for_each(|slot| slot.rows_per_day = 3);
        });
        check(Err(CaptureStanding::OtherBundle), |request, _| request.bundle = Digest::of(b"other"));
        check(Err(CaptureStanding::NoColumns), |_, policy| {
            policy.slots.values_mut().for_each(|slot| slot.columns = ["y[2]".to_owned()].into());
        });
        let (request, policy) = (request(), policy());
        let moment = Moment {
            policy: Ok(&policy),
            answering: Some((&bundle, &signature)),
            had: 49,
            had_today: 0,
            floor: Floor::LEAST,
            clock: Clock::Sound,
            now: now(),
        };
        let verdict = |moment: &Moment<'_>| judge(&request, moment).map(|allowed| allowed.rows);
        assert_eq!(verdict(&moment), Ok(1));
        assert_eq!(verdict(&Moment { had: 50, ..moment }), Err(CaptureStanding::Done));
        assert_eq!(verdict(&Moment { clock: Clock::Suspect, ..moment }), Err(CaptureStanding::ClockSuspect));
        let none = Err(CaptureStanding::NoSitePolicy);
        assert_eq!(verdict(&Moment { policy: none, ..moment }), Err(CaptureStanding::NoSitePolicy));
        assert_eq!(verdict(&Moment { answering: None, ..moment }), Err(CaptureStanding::OtherBundle));
        let another = Some((&other, &signature));
        assert_eq!(verdict(&Moment { answering: another, ..moment }), Err(CaptureStanding::OtherBundle));
    }

    #[test]
    fn columns_are_allowed_by_name_alone() {
        let names = |allowed: &[&str]| {
            let allowed = allowed.iter().map(|&name| name.to_owned()).collect();
            let found = super::allowed(&signature(), &allowed);
            found.into_iter().map(|column| (column.name, column.tensor, column.at)).collect::<Vec<_>>()
        };
        let own = |name: &str, tensor: &str, at| (name.to_owned(), tensor.to_owned(), at);
        assert_eq!(names(&["age", "y[1]"]), [own("age", "x", 1), own("y[1]", "y", 1)]);
        assert_eq!(names(&["x[0]", "x", "y", "*", "Age"]), []);
    }
}
