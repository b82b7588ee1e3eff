//! What is read of the maps of older versions: who is bound, and how. Each version
//! whose layout differs gets its own type here; of 4 and 5 it is that of 6.

use aya::maps::{HashMap, Map, MapData};
use plugin_common::Container;

use super::{
    Capacity, MapError, PinError, Pins,
    fill::capacity,
    maps::{CONTAINERS, RULES, other},
};

/// The maps of an older version.
#[derive(Debug)]
pub struct Older {
    containers: Map,
    rules: Map,
}

impl Older {
    /// Opens the pinned ones.
    ///
    /// # Errors
    ///
    /// Where one is not there.
    pub fn open(pins: &Pins) -> Result<Self, PinError> {
        let open = |name| {
            let data = MapData::from_pin(pins.dir().join(name)).map_err(other(name))?;
            Ok::<_, MapError>(Map::HashMap(data))
        };
        Ok(Self {
            containers: open(CONTAINERS)?,
            rules: open(RULES)?,
        })
    }

    /// How much they hold.
    ///
    /// # Errors
    ///
    /// Where the kernel does not tell.
    pub fn capacity(&self) -> Result<Capacity, MapError> {
        Ok(Capacity {
            containers: capacity(&self.containers).map_err(other(CONTAINERS))?,
            rules: capacity(&self.rules).map_err(other(RULES))?,
        })
    }

    /// All bound cgroups.
    ///
    /// # Errors
    ///
    /// Where the map is not as that version makes it.
    pub fn containers(&self) -> Result<Vec<(u64, Container)>, MapError> {
        let containers: HashMap<_, u64, Container> =
            HashMap::try_from(&self.containers).map_err(other(CONTAINERS))?;
        let all = containers.iter().collect::<Result<_, _>>();
        all.map_err(other(CONTAINERS))
    }
}
