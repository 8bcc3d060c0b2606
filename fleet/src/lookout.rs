//! Looks for what needs a person: the one place that says so, for the overview and for mail.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::ids::SiteName;
use muster_protocol::message::Phase;
use muster_protocol::time::Timestamp;

use crate::clock::WorldClock;
use crate::drift::{Incident, Kind as DriftKind};
use crate::enrolment::{Identity, Standing, StandingName};
use crate::needs::book::Book;
use crate::needs::{Detail, Kind, Need, Needs, Owner, Urgency};
use crate::retrain::{Policy, RolloutPolicy, Run, RunState};
use crate::rollout::{Phase as RolloutPhase, Rollout};
use crate::sight::Sight;
use crate::store::devices::Device;
use crate::store::identities::IdentityFilter;
use crate::store::{
    Control, Page, StoreError, Versioned, devices, glances, identities, incidents, mail, policies, rollouts,
    runs,
};

/// A box may restart before anybody is told, real time.
const SILENT: Duration = Duration::from_mins(1);
/// The newest runs that are looked at.
const RUNS: u32 = 500;
/// Things of a kind that are read before they are told apart by whose they are.
const READ: u32 = 5000;
/// Mail that is not delivered for so long is for a person to look at, real time.
const UNDELIVERED_MS: i64 = 3_600_000;

type Result<T> = std::result::Result<T, StoreError>;

/// What needs a person, the most pressing kind first; up to `limit` of each.
pub(crate) async fn needs(
    db: &mut Control,
    world: WorldClock,
    sight: &Sight,
    limit: usize,
    now: Timestamp,
) -> Result<Needs> {
    let mut needs = Needs::default();
    doubted(db, sight, limit, &mut needs).await?;
    needs.add(untold(db, sight, now).await?, limit);
    knocking(db, sight, limit, &mut needs).await?;
    undecided(db, world, sight, limit, &mut needs).await?;
    drifting(db, world, sight, limit, &mut needs).await?;
    needs.add(retrained(db, world, sight).await?, limit);
    unwell(db, sight, limit, now, &mut needs).await?;
    Ok(needs)
}

/// Members whose key seems to be where it should not be.
async fn doubted(db: &mut Control, sight: &Sight, limit: usize, needs: &mut Needs) -> Result<()> {
    let filter = IdentityFilter { state: None, suspect: true };
    let found = identities::list(db, filter, &Page::first(READ)).await?;
    let need = |identity: Identity| {
        let (Standing::Active | Standing::Quarantined { .. }, Some(detail)) =
            (&identity.standing, identity.suspicion.sentence())
        else {
            return None;
        };
        Some(Need {
            kind: Kind::DeviceSuspect,
            id: identity.device.to_string(),
            mark: String::new(),
            owner: Owner::Site(identity.site),
            urgency: Urgency::Urgent,
            title: format!("{} may not be the only one with its key", identity.name),
            detail: Detail::Ours(detail),
            since: identity.suspicion.since().unwrap_or(identity.since),
            link: format!("/devices/{}", identity.device),
            fingerprint: None,
        })
    };
    add(needs, Kind::DeviceSuspect, found, need, sight, limit);
    Ok(())
}

/// Lists of people whom no mail reaches.
async fn untold(db: &mut Control, sight: &Sight, now: Timestamp) -> Result<Vec<Need>> {
    let books = mail::all::<Book>(db).await?;
    let need = |(list, book): (String, Book)| {
        let trouble = book.trouble()?;
        let long = now.as_millis().saturating_sub(trouble.since.as_millis()) >= UNDELIVERED_MS;
        let whom = if list == "*" {
            "about the whole fleet".to_owned()
        } else {
            format!("about the project {list}")
        };
        (long && sight.fleet()).then(|| Need {
            kind: Kind::MailUndelivered,
            id: list,
            mark: String::new(),
            owner: Owner::Fleet,
            urgency: Urgency::Usual,
            title: format!("Mail {whom} is not delivered"),
            detail: Detail::Ours(format!("the relay says: {}", trouble.why)),
            since: trouble.since,
            link: "/".to_owned(),
            fingerprint: None,
        })
    };
    Ok(books.into_iter().filter_map(need).collect())
}

/// Boxes that ask to join.
async fn knocking(db: &mut Control, sight: &Sight, limit: usize, needs: &mut Needs) -> Result<()> {
    let filter = IdentityFilter { state: Some(StandingName::Pending), suspect: false };
    let pending = identities::list(db, filter, &Page::first(READ)).await?;
    let need = |identity: Identity| {
        Some(Need {
            kind: Kind::DevicePending,
            id: identity.device.to_string(),
            mark: String::new(),
            title: format!("{} asks to join {}", identity.name, identity.site),
            owner: Owner::Site(identity.site),
            urgency: Urgency::Usual,
            detail: Detail::Ours(
                "compare the fingerprint with the one that the box shows, then accept or reject it"
                    .to_owned(),
            ),
            since: identity.since,
            link: "/".to_owned(),
            fingerprint: Some(identity.key.fingerprint.to_string()),
        })
    };
    add(needs, Kind::DevicePending, pending, need, sight, limit);
    Ok(())
}

