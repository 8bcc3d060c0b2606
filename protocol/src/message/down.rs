//! JSON that the fleet sends beside orders, trust files and chunks.

use serde::{Deserialize, Serialize};

use super::{Message, MessageError, bound};
use crate::ids::BootId;

/// What is safe in the fleet's database: entries up to and including these numbers may leave the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub v: u8,
    pub boot: BootId,
    pub event: u64,
    pub report: u64,
    pub state: u64,
}

/// Retained marker. If a broker comes up without it, the fleet publishes everything retained again from its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub v: u8,
    pub epoch: String,
}

impl Message for Ack {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for Epoch {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        bound("epoch", self.epoch.len(), 64)
    }
}
