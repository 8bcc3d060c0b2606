//! Enrolment files: made for people who set up boxes, each with a fresh token that only the file holds.

use std::time::Duration;

use muster_protocol::enrol::{EnrolmentFile, EnrolmentToken, VERSION};
use muster_protocol::ids::{EnrolmentId, SiteName};
use serde_json::Value;

use super::{Registrar, RegistrarError, say_of};
use crate::enrolment::{Approval, Enrolment};
use crate::mint;
use crate::store::log::Actor;
use crate::store::{Control, enrolments, trust_files};

/// What a person asks for.
#[derive(Clone, Debug)]
pub struct NewEnrolment {
    pub site: SiteName,
    pub count: u32,
    pub ttl: Duration,
    pub approval: Approval,
}

/// A box could not use the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootLack {
    #[error("no root is published yet, and a box learns from its file whom to trust")]
    None,
    #[error(
        "the newest root does not name the authority of this server's certificate, so a box could not come back"
    )]
    OtherServer,
    #[error("the newest root in the database cannot be read")]
    Damaged,
}

impl Registrar {
    /// Makes a file. Its token is nowhere else: whoever loses it makes another file.
    pub async fn new_enrolment(
        &self,
        new: NewEnrolment,
        by: &str,
        actor: Actor,
    ) -> Result<(Enrolment, EnrolmentFile), RegistrarError> {
        let moment = self.clocks.moment();
        let token = EnrolmentToken::mint(mint::secret()?);
        let enrolment = Enrolment {
            id: EnrolmentId::mint(mint::random()?),
            site: new.site,
            count: new.count,
            uses_left: new.count,
            approval: new.approval,
            made: moment.at,
            made_by: by.to_owned(),
            expires: moment.at.plus(new.ttl),
            cancelled: None,
        };
        let mut tx = self.store.write().await?;
        let root = self.root(&mut tx).await?;
        enrolments::add(&mut tx, &enrolment, &token.digest()).await?;
        let boxes =
            if enrolment.count == 1 { "a box".to_owned() } else { format!("{} boxes", enrolment.count) };
        let accepted = match enrolment.approval {
            Approval::Manual => "a person accepts",
            Approval::Auto => "accepted by itself",
        };
        let sentence = format!("a file for {boxes} at {} was made, {accepted}", enrolment.site);
        say_of(&mut tx, moment, &enrolment.id, ("enrolment.made", sentence), actor).await?;
        self.commit(tx).await?;
        let file = EnrolmentFile {
            v: VERSION,
            server: self.places.door.clone(),
            root,
            token,
            site: enrolment.site.clone(),
        };
        Ok((enrolment, file))
    }

    /// Nobody joins with the file any more. Whoever did already stays what they are.
    pub async fn cancel_enrolment(
        &self,
        id: &EnrolmentId,
        reason: &str,
        actor: Actor,
    ) -> Result<Enrolment, RegistrarError> {
        let moment = self.clocks.moment();
        let mut tx = self.store.write().await?;
        if enrolments::cancel(&mut tx, id, moment.at).await? {
            let colon = if reason.is_empty() { "" } else { ": " };
            let sentence = format!("the enrolment file was cancelled{colon}{reason}");
            say_of(&mut tx, moment, id, ("enrolment.cancelled", sentence), actor).await?;
        }
        let enrolment = enrolments::get(&mut tx, id).await?.ok_or(RegistrarError::NoEnrolment)?;
        self.commit(tx).await?;
        Ok(enrolment)
    }

    /// The newest root, if boxes that trust it trust this server.
    async fn root(&self, db: &mut Control) -> Result<Value, RegistrarError> {
        let bytes = trust_files::newest_root(db).await?.ok_or(RootLack::None)?;
        let root: Value = serde_json::from_slice(&bytes).map_err(|_| RootLack::Damaged)?;
        let named = root.pointer("/signed/x-muster/tls_roots").and_then(Value::as_array);
        let own = bare(&self.pki.tls_root_pem());
        let names_us = named.into_iter().flatten().filter_map(Value::as_str).any(|pem| bare(pem) == own);
        if names_us { Ok(root) } else { Err(RootLack::OtherServer.into()) }
    }
}

/// PEM without its line breaks, which differ between those who write it.
fn bare(pem: &str) -> String {
    pem.split_whitespace().collect()
}
