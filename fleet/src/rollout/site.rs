//! What a site allows: it knows its night shifts, its scanners and its link better than any plan does.

use muster_protocol::ids::SiteName;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;
use serde::{Deserialize, Serialize};

use super::calendar::{Hours, Zone};

pub const LEASES_MAX: usize = 64;

/// The rules of one site; the default allows everything at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteRules {
    pub zone: Zone,
    /// When boxes may fetch and test.
    pub download: Hours,
    /// When boxes may switch: the moment that somebody could notice.
    pub activation: Hours,
    /// Boxes of the site that may fetch or switch at the same moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    pub consent: Consent,
}

/// "Not now": held by somebody, for a reason, until it expires. Nobody holds anything for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: String,
    pub reason: String,
    /// World time.
    pub until: Timestamp,
}

/// A site as the engine sees it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteView {
    pub rules: SiteRules,
    /// Leases on the whole site.
    pub leases: Vec<Lease>,
}

/// Nothing is handed out anywhere until somebody thaws it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub since: Timestamp,
    pub by: String,
    pub reason: String,
    /// Only these sites; none means the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<SiteName>>,
}

impl Freeze {
    pub fn covers(&self, site: &SiteName) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(site))
    }
}
