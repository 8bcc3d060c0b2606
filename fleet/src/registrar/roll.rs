//! The register as a file: what must survive the loss of the database. A device is its key, so with its key, id, name and
//! site in a new database it comes back by renewing, and nobody walks to a box.
//!
//! It holds no secret. Whoever can change it can make a member of any key, so it belongs where backups are kept.

use muster_protocol::enrol::{Facts, VERSION};
use muster_protocol::ids::{DeviceId, SiteName};
use serde::{Deserialize, Serialize};

use super::decide::{said, settle};
use super::say;
use crate::clock::Moment;
use crate::enrolment::{Boots, Identity, Key, Standing, StandingName, Suspicion, Verb};
use crate::pki::{CsrError, PublicKeyInfo};
use crate::store::log::Actor;
use crate::store::{ControlTx, NewestFirst, Page, Store, StoreError, identities};

const STEP: u32 = 1000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Roll {
    pub v: u8,
    pub identities: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub device: DeviceId,
    pub name: String,
    pub site: SiteName,
    /// DER of the key's `SubjectPublicKeyInfo`, hexadecimal.
    pub spki: String,
    /// `active`, `quarantined` or `revoked`; who only asked, asks again.
    pub state: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default)]
    pub facts: Facts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub added: usize,
    /// Known already, and left as they were.
    pub known: usize,
    /// Known already, and barred or set apart now because the file says so.
    pub changed: usize,
    /// Names of those of the known that have another key in the file: the database's stays.
    pub other_key: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RollError {
    #[error("it is not the JSON of an export of identities")]
    Json(#[source] serde_json::Error),
    #[error("version {0} is not understood here; use the muster-fleet that wrote it, or a newer one")]
    Version(u8),
    #[error("the entry of {device} is wrong: {problem}")]
    Line { device: DeviceId, problem: String },
    #[error("the key of {device} cannot be used")]
    Key {
        device: DeviceId,
        #[source]
        source: CsrError,
    },
    #[error("the key of {device} belongs to {owner} in the database; nothing was imported")]
    Conflict { device: DeviceId, owner: DeviceId },
    #[error("the database failed")]
    Store(#[from] StoreError),
}

impl Roll {
    pub fn from_json(bytes: &[u8]) -> Result<Self, RollError> {
        let roll: Self = serde_json::from_slice(bytes).map_err(RollError::Json)?;
        if roll.v == VERSION { Ok(roll) } else { Err(RollError::Version(roll.v)) }
    }
}

/// Every device that is or was a member.
pub async fn export(store: &Store) -> Result<Roll, StoreError> {
    let mut db = store.read().await?;
    let mut lines = Vec::new();
    let mut page = Page::<NewestFirst>::first(STEP);
    loop {
        let found = identities::list(&mut db, identities::IdentityFilter::default(), &page).await?;
        let last = found.last().map(|last| NewestFirst { at: last.enrolled, id: last.device.to_string() });
        lines.extend(found.into_iter().filter_map(line));
        match last {
            Some(last) => page = Page::after(last, STEP),
            None => return Ok(Roll { v: VERSION, identities: lines }),
        }
    }
}

/// All of it, or nothing. Of a device that is known the stricter word holds: the database may be a backup from before it was
/// revoked, or the file older than that, and neither may let it in again. Nor does a file bring a key back: a box that changed
/// it since may have done so because somebody had copied the old one.
pub async fn import(store: &Store, roll: &Roll, moment: Moment, actor: Actor) -> Result<Imported, RollError> {
    let mut imported = Imported::default();
    let mut tx = store.write().await?;
    for line in &roll.identities {
        let identity = identity(line, moment)?;
        let owner = identities::by_key(&mut tx, identity.key.fingerprint).await?;
        if let Some(owner) = owner.filter(|owner| owner.device != identity.device) {
            return Err(RollError::Conflict { device: identity.device, owner: owner.device });
        }
        let Some(here) = identities::get(&mut tx, &identity.device).await? else {
            identities::save(&mut tx, &identity).await?;
            let sentence = format!("{} was imported with the key {}", line.name, identity.key.fingerprint);
            say(&mut tx, moment, &line.device, ("identity.imported", sentence), actor.clone()).await?;
            imported.added += 1;
            continue;
        };
        if here.key.fingerprint != identity.key.fingerprint {
            imported.other_key.push(here.name.clone());
        }
        match stricter(&here.standing, &identity.standing) {
            None => imported.known += 1,
            Some(decided) => {
                bar(&mut tx, moment, here, decided, actor.clone()).await?;
                imported.changed += 1;
            }
        }
    }
    tx.commit().await?;
    store.persist().await?;
    Ok(imported)
}

/// What must be decided about a device so that it stands no better than in the file, and where that leads.
fn stricter(here: &Standing, file: &Standing) -> Option<(Verb, Standing)> {
    let verb = match (here, file) {
        (Standing::Pending, Standing::Revoked { reason }) => Verb::Reject { reason: reason.clone() },
        (_, Standing::Revoked { reason }) => Verb::Revoke { reason: reason.clone() },
        (_, Standing::Quarantined { reason }) => Verb::Quarantine { reason: reason.clone() },
        (_, Standing::Pending | Standing::Active | Standing::Rejected { .. }) => return None,
    };
    // From where it stands as strictly already there is no such way.
    let next = here.after(verb.clone()).ok()?;
    Some((verb, next))
}

/// As a person would; the list of revoked certificates is written at the next start.
async fn bar(
    tx: &mut ControlTx,
    moment: Moment,
    mut here: Identity,
    decided: (Verb, Standing),
    actor: Actor,
) -> Result<(), StoreError> {
    let (kind, sentence) = said(&here, &decided.0);
    settle(tx, moment, &mut here, decided, (kind, format!("{sentence} (as imported)")), actor).await
}

fn line(identity: Identity) -> Option<Line> {
    let state = identity.standing.name();
    match state {
        StandingName::Pending | StandingName::Rejected => return None,
        StandingName::Active | StandingName::Quarantined | StandingName::Revoked => {}
    }
    Some(Line {
        device: identity.device,
        name: identity.name,
        site: identity.site,
        spki: hex::encode(identity.key.spki),
        state: state.to_string(),
        reason: identity.standing.reason().to_owned(),
        facts: identity.facts,
    })
}

fn identity(line: &Line, moment: Moment) -> Result<Identity, RollError> {
    let wrong = |problem: String| RollError::Line { device: line.device.clone(), problem };
    let state: StandingName = line.state.parse().map_err(|error| wrong(format!("{error}")))?;
    if matches!(state, StandingName::Pending | StandingName::Rejected) {
        return Err(wrong(format!("{state} is no state of a member")));
    }
    if line.name.trim().is_empty() || line.name.len() > 64 || line.name.chars().any(char::is_control) {
        return Err(wrong("its name must be 1 to 64 bytes without control characters".to_owned()));
    }
    let spki = hex::decode(&line.spki).map_err(|_| wrong("its key is not hexadecimal".to_owned()))?;
    let key = PublicKeyInfo::from_spki(&spki)
        .map_err(|source| RollError::Key { device: line.device.clone(), source })?;
    Ok(Identity {
        device: line.device.clone(),
        name: line.name.clone(),
        site: line.site.clone(),
        key: Key { fingerprint: key.fingerprint, spki },
        former: None,
        standing: state.because(line.reason.clone()),
        since: moment.at,
        facts: line.facts.clone(),
        enrolment: None,
        enrolled: moment.at,
        boots: Boots::default(),
        suspicion: Suspicion::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_word_holds() {
        use StandingName::{Active, Pending, Quarantined, Rejected, Revoked};
        let check = |here: StandingName, file: StandingName, expect: Option<StandingName>| {
            let here = here.because("here".to_owned());
            let found = stricter(&here, &file.because("file".to_owned()));
            if let Some((_, next)) = &found {
                assert_eq!(next.reason(), "file");
            }
            assert_eq!(found.map(|(_, next)| next.name()), expect, "{here:?} and {file} in the file");
        };
        for file in StandingName::ALL {
            for here in [Rejected, Revoked] {
                check(here, file, None);
            }
        }
        for here in StandingName::ALL {
            check(here, Active, None);
        }
        check(Active, Quarantined, Some(Quarantined));
        check(Active, Revoked, Some(Revoked));
        check(Quarantined, Quarantined, None);
        check(Quarantined, Revoked, Some(Revoked));
        check(Pending, Quarantined, None);
        check(Pending, Revoked, Some(Rejected));
    }
}
