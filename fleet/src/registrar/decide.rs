//! What people decide about devices. Each decision is one commit with its reason in the log; what must hold at once
//! follows in the same deed.

use std::sync::Arc;

use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::DeviceId;
use muster_protocol::topic::{Down, Topic};

use super::{Registrar, RegistrarError, say};
use crate::clock::Moment;
use crate::enrolment::{Identity, Standing, Suspicion, Verb};
use crate::store::log::Actor;
use crate::store::outbox::{self, Message};
use crate::store::{ControlTx, StoreError, certificates, devices, identities, orders};

impl Registrar {
    /// Moves a device to where the verb leads. `compared` is the fingerprint that the person saw at the box, if they say
    /// so: another one is refused, whatever the verb. Once begun it comes to its end, also if nobody waits for it any more.
    pub async fn decide(
        self: &Arc<Self>,
        device: &DeviceId,
        verb: Verb,
        compared: Option<Compared<'_>>,
        actor: Actor,
    ) -> Result<Identity, RegistrarError> {
        let (own, device) = (Arc::clone(self), device.clone());
        let compared = compared.map(|Compared(typed)| typed.to_owned());
        let deed = async move { own.carry_out(&device, verb, compared.as_deref(), actor).await };
        self.deeds.spawn(deed).await?
    }

    async fn carry_out(
        &self,
        device: &DeviceId,
        verb: Verb,
        compared: Option<&str>,
        actor: Actor,
    ) -> Result<Identity, RegistrarError> {
        let _turn = self.turn.lock().await;
        let moment = self.clocks.moment();
        let mut tx = self.store.write().await?;
        let mut identity = identities::get(&mut tx, device).await?.ok_or(RegistrarError::NoDevice)?;
        if compared.is_some_and(|typed| !Compared(typed).is(identity.key.fingerprint)) {
            return Err(RegistrarError::OtherKey { is: identity.key.fingerprint });
        }
        let next = identity.standing.after(verb.clone())?;
        let said = said(&identity, &verb);
        settle(&mut tx, moment, &mut identity, (verb, next), said, actor).await?;
        tx.commit().await?;
        let may_connect = identity.standing.may_connect();
        // At once, and whatever becomes of the disk: the database bars it from here on.
        if !may_connect {
            self.admission.bar(device);
        }
        let persisted = self.store.persist().await;
        if matches!(identity.standing, Standing::Revoked { .. }) {
            self.list_revoked().await;
        }
        persisted?;
        if may_connect {
            self.admission.admit(device.clone());
        }
        Ok(identity)
    }

    /// A person has looked at what speaks against a device, and finds it right. What the machine is now becomes what it
    /// is measured by.
    pub async fn dismiss(
        &self,
        device: &DeviceId,
        reason: &str,
        actor: Actor,
    ) -> Result<Identity, RegistrarError> {
        let moment = self.clocks.moment();
        let mut tx = self.store.write().await?;
        let mut identity = identities::get(&mut tx, device).await?.ok_or(RegistrarError::NoDevice)?;
        let doubt = identity.suspicion.sentence().ok_or(RegistrarError::NoDoubt)?;
        clear(&mut identity);
        identities::save(&mut tx, &identity).await?;
        let sentence = format!("{}: the suspicion was dismissed: {reason} ({doubt})", identity.name);
        say(&mut tx, moment, device, ("identity.dismissed", sentence), actor).await?;
        self.commit(tx).await?;
        Ok(identity)
    }
}

/// A fingerprint as a person types it: the eight groups that are shown, or all 64 digits, with or without dashes.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a>(pub &'a str);

impl Compared<'_> {
    fn is(self, fingerprint: Fingerprint) -> bool {
        let bare = |text: &str| -> String {
            text.chars().filter(|c| !matches!(c, '-' | ':' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
        };
        let typed = bare(self.0);
        typed == bare(&fingerprint.to_string()) || typed == fingerprint.digest().to_string()
    }
}

/// Writes where a verb leads a device, with what follows from that in the database, and says it in the log.
pub(super) async fn settle(
    tx: &mut ControlTx,
    moment: Moment,
    identity: &mut Identity,
    (verb, next): (Verb, Standing),
    said: (&'static str, String),
    actor: Actor,
) -> Result<(), StoreError> {
    identity.standing = next;
    identity.since = moment.at;
    match verb {
        Verb::Release { .. } => {
            clear(identity);
            hand_again(tx, &identity.device).await?;
        }
        Verb::Revoke { .. } => {
            certificates::revoke_of_device(tx, &identity.device, moment.at).await?;
            forget_order(tx, &identity.device).await?;
            devices::gone(tx, &identity.device, moment.at).await?;
        }
        Verb::Accept | Verb::Reject { .. } | Verb::Quarantine { .. } => {}
    }
    identities::save(tx, identity).await?;
    say(tx, moment, &identity.device, said, actor).await
}

fn clear(identity: &mut Identity) {
    if let Some(facts) = identity.suspicion.facts.take() {
        identity.facts = facts;
    }
    identity.suspicion = Suspicion::default();
}

/// What was wished for it while it stood apart was kept, and is handed to it now.
async fn hand_again(tx: &mut ControlTx, device: &DeviceId) -> Result<(), StoreError> {
    let Some(order) = orders::get(tx, device).await? else { return Ok(()) };
    let topic = Topic::Down(device.clone(), Down::Order);
    outbox::push(tx, &Message { topic, payload: order.bytes, retain: true }).await
}

/// An empty retained message makes the broker forget it.
async fn forget_order(tx: &mut ControlTx, device: &DeviceId) -> Result<(), StoreError> {
    if orders::remove(tx, device).await? {
        let topic = Topic::Down(device.clone(), Down::Order);
        outbox::push(tx, &Message { topic, payload: Vec::new(), retain: true }).await?;
    }
    Ok(())
}

/// Kind and sentence of a decision's entry in the log.
pub(super) fn said(identity: &Identity, verb: &Verb) -> (&'static str, String) {
    let (kind, what) = match verb {
        Verb::Accept => ("identity.accepted", "was accepted"),
        Verb::Reject { .. } => ("identity.rejected", "was rejected"),
        Verb::Quarantine { .. } => ("identity.quarantined", "was quarantined"),
        Verb::Release { .. } => ("identity.released", "was released"),
        Verb::Revoke { .. } => ("identity.revoked", "was revoked, for good"),
    };
    let sentence = match verb {
        Verb::Accept => format!("{} {what} with the key {}", identity.name, identity.key.fingerprint),
        Verb::Reject { .. } | Verb::Quarantine { .. } | Verb::Release { .. } | Verb::Revoke { .. } => {
            let reason = verb.reason();
            let colon = if reason.is_empty() { "" } else { ": " };
            format!("{} {what}{colon}{reason}", identity.name)
        }
    };
    (kind, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_compared_as_people_type_them() {
        let fingerprint = Fingerprint::of(b"key");
        let shown = fingerprint.to_string();
        let whole = fingerprint.digest().to_string();
        let check =
            |typed: &str, expect: bool| assert_eq!(Compared(typed).is(fingerprint), expect, "{typed}");
        check(&shown, true);
        check(&shown.to_uppercase(), true);
        check(&shown.replace('-', ""), true);
        check(&shown.replace('-', " "), true);
        check(&whole, true);
        check(&whole[..40], false);
        check(&shown[..34], false);
        check("", false);
        check(&Fingerprint::of(b"other").to_string(), false);
    }
}
