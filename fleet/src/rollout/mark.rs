//! Names as numbers: a look tells apart the sites and hardware classes of a whole fleet, and most of what that costs is
//! comparing their letters one by one.

use std::ops::Deref;

use muster_protocol::ids::SiteName;
use serde::{Deserialize, Serialize};

/// The site that a box belongs to, with its [`mark()`] before the name: what is looked up by it compares numbers, and letters
/// once. Its order is not that of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "SiteName", into = "SiteName")]
pub struct MarkedSite {
    mark: u64,
    name: SiteName,
}

impl MarkedSite {
    pub fn mark(&self) -> u64 {
        self.mark
    }
}

impl From<SiteName> for MarkedSite {
    fn from(name: SiteName) -> Self {
        Self { mark: mark(name.as_str()), name }
    }
}

impl From<MarkedSite> for SiteName {
    fn from(site: MarkedSite) -> Self {
        site.name
    }
}

impl Deref for MarkedSite {
    type Target = SiteName;

    fn deref(&self) -> &SiteName {
        &self.name
    }
}

/// The same for the same name. Two names share one by chance once in 2^64, so only that may hang on it whose answer is as good
/// with one box more or less. FNV-1a: <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(super) fn mark(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the authors' own test vectors.
    #[test]
    fn fnv_1a() {
        assert_eq!(mark(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(mark("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mark("foobar"), 0x8594_4171_f739_67e8);
    }
}
