//! The list of certificates that are no longer good, for a broker that looks at nothing else: one list for each authority
//! of devices, in one file.
//!
//! The lists say that their next edition is due when the authority ends. A broker takes a list that is overdue as a reason
//! to refuse everybody, and a file that nobody renewed must not lock out a hospital: the fleet server refuses revoked
//! boxes by its own table anyway.

use std::path::Path;

use muster_protocol::time::Timestamp;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::authority::{Authority, moment};
use super::certificate::serial;
use super::{CRL_FILE, PkiError, files};

/// A certificate that is no longer good.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revoked {
    /// As in [`super::Issued`].
    pub serial: String,
    pub at: Timestamp,
}

/// One authority's list.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) issuer: String,
    pub(super) revoked: Vec<Revoked>,
}

/// One list of each authority, all with the same content: serials are random, so none means two certificates.
fn build(authorities: &[Authority], revoked: &[Revoked], now: Timestamp) -> Result<String, PkiError> {
    let mut file = String::new();
    for authority in authorities {
        let revoked_certs = revoked
            .iter()
            .map(|one| {
                let digits = hex::decode(&one.serial)
                    .map_err(|_| PkiError::Serial(one.serial.chars().take(64).collect()))?;
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&digits),
                    revocation_time: moment(one.at),
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, PkiError>>()?;
        let number = u64::try_from(now.as_millis()).unwrap_or(0);
        let list = CertificateRevocationListParams {
            this_update: moment(now.minus(super::authority::LEEWAY)),
            next_update: moment(authority.facts.expires),
            crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let failed = || PkiError::sign("the list of revoked certificates");
        let list = list.signed_by(&authority.issuer).map_err(failed())?;
        file.push_str(&list.pem().map_err(failed())?);
    }
    Ok(file)
}

/// The lists of the file. One that cannot be read is an error, never a list less: whoever stands there would be let in.
pub(super) fn load(dir: &Path) -> Result<Vec<List>, PkiError> {
    let path = dir.join(CRL_FILE);
    let text = files::read(&path)?.unwrap_or_default();
    parse(&text).ok_or(PkiError::Damaged {
        path,
        reason: "a list in it cannot be read; move it away, and the server writes it anew from its database",
    })
}

/// Writes one list of each authority.
pub(super) fn write(
    dir: &Path,
    authorities: &[Authority],
    revoked: &[Revoked],
    now: Timestamp,
) -> Result<Vec<List>, PkiError> {
    let path = dir.join(CRL_FILE);
    let text = build(authorities, revoked, now)?;
    files::write(&path, &text)?;
    parse(&text).ok_or(PkiError::Damaged { path, reason: "what was just written cannot be read back" })
}

/// Writes them again if an authority has none. What they held stays in them.
pub(super) fn renew(
    dir: &Path,
    lists: Vec<List>,
    authorities: &[Authority],
    now: Timestamp,
) -> Result<Vec<List>, PkiError> {
    let listed = |one: &Authority| lists.iter().any(|list| list.issuer == one.facts.common_name);
    if authorities.iter().all(listed) {
        return Ok(lists);
    }
    write(dir, authorities, &revoked(&lists), now)
}

/// What stands in any of the lists.
pub(super) fn revoked(lists: &[List]) -> Vec<Revoked> {
    let mut revoked: Vec<_> = lists.iter().flat_map(|list| list.revoked.iter().cloned()).collect();
    revoked.sort();
    revoked.dedup();
    revoked
}

/// `None` if anything in it is not a list: the reader of PEM passes over other blocks, and over what is no block at all.
pub(super) fn parse(pem: &str) -> Option<Vec<List>> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect();
    let lists = lists.ok()?;
    if lists.len() != pem.matches("-----BEGIN").count() || lists.is_empty() && !pem.is_empty() {
        return None;
    }
    lists.into_iter().map(list).collect()
}

fn list(der: CertificateRevocationListDer<'static>) -> Option<List> {
    let (rest, parsed) = CertificateRevocationList::from_der(der.as_ref()).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let issuer = parsed.issuer().iter_common_name().next()?.as_str().ok()?.to_owned();
    let revoked = parsed
        .iter_revoked_certificates()
        .map(|one| Revoked {
            serial: serial(one.raw_serial()),
            at: Timestamp::from_seconds(one.revocation_date.timestamp()),
        })
        .collect();
    Some(List { der, issuer, revoked })
}
