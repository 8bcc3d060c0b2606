//! The hardware classes that a box has told.

use std::collections::BTreeSet;
use std::ops::Deref;

use muster_protocol::ids::HardwareClass;
use serde::{Deserialize, Serialize};

use super::mark::mark;

/// Knows its most telling class by a mark that lies in place: at every look the classes of a whole fleet are told apart, and
/// reading each box's names for it was the dearest part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<HardwareClass>", into = "BTreeSet<HardwareClass>")]
pub struct Hardware {
    classes: BTreeSet<HardwareClass>,
    mark: u64,
}

impl Hardware {
    /// The class that says most; nothing if none is known.
    pub fn telling(&self) -> &str {
        let longest = self.classes.iter().max_by_key(|class| (class.as_str().len(), class.as_str()));
        longest.map_or("", HardwareClass::as_str)
    }

    /// [`mark()`] of that class.
    pub fn mark(&self) -> u64 {
        self.mark
    }
}

impl From<BTreeSet<HardwareClass>> for Hardware {
    fn from(classes: BTreeSet<HardwareClass>) -> Self {
        let mut hardware = Self { classes, mark: 0 };
        hardware.mark = mark(hardware.telling());
        hardware
    }
}

impl From<Hardware> for BTreeSet<HardwareClass> {
    fn from(hardware: Hardware) -> Self {
        hardware.classes
    }
}

impl Deref for Hardware {
    type Target = BTreeSet<HardwareClass>;

    fn deref(&self) -> &Self::Target {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(classes: &[&str]) -> Hardware {
        classes.iter().map(|class| class.parse().unwrap()).collect::<BTreeSet<_>>().into()
    }

    #[test]
    fn the_mark_is_that_of_the_most_telling_class() {
        let gpu = of(&["x86_64", "x86_64-gpu"]);
        assert_eq!(gpu.telling(), "x86_64-gpu");
        assert_eq!(gpu.mark(), of(&["x86_64-gpu"]).mark());
        assert_ne!(gpu.mark(), of(&["x86_64"]).mark());
        assert_ne!(gpu.mark(), of(&["x86_64-npu"]).mark());
        assert_eq!(of(&[]).telling(), "");
    }

    #[test]
    fn written_down_it_is_a_list_of_classes() {
        let json = serde_json::to_string(&of(&["x86_64", "x86_64-gpu"])).unwrap();
        assert_eq!(json, r#"["x86_64","x86_64-gpu"]"#);
        assert_eq!(serde_json::from_str::<Hardware>(&json).unwrap(), of(&["x86_64-gpu", "x86_64"]));
    }
}
