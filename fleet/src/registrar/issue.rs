//! What boxes ask for: to join, a fresh certificate, another key.

use std::time::Duration;

use muster_protocol::enrol::{CERTIFICATE_LIFE_DAYS, EnrolState, Enrolled, EnrolmentToken, Facts, VERSION};
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

use super::{Registrar, RegistrarError, say};
use crate::clock::Moment;
use crate::enrolment::{
    self, Approval, Boots, Enrolment, Entry, Identity, Key, Refusal, Standing, Suspicion,
};
use crate::mint;
use crate::pki::PublicKeyInfo;
use crate::store::certificates::Certificate;
use crate::store::log::Actor;
use crate::store::{Control, ControlTx, certificates, enrolments, identities};

/// A certificate with more than this left is given again rather than a new one: a repeated question costs nothing.
const AGAIN: Duration = Duration::from_hours(24 * CERTIFICATE_LIFE_DAYS as u64 / 3);

/// What a box says of itself when it enrols.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub name: &'a str,
    pub facts: &'a Facts,
}

impl Registrar {
    /// Whether anybody ever was given this token; asked before more is done for a stranger.
    pub async fn knows(&self, token: &EnrolmentToken) -> Result<(), RegistrarError> {
        let found = enrolments::by_token(&mut self.store.read().await?, &token.digest()).await?;
        found.map(|_| ()).ok_or(RegistrarError::Refused(Refusal::TokenUnknown))
    }

    /// A box shows a token. The same key gets the same answer, however often it asks.
    pub async fn enrol(
        &self,
        token: &EnrolmentToken,
        asked: Asked<'_>,
        key: &PublicKeyInfo,
    ) -> Result<Enrolled, RegistrarError> {
        // Those who wait ask often, and those who guess are strangers: neither may keep a writer waiting.
        let now = self.clocks.trust.now();
        if let (_, Some(identity), Entry::Waits) =
            self.look(&mut self.store.read().await?, token, key, now).await?
        {
            return Ok(pending(&identity));
        }
        let _turn = self.turn.lock().await;
        let moment = self.clocks.moment();
        let mut tx = self.store.write().await?;
        let (enrolment, known, entry) = self.look(&mut tx, token, key, moment.at).await?;
        let identity = match (entry, known) {
            (Entry::Waits, Some(identity)) => return Ok(pending(&identity)),
            (Entry::Member, Some(identity)) => identity,
            (Entry::Joins(approval), _) => join(&mut tx, moment, &enrolment, approval, asked, key).await?,
            // The mind knows of an identity only what it was shown.
            (Entry::Waits | Entry::Member, None) => return Err(RegistrarError::NoDevice),
        };
        if identity.standing == Standing::Pending {
            self.commit(tx).await?;
            return Ok(pending(&identity));
        }
        let answer = self.active(&mut tx, moment.at, &identity, key).await?;
        self.commit(tx).await?;
        self.admission.admit(identity.device);
        Ok(answer)
    }

    /// Whether [`Self::renew`] would be refused as things are now.
    pub async fn may_renew(&self, key: &PublicKeyInfo) -> Result<(), RegistrarError> {
        let known = identities::by_key(&mut self.store.read().await?, key.fingerprint).await?;
        enrolment::renew(known.as_ref()).map_err(RegistrarError::Refused)
    }

    /// A certificate for whoever holds a registered key. Asks for no other proof: to anybody else it is worthless.
    pub async fn renew(&self, key: &PublicKeyInfo) -> Result<Enrolled, RegistrarError> {
        let _turn = self.turn.lock().await;
        let mut tx = self.store.write().await?;
        let known = identities::by_key(&mut tx, key.fingerprint).await?;
        enrolment::renew(known.as_ref()).map_err(RegistrarError::Refused)?;
        let Some(identity) = known else { return Err(RegistrarError::NoDevice) };
        let answer = self.active(&mut tx, self.clocks.trust.now(), &identity, key).await?;
        self.commit(tx).await?;
        Ok(answer)
    }

    /// Makes `key` the registered one of a device that proved, by its connection, to hold `shown`.
    pub async fn rekey(
        &self,
        device: &DeviceId,
        shown: &PublicKeyInfo,
        key: &PublicKeyInfo,
    ) -> Result<Enrolled, RegistrarError> {
        let _turn = self.turn.lock().await;
        let moment = self.clocks.moment();
        let mut tx = self.store.write().await?;
        let known = identities::get(&mut tx, device).await?;
        let owner = identities::by_key(&mut tx, key.fingerprint).await?.map(|owner| owner.device);
        enrolment::rekey(known.as_ref(), shown.fingerprint, key.fingerprint, owner.as_ref())
            .map_err(RegistrarError::Refused)?;
        let Some(mut identity) = known else { return Err(RegistrarError::NoDevice) };
        let news = identity.key.fingerprint != key.fingerprint;
        let retired = identity.change_key(shown.fingerprint, registered(key));
        for old in &retired {
            certificates::revoke_of_key(&mut tx, device, *old, moment.at).await?;
        }
        identities::save(&mut tx, &identity).await?;
        if news {
            let sentence = format!("{} has the new key {}", identity.name, key.fingerprint);
            let actor = Actor::Device(device.clone());
            say(&mut tx, moment, device, ("identity.rekeyed", sentence), actor).await?;
        }
        let answer = self.active(&mut tx, moment.at, &identity, key).await?;
        self.commit(tx).await?;
        if !retired.is_empty() {
            self.list_revoked().await;
        }
        Ok(answer)
    }

