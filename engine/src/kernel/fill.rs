//! How full the maps are, for those who watch them: a full map refuses
//! containers.

use aya::{
    Pod,
    maps::{HashMap, Map, MapError as AyaError, lpm_trie::LpmTrie},
};
use plugin_common::{Container, Flow, Hit, HitKey, Policy, RuleKey, RuleValue, ShortKey};

use super::{
    Capacity,
    maps::{CONTAINERS, FLOWS, GLOBS, HITS, MapError, Maps, POLICIES, RULES, RULES_LONG, other},
    rules::GlobText,
};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name.
    pub map: &'static str,
    /// Entries in it.
    pub entries: u32,
    /// Most entries that it can have.
    pub capacity: u32,
}

impl Maps {
    /// How full those maps are that can become full. Walks their keys, which costs
    /// a system call an entry.
    pub fn fills(&self) -> Result<Vec<Fill>, MapError> {
        let mut fills = Vec::new();
        for (map, data) in self.all() {
            let fill = match map {
                CONTAINERS => hashed::<u64, Container>(data),
                FLOWS => hashed::<u64, Flow>(data),
                HITS => hashed::<HitKey, Hit>(data),
                POLICIES => hashed::<u32, Policy>(data),
                RULES => hashed::<ShortKey, RuleValue>(data),
                RULES_LONG => hashed::<RuleKey, RuleValue>(data),
                GLOBS => globs(data),
                _ => continue,
            };
            let (entries, capacity) = fill.map_err(other(map))?;
            fills.push(Fill {
                map,
                entries,
                capacity,
            });
        }
        Ok(fills)
    }
}

impl Maps {
    /// How much they hold.
    pub fn capacity(&self) -> Result<Capacity, MapError> {
        Ok(Capacity {
            containers: capacity(&self.containers).map_err(other(CONTAINERS))?,
            rules: capacity(&self.rules).map_err(other(RULES))?,
        })
    }
}

/// Entries, and the most that there can be.
type Counted = Result<(u32, u32), AyaError>;

fn hashed<K: Pod, V: Pod>(map: &Map) -> Counted {
    let typed: HashMap<_, K, V> = HashMap::try_from(map)?;
    count(typed.keys(), capacity(map)?)
}

fn globs(map: &Map) -> Counted {
    let typed: LpmTrie<_, GlobText, RuleValue> = LpmTrie::try_from(map)?;
    count(typed.keys(), capacity(map)?)
}

pub(super) fn capacity(map: &Map) -> Result<u32, AyaError> {
    match map {
        Map::HashMap(data) | Map::LpmTrie(data) => Ok(data.info()?.max_entries()),
        // No other has entries that come and go.
        _ => Ok(0),
    }
}

/// Ends in any case: where others write meanwhile, the kernel may begin anew.
fn count<K>(keys: impl Iterator<Item = Result<K, AyaError>>, capacity: u32) -> Counted {
    let mut entries = 0;
    for key in keys {
        key?;
        entries += 1;
        if entries == capacity {
            break;
        }
    }
    Ok((entries, capacity))
}
