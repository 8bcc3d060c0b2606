//! `[disk]`: how much must be free where the data folder is. `muster doctor` says when it is less.
//!
//! ```toml
//! [disk]
//! warn_below_mb = 2048
//! fail_below_mb = 256
//! ```

use muster_protocol::checkup::Room;
use serde::Deserialize;

use super::ConfigError;

const MEGABYTE: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskConfig {
    pub warn_below_mb: u64,
    pub fail_below_mb: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { warn_below_mb: 2048, fail_below_mb: 256 }
    }
}

impl DiskConfig {
    pub fn room(&self) -> Room {
        Room {
            warn_below: self.warn_below_mb.saturating_mul(MEGABYTE),
            fail_below: self.fail_below_mb.saturating_mul(MEGABYTE),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.fail_below_mb > self.warn_below_mb { Err(ConfigError::Disk) } else { Ok(()) }
    }
}
