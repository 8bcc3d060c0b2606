//! Times as the API writes them: real time, unless the field's name or its description says world time.

use muster_protocol::time::{Timestamp, WorldScale};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::clock;

/// RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(pub(crate) Timestamp);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Time {}

/// A moment of the world as people read it.
pub(crate) fn real(scale: WorldScale, world: Timestamp) -> Time {
    Time(clock::real(scale, world))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_undoes_the_scale() {
        let check = |scale: WorldScale, wall: i64| {
            let wall = Timestamp::from_millis(wall);
            let back = real(scale, scale.world(wall)).0;
            assert!((back.as_millis() - wall.as_millis()).abs() <= 1, "{back:?} {wall:?}");
        };
        let scaled = WorldScale {
            wall_start: Timestamp::from_millis(1_795_485_600_000),
            world_start: Timestamp::from_millis(1_577_836_800_000),
            factor: 57_600.0,
        };
        check(WorldScale::default(), 1_795_485_600_125);
        check(scaled, 1_795_485_600_125);
        check(scaled, 1_795_485_000_000);
        check(WorldScale { factor: 1.0, ..scaled }, 1_795_485_600_125);
    }
}
