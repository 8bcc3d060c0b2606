//! Where in a plan its fault is: the same place for whoever wrote it as JSON and for whoever wrote it as a file.

use super::plan::{Plan, PlanError};

impl PlanError {
    /// As a JSON pointer into the plan.
    pub fn place(&self, plan: &Plan) -> String {
        let stage = |name: &str, field: &str| {
            // Of two stages with one name the later is the one to change.
            let at = plan.stages.iter().rposition(|stage| stage.name == name);
            at.map_or_else(|| "/stages".to_owned(), |at| format!("/stages/{at}{field}"))
        };
        match self {
            Self::Stages(_) => "/stages".to_owned(),
            Self::Stage { stage: name, .. } => stage(name, ""),
            Self::Shrinks { later: name, .. } | Self::NotEverybody(name) => stage(name, "/size"),
            Self::Twice(name) => stage(name, "/name"),
            Self::InFlight => "/in_flight_max".to_owned(),
            Self::Field { field, .. } => format!("/{field}"),
            Self::Circle(_) => "/stepping_stones".to_owned(),
            Self::Nobody => "/selector".to_owned(),
        }
    }
}