/// Rollouts that somebody has to decide about.
async fn undecided(
    db: &mut Control,
    world: WorldClock,
    sight: &Sight,
    limit: usize,
    needs: &mut Needs,
) -> Result<()> {
    for (phase, kind) in [("held", Kind::RolloutHeld), ("proposed", Kind::RolloutProposed)] {
        let found = rollouts::list::<Rollout>(db, None, Some(phase), &Page::first(READ)).await?;
        add(needs, kind, found, |found| decision(found.document, world), sight, limit);
    }
    Ok(())
}

fn decision(rollout: Rollout, world: WorldClock) -> Option<Need> {
    let what = format!("{} {}", rollout.model, rollout.bundle.path.version());
    let (kind, since, urgency, title, detail) = match &rollout.phase {
        RolloutPhase::Held { since, cause, .. } => {
            // Its gate failed, and its plan keeps it where it is: boxes go on with what did not pass.
            let urgency = if cause.code.starts_with("gate_") { Urgency::Urgent } else { Urgency::Usual };
            let title = format!("The rollout of {what} waits for you");
            (Kind::RolloutHeld, *since, urgency, title, cause.sentence.clone())
        }
        RolloutPhase::Proposed { since } => {
            let (given, needed) = (rollout.approvals.len(), rollout.plan.approvals_min);
            let title = format!("The rollout of {what} waits for approval");
            let detail = format!("{given} of {needed} people have agreed; until then no box changes");
            (Kind::RolloutProposed, *since, Urgency::Usual, title, detail)
        }
        RolloutPhase::Scheduled { .. }
        | RolloutPhase::Running { .. }
        | RolloutPhase::Paused { .. }
        | RolloutPhase::RollingBack { .. }
        | RolloutPhase::RolledBack { .. }
        | RolloutPhase::Aborting { .. }
        | RolloutPhase::Aborted { .. }
        | RolloutPhase::Superseded { .. }
        | RolloutPhase::Completed { .. } => return None,
    };
    Some(Need {
        kind,
        id: rollout.id.to_string(),
        mark: since.as_millis().to_string(),
        owner: Owner::Model(rollout.model),
        urgency,
        title,
        detail: Detail::Ours(detail),
        since: world.real(since),
        link: format!("/rollouts/{}", rollout.id),
        fingerprint: None,
    })
}

async fn drifting(
    db: &mut Control,
    world: WorldClock,
    sight: &Sight,
    limit: usize,
    needs: &mut Needs,
) -> Result<()> {
    let open = incidents::list::<Incident>(db, None, Some("open"), &Page::first(READ)).await?;
    let need = |Versioned { document: incident, .. }: Versioned<Incident>| {
        let urgency = match incident.kind {
            // Answers are made of it at this moment, and it can be mended at once.
            DriftKind::DataQuality => Urgency::Urgent,
            // Days in the making; nothing is lost by morning.
            DriftKind::SiteDiffers
            | DriftKind::KnownSeason
            | DriftKind::DeviceFault
            | DriftKind::SiteChange
            | DriftKind::Performance
            | DriftKind::NewRegime => Urgency::Usual,
        };
        Some(Need {
            kind: Kind::IncidentOpen,
            id: incident.id.to_string(),
            mark: String::new(),
            owner: Owner::Model(incident.model.clone()),
            urgency,
            title: format!("{}: {}", incident.model, incident.kind.said()),
            detail: Detail::Ours(incident.sentence()),
            since: world.real(incident.opened),
            link: "/drift".to_owned(),
            fingerprint: None,
        })
    };
    add(needs, Kind::IncidentOpen, open, need, sight, limit);
    Ok(())
}