    async fn look(
        &self,
        db: &mut Control,
        token: &EnrolmentToken,
        key: &PublicKeyInfo,
        now: Timestamp,
    ) -> Result<(Enrolment, Option<Identity>, Entry), RegistrarError> {
        let enrolment = enrolments::by_token(db, &token.digest()).await?;
        let known = identities::by_key(db, key.fingerprint).await?;
        let entry = enrolment::enter(enrolment.as_ref(), known.as_ref(), key.fingerprint, now)
            .map_err(RegistrarError::Refused)?;
        let enrolment = enrolment.ok_or(RegistrarError::Refused(Refusal::TokenUnknown))?;
        Ok((enrolment, known, entry))
    }

    /// The answer with a certificate: the newest again while it is good for long, else a new one.
    async fn active(
        &self,
        tx: &mut ControlTx,
        now: Timestamp,
        identity: &Identity,
        key: &PublicKeyInfo,
    ) -> Result<Enrolled, RegistrarError> {
        let newest = certificates::newest(tx, &identity.device, key.fingerprint).await?;
        let certificate = match newest {
            Some(found) if found.expires > now.plus(AGAIN) && self.signs_still(&found.pem) => found.pem,
            Some(_) | None => {
                let issued = self.pki.issue(&identity.device, key, now)?;
                let row = Certificate {
                    serial: issued.serial,
                    device: identity.device.clone(),
                    key: key.fingerprint,
                    issued: now,
                    expires: issued.expires,
                    pem: issued.pem,
                };
                certificates::add(tx, &row).await?;
                row.pem
            }
        };
        let state = EnrolState::Active { certificate, mqtt: self.places.mqtt.clone() };
        Ok(Enrolled { v: VERSION, device: identity.device.clone(), fingerprint: key.fingerprint, state })
    }

    /// Whether a certificate is of the authority that signs now; after its replacement everybody shall come over.
    fn signs_still(&self, pem: &str) -> bool {
        let authority = pem.rfind("-----BEGIN").map(|at| pem[at..].trim_end());
        authority.is_some_and(|authority| self.pki.device_cas_pem().trim_end().ends_with(authority))
    }
}

/// Spends a use of the token on a new device.
async fn join(
    tx: &mut ControlTx,
    moment: Moment,
    enrolment: &Enrolment,
    approval: Approval,
    asked: Asked<'_>,
    key: &PublicKeyInfo,
) -> Result<Identity, RegistrarError> {
    if !enrolments::spend(tx, &enrolment.id).await? {
        return Err(RegistrarError::Refused(Refusal::TokenUsedUp));
    }
    let name = asked.name.trim().to_owned();
    let fingerprint = key.fingerprint;
    let (standing, kind, sentence) = match approval {
        Approval::Manual => (
            Standing::Pending,
            "identity.pending",
            format!(
                "{name} asks to join {} with the key {fingerprint}; compare it at the box",
                enrolment.site
            ),
        ),
        Approval::Auto => (
            Standing::Active,
            "identity.accepted",
            format!(
                "{name} joined {} with the key {fingerprint}; its file accepts by itself",
                enrolment.site
            ),
        ),
    };
    let device = DeviceId::mint(mint::random()?);
    let identity = Identity {
        device: device.clone(),
        name,
        site: enrolment.site.clone(),
        key: registered(key),
        former: None,
        standing,
        since: moment.at,
        facts: asked.facts.clone(),
        enrolment: Some(enrolment.id.clone()),
        enrolled: moment.at,
        boots: Boots::default(),
        suspicion: Suspicion::default(),
    };
    identities::save(tx, &identity).await?;
    say(tx, moment, &device, (kind, sentence), Actor::Device(device.clone())).await?;
    Ok(identity)
}

fn registered(key: &PublicKeyInfo) -> Key {
    Key { fingerprint: key.fingerprint, spki: key.spki_der.clone() }
}

fn pending(identity: &Identity) -> Enrolled {
    Enrolled {
        v: VERSION,
        device: identity.device.clone(),
        fingerprint: identity.key.fingerprint,
        state: EnrolState::Pending,
    }
}
