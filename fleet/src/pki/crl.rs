//! The list of certificates that are no longer good, for a broker that looks at nothing else: one list for each authority
//! of devices, in one file.
//!
//! The lists say that their next edition is due when the authority ends. A broker takes a list that is overdue as a reason
//! to refuse everybody, and a file that nobody renewed must not lock out a hospital: the fleet server refuses revoked
//! boxes by its own table anyway.

use muster_protocol::time::Timestamp;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::PkiError;
use super::authority::{Authority, moment};
use super::certificate::serial;

/// A certificate that is no longer good.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revoked {
    /// As in [`super::Issued`].
    pub serial: String,
    pub at: Timestamp,
}

/// One list of each authority, all with the same content: serials are random, so none means two certificates.
pub(super) fn build(
    authorities: &[Authority],
    revoked: &[Revoked],
    now: Timestamp,
) -> Result<String, PkiError> {
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

/// The lists of a file.
pub(super) fn lists(pem: &str) -> Vec<CertificateRevocationListDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).map_while(Result::ok).collect()
}

/// What stands in a list.
pub(super) fn read(list: &CertificateRevocationListDer<'_>) -> Option<(String, Vec<Revoked>)> {
    let (_, parsed) = CertificateRevocationList::from_der(list.as_ref()).ok()?;
    let issuer = parsed.issuer().iter_common_name().next()?.as_str().ok()?.to_owned();
    let revoked = parsed
        .iter_revoked_certificates()
        .map(|one| Revoked {
            serial: serial(one.raw_serial()),
            at: Timestamp::from_seconds(one.revocation_date.timestamp()),
        })
        .collect();
    Some((issuer, revoked))
}
