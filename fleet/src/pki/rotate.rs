//! Replacing authorities, without a moment in which a box or this server is refused.
//!
//! ```text
//!   devices   rotate: a new one signs, both are trusted ─▶ 90 days ─▶ retire: nothing of the old one is good any more
//!   servers   prepare: a new one exists ─▶ root N+1 names both ─▶ all boxes have it ─▶ switch: the new one signs
//!             ─▶ root N+2 names the new one alone
//! ```

use std::time::Duration;

use muster_protocol::time::Timestamp;

use super::authority::{Authority, LEEWAY, paths};
use super::succession::{self, newest, stem};
use super::{DEVICE, DEVICE_LIFE, Pki, PkiError, SERVER, crl, files, server};

/// How early the end of an authority is told.
const NOTICE: Duration = Duration::from_hours(24 * 365);

/// What a person may see of the authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiView {
    pub device: Vec<AuthorityView>,
    pub server: Vec<AuthorityView>,
    pub client: AuthorityView,
    /// What this server's certificate says it is called, and until when.
    pub names: Vec<String>,
    pub server_expires: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityView {
    pub name: String,
    /// The one that signs now.
    pub signs: bool,
    pub expires: Timestamp,
}

impl Pki {
    pub fn view(&self) -> PkiView {
        let state = self.read();
        let view = |authority: &Authority, signs: bool| AuthorityView {
            name: authority.facts.common_name.clone(),
            signs,
            expires: authority.facts.expires,
        };
        let device = newest(&state.device).number;
        let server = server::signer(&state.leaf, &state.server).number;
        PkiView {
            device: state.device.iter().map(|one| view(one, one.number == device)).collect(),
            server: state.server.iter().map(|one| view(one, one.number == server)).collect(),
            client: view(&state.client, true),
            names: state.leaf.facts.names.clone(),
            server_expires: state.leaf.facts.expires,
        }
    }

    /// Authorities that sign and end within a year.
    pub fn ending(&self, now: Timestamp) -> Vec<(String, Timestamp)> {
        let view = self.view();
        let all = view.device.into_iter().chain(view.server).chain([view.client]);
        all.filter(|one| one.signs && one.expires.since(now) < NOTICE)
            .map(|one| (one.name, one.expires))
            .collect()
    }

    /// From now on a new authority signs devices; those before stay trusted.
    pub fn rotate_device_ca(&self, now: Timestamp) -> Result<(), PkiError> {
        let mut state = self.write();
        let number = newest(&state.device).number + 1;
        let name = format!("Muster Fleet Device CA {number}");
        let authority = Authority::make(&self.dir, &stem(DEVICE, number), number, &name, now)?;
        state.device.push(authority);
        succession::save(&self.dir, DEVICE, &state.device)?;
        state.lists = crl::renew(&self.dir, state.lists.clone(), &state.device, now)?;
        self.refresh(&state)?;
        self.crl.send_modify(|written| *written += 1);
        Ok(())
    }

    /// Forgets authorities of devices whose last certificate has expired. Returns their names.
    pub fn retire(&self, now: Timestamp) -> Result<Vec<String>, PkiError> {
        let mut state = self.write();
        // One signed until the next one was made.
        let over = state
            .device
            .windows(2)
            .filter_map(|pair| match pair {
                [_, next] => Some(next.facts.starts.plus(LEEWAY + DEVICE_LIFE + LEEWAY) < now),
                _ => None,
            })
            .take_while(|over| *over)
            .count();
        if over == 0 {
            return Ok(Vec::new());
        }
        // No longer named first: a crash then leaves nothing that looks lost. And out of memory last: if something cannot
        // be taken away, all of them stay what they were and the next attempt begins again.
        succession::save(&self.dir, DEVICE, &state.device[over..])?;
        for authority in &state.device[..over] {
            let (path, key) = paths(&self.dir, &stem(DEVICE, authority.number));
            // The certificate first: a key without one counts for nothing.
            files::remove(&path)?;
            files::remove(&key)?;
        }
        let gone = state.device.drain(..over).map(|authority| authority.facts.common_name).collect();
        self.refresh(&state)?;
        Ok(gone)
    }

    /// Makes the authority that will sign this server, and signs nothing with it yet. Returns it in PEM.
    pub fn prepare_server_ca(&self, now: Timestamp) -> Result<String, PkiError> {
        let mut state = self.write();
        let newest = newest(&state.server).number;
        if server::signer(&state.leaf, &state.server).number != newest {
            return Err(PkiError::Prepared(newest));
        }
        let number = newest + 1;
        let name = format!("Muster Fleet Server CA {number}");
        let authority = Authority::make(&self.dir, &stem(SERVER, number), number, &name, now)?;
        let pem = authority.pem.clone();
        state.server.push(authority);
        succession::save(&self.dir, SERVER, &state.server)?;
        Ok(pem)
    }

    /// This server's certificate comes from the prepared authority from now on.
    pub fn switch_server_ca(&self, now: Timestamp) -> Result<(), PkiError> {
        let mut state = self.write();
        let prepared = newest(&state.server);
        if server::signer(&state.leaf, &state.server).number == prepared.number {
            return Err(PkiError::NothingPrepared);
        }
        let leaf = server::make(&self.dir, prepared, &self.names, now)?;
        state.leaf = leaf;
        self.refresh(&state)?;
        Ok(())
    }
}