/// Of each model the newest run, where it failed or where its bundle waits for a person.
async fn retrained(db: &mut Control, world: WorldClock, sight: &Sight) -> Result<Vec<Need>> {
    let newest = runs::list::<Run>(db, None, None, &Page::first(RUNS)).await?;
    let mut seen = BTreeSet::new();
    let mut needs = Vec::new();
    for run in newest.into_iter().map(|run| run.document) {
        if !sight.model(&run.model) || !seen.insert(run.model.clone()) {
            continue;
        }
        let (kind, mark, title, detail) = match &run.state {
            RunState::Published { bundle, .. } if run.rollout.is_none() => {
                let policy = policies::get::<Policy>(db, &run.model).await?.map(|policy| policy.document);
                let why = match policy {
                    Some(Policy { enabled: true, rollout: RolloutPolicy::Automatic { .. }, .. }) => continue,
                    Some(Policy { rollout: RolloutPolicy::Automatic { .. }, .. }) => {
                        "no rollout follows while its policy is disabled"
                    }
                    Some(_) | None => "its policy leaves the rollout to you",
                };
                let detail = format!("{} was published; {why}", bundle.path);
                let title = format!("A retrained {} waits for its rollout", run.model);
                (Kind::Approval, "rollout", title, Detail::Ours(detail))
            }
            RunState::Candidate { bundle, people, approved, .. } => {
                let detail = format!("{}: {} of {people} people have agreed", bundle.path, approved.len());
                let title = format!("A retrained {} waits for approval", run.model);
                (Kind::Approval, "approval", title, Detail::Ours(detail))
            }
            RunState::Failed { cause } => {
                let title = format!("The retraining of {} failed", run.model);
                (Kind::RetrainFailed, "", title, Detail::Theirs(cause.sentence.clone()))
            }
            RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Cancelled { .. }
            | RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. } => continue,
        };
        let since = run.timeline.last().map_or_else(|| world.real(run.created), |step| step.at);
        needs.push(Need {
            kind,
            id: run.id.to_string(),
            mark: mark.to_owned(),
            owner: Owner::Model(run.model),
            urgency: Urgency::Usual,
            title,
            detail,
            since,
            link: format!("/runs/{}", run.id),
            fingerprint: None,
        });
    }
    Ok(needs)
}

/// Members that ail, by site: those that cannot run what they should, and those that are away for a minute.
async fn unwell(
    db: &mut Control,
    sight: &Sight,
    limit: usize,
    now: Timestamp,
    needs: &mut Needs,
) -> Result<()> {
    let sites = visible(db, sight).await?;
    // One more than is wanted says that there are more.
    let most = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let failing = glances::failing(db, sites.as_ref(), most).await?;
    let away = glances::silent(db, sites.as_ref(), now.minus(SILENT), most).await?;
    for (ids, need) in [(failing, cannot as fn(&Device) -> Option<Need>), (away, silent)] {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(devices::get(db, &id).await?.as_ref().and_then(need));
        }
        needs.add(found, limit);
    }
    Ok(())
}

/// The sites whose devices somebody may see; nothing where that is all of them.
pub(crate) async fn visible(db: &mut Control, sight: &Sight) -> Result<Option<BTreeSet<SiteName>>> {
    match sight {
        Sight::All => Ok(None),
        Sight::Some(_) => {
            let mut sites = glances::sites(db).await?;
            sites.retain(|site| sight.site(site));
            Ok(Some(sites))
        }
    }
}

fn cannot(device: &Device) -> Option<Need> {
    let state = device.state.as_ref()?;
    let failed = state.slots.iter().filter_map(|slot| match &slot.phase {
        Phase::Failed { bundle, sentence, .. } | Phase::Stopped { bundle, sentence, .. } => {
            let what = format!("{} {}", slot.slot, bundle.path.version());
            Some((format!("{what}: {sentence}"), what, slot.current.is_none()))
        }
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. } => None,
    });
    let refused = state
        .refusal
        .as_ref()
        .map(|refusal| (format!("it refuses its order: {}", refusal.sentence), "order".to_owned(), false));
    let worst = failed.min_by_key(|(.., is_mute)| !is_mute);
    let (detail, mark, is_mute) = worst.or(refused)?;
    Some(Need {
        kind: Kind::ActivationFailed,
        id: device.id.to_string(),
        mark,
        owner: Owner::Site(device.site.clone()),
        // What ran before goes on, unless there is nothing.
        urgency: if is_mute { Urgency::Urgent } else { Urgency::Usual },
        title: format!("{} cannot run what it should", device.name),
        detail: Detail::Ours(detail),
        since: state.at,
        link: format!("/devices/{}", device.id),
        fingerprint: None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "as the other ailment's, of which not every device has one")]
fn silent(device: &Device) -> Option<Need> {
    Some(Need {
        kind: Kind::DeviceSilent,
        id: device.id.to_string(),
        mark: String::new(),
        owner: Owner::Site(device.site.clone()),
        urgency: Urgency::Usual,
        title: format!("{} is offline", device.name),
        detail: Detail::Ours("it keeps answering its ward by itself; orders wait for it".to_owned()),
        since: device.presence_since,
        link: format!("/devices/{}", device.id),
        fingerprint: None,
    })
}

/// Adds what is somebody's. As many as can be read mean that there may be more.
fn add<T>(
    needs: &mut Needs,
    kind: Kind,
    found: Vec<T>,
    need: impl Fn(T) -> Option<Need>,
    sight: &Sight,
    limit: usize,
) {
    if found.len() >= READ as usize {
        needs.cut.insert(kind);
    }
    needs.add(found.into_iter().filter_map(need).filter(|need| sight.owner(&need.owner)), limit);
}
