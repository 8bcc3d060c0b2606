//! A rollout as those see it who only look: with its members and the fleet as the engine sees it.

use std::sync::Arc;

use crate::clock::Clocks;
use crate::rollout::{FleetView, Members, Rollout};
use crate::roster::{self, Board, Shared};
use crate::store::{Control, Store, Telemetry, Versioned};

use super::TaskError;

/// From memory, if the rollout can still change something; else from the database.
pub async fn seen(
    store: &Store,
    board: &Board,
    clocks: Clocks,
    loaded: Versioned<Rollout>,
) -> Result<Shared, TaskError> {
    let Versioned { revision, document: rollout } = loaded;
    let shared =
        if rollout.phase.is_open() { board.expect(&rollout.id).await } else { board.see(&rollout.id).await };
    if let Some(shared) = shared {
        return Ok(Shared { revision, rollout: Arc::new(rollout), ..shared });
    }
    let mut control = store.read().await?;
    let members = members(&mut control, &rollout).await?;
    // Where nothing has happened yet, or nothing can happen any more, there is nothing to see.
    let view = if rollout.phase.is_open() && !members.is_empty() {
        roster::view(&mut control, &mut store.read_telemetry().await?, &rollout, clocks).await?
    } else {
        FleetView::default()
    };
    Ok(Shared { revision, rollout: Arc::new(rollout), members: Arc::new(members), view: Arc::new(view) })
}

/// The fleet as a rollout would meet it now, from the database.
pub async fn fleet_view(
    control: &mut Control,
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    clocks: Clocks,
) -> Result<FleetView, TaskError> {
    Ok(roster::view(control, telemetry, rollout, clocks).await?)
}

/// The rollout's members, all of them.
pub async fn members(control: &mut Control, rollout: &Rollout) -> Result<Members, TaskError> {
    Ok(roster::members(control, rollout).await?)
}

/// Those of watched rollouts are in memory.
pub async fn members_of(
    control: &mut Control,
    board: &Board,
    rollout: &Rollout,
) -> Result<Arc<Members>, TaskError> {
    if rollout.phase.is_open()
        && let Some(shared) = board.see(&rollout.id).await
    {
        return Ok(shared.members);
    }
    Ok(Arc::new(members(control, rollout).await?))
}
