//! The maps, typed. One owner; each write is one system call and atomic for the
//! kernel side.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{
        Array, HashMap, Map, MapData, MapError as AyaError, PerCpuArray, PerCpuValues, RingBuf,
    },
};
use plugin_common::{Build, Config, Container, Flow, Hit, HitKey, Policy, Stats};

use super::chain;

/// A map that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It holds as much as it can.
    #[error(
        "the map {0} is full: execblock load --replace gives it a greater capacity, rules hold \
         meanwhile (execblock load --help)"
    )]
    Full(&'static str),
    /// Not there, or not as this version makes it.
    #[error("the map {map}: {}", chain(.source.as_ref()))]
    Other {
        /// Its name.
        map: &'static str,
        /// What happened.
        source: Box<AyaError>,
    },
    /// The object has no such map.
    #[error("the map {0} is not in the embedded object")]
    Missing(&'static str),
}

pub(super) const CONTAINERS: &str = "containers";
pub(super) const RULES: &str = "rules";
pub(super) const RULES_LONG: &str = "rules_long";
pub(super) const GLOBS: &str = "globs";
pub(super) const POLICIES: &str = "policies";
const CONFIG: &str = "config";
pub(super) const HITS: &str = "hits";
const STATS: &str = "stats";
pub(super) const EVENTS: &str = "events";
pub(super) const FLOWS: &str = "flows";
const BUILD: &str = "build";
pub(super) const TAGS: &str = "tags";

/// All maps, as made or as pinned.
pub struct Maps {
    pub(super) containers: Map,
    pub(super) rules: Map,
    pub(super) rules_long: Map,
    pub(super) globs: Map,
    pub(super) policies: Map,
    pub(super) config: Map,
    pub(super) hits: Map,
    pub(super) flows: Map,
    pub(super) stats: Map,
    pub(super) events: Map,
    pub(super) build: Map,
    pub(super) tags: Map,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

pub(super) fn other(map: &'static str) -> impl Fn(AyaError) -> MapError {
    move |source| match &source {
        // E2BIG: more than max_entries (htab_map_update_elem).
        AyaError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
            MapError::Full(map)
        }
        _ => MapError::Other {
            map,
            source: Box::new(source),
        },
    }
}

impl Maps {
    /// Takes them out of a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let mut take = |name| ebpf.take_map(name).ok_or(MapError::Missing(name));
        Ok(Self {
            containers: take(CONTAINERS)?,
            rules: take(RULES)?,
            rules_long: take(RULES_LONG)?,
            globs: take(GLOBS)?,
            policies: take(POLICIES)?,
            config: take(CONFIG)?,
            hits: take(HITS)?,
            flows: take(FLOWS)?,
            stats: take(STATS)?,
            events: take(EVENTS)?,
            build: take(BUILD)?,
            tags: take(TAGS)?,
        })
    }

    /// Opens the pinned ones.
    pub(super) fn open(dir: &Path) -> Result<Self, MapError> {
        let open = |name| MapData::from_pin(dir.join(name)).map_err(other(name));
        Ok(Self {
            containers: Map::HashMap(open(CONTAINERS)?),
            rules: Map::HashMap(open(RULES)?),
            rules_long: Map::HashMap(open(RULES_LONG)?),
            globs: Map::LpmTrie(open(GLOBS)?),
            policies: Map::HashMap(open(POLICIES)?),
            config: Map::Array(open(CONFIG)?),
            hits: Map::HashMap(open(HITS)?),
            flows: Map::HashMap(open(FLOWS)?),
            stats: Map::PerCpuArray(open(STATS)?),
            events: Map::RingBuf(open(EVENTS)?),
            build: Map::Array(open(BUILD)?),
            tags: Map::Unsupported(open(TAGS)?),
        })
    }

    /// The configuration alone: its layout is kept by every version, that of
    /// the other maps may not be.
    pub(super) fn open_config(dir: &Path) -> Result<Config, MapError> {
        let data = MapData::from_pin(dir.join(CONFIG)).map_err(other(CONFIG))?;
        let config: Array<_, Config> = Map::Array(data).try_into().map_err(other(CONFIG))?;
        config.get(&0, 0).map_err(other(CONFIG))
    }

    /// Whether these are the maps whose pins lie there. No number of a map is used again
    /// while somebody has it open.
    pub(super) fn are_pinned_in(&self, dir: &Path) -> Result<bool, MapError> {
        let pinned = MapData::from_pin(dir.join(CONFIG)).map_err(other(CONFIG))?;
        let Map::Array(own) = &self.config else {
            return Ok(false);
        };
        let id = |data: &MapData| Ok(data.info().map_err(other(CONFIG))?.id());
        Ok(id(&pinned)? == id(own)?)
    }

    /// The maps with their names, for pinning.
    pub(super) fn all(&self) -> [(&'static str, &Map); 12] {
        [
            (CONTAINERS, &self.containers),
            (RULES, &self.rules),
            (RULES_LONG, &self.rules_long),
            (GLOBS, &self.globs),
            (POLICIES, &self.policies),
            (CONFIG, &self.config),
            (HITS, &self.hits),
            (FLOWS, &self.flows),
            (STATS, &self.stats),
            (EVENTS, &self.events),
            (BUILD, &self.build),
            (TAGS, &self.tags),
        ]
    }

    /// The descriptor of a map.
    pub(super) fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        let (_, map) = self.all().into_iter().find(|(known, _)| *known == name)?;
        match map {
            Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::RingBuf(data)
            | Map::Unsupported(data) => Some(data.fd().as_fd()),
            _ => None,
        }
    }

    /// What holds for a cgroup.
    pub fn container(&self, cgroup: u64) -> Result<Option<Container>, MapError> {
        found(CONTAINERS, self.containers_map()?.get(&cgroup, 0))
    }

    /// Sets what holds for a cgroup, in one step.
    pub fn set_container(&mut self, cgroup: u64, value: Container) -> Result<(), MapError> {
        self.containers_map_mut()?
            .insert(cgroup, value, 0)
            .map_err(other(CONTAINERS))
    }

    /// Forgets a cgroup; nothing where it was not known.
    pub fn remove_container(&mut self, cgroup: u64) -> Result<(), MapError> {
        found(CONTAINERS, self.containers_map_mut()?.remove(&cgroup)).map(drop)
    }

    /// All bound cgroups.
    pub fn containers(&self) -> Result<Vec<(u64, Container)>, MapError> {
        self.containers_map()?
            .iter()
            .collect::<Result<_, _>>()
            .map_err(other(CONTAINERS))
    }

    /// A policy by its id.
    pub fn policy(&self, id: u32) -> Result<Option<Policy>, MapError> {
        found(POLICIES, self.policies_map()?.get(&id, 0))
    }

    /// Sets a policy.
    pub fn set_policy(&mut self, id: u32, value: Policy) -> Result<(), MapError> {
        self.policies_map_mut()?
            .insert(id, value, 0)
            .map_err(other(POLICIES))
    }

    /// Forgets a policy; nothing where it was not known.
    pub fn remove_policy(&mut self, id: u32) -> Result<(), MapError> {
        found(POLICIES, self.policies_map_mut()?.remove(&id)).map(drop)
    }

    /// All policies.
    pub fn policies(&self) -> Result<Vec<(u32, Policy)>, MapError> {
        self.policies_map()?
            .iter()
            .collect::<Result<_, _>>()
            .map_err(other(POLICIES))
    }

    /// What each rule did in each bound cgroup.
    pub fn hits(&self) -> Result<Vec<(HitKey, Hit)>, MapError> {
        let hits: HashMap<_, HitKey, Hit> = HashMap::try_from(&self.hits).map_err(other(HITS))?;
        let hits = hits.iter().collect::<Result<_, _>>().map_err(other(HITS))?;
        Ok(once(hits, |key| (key.cgroup, key.rule)))
    }

    /// Forgets what a rule did in a cgroup; nothing where it was not known.
    pub fn remove_hit(&mut self, key: &HitKey) -> Result<(), MapError> {
        let mut hits: HashMap<_, HitKey, Hit> =
            HashMap::try_from(&mut self.hits).map_err(other(HITS))?;
        found(HITS, hits.remove(key)).map(drop)
    }

    /// What became of the events of each cgroup that had any.
    pub fn flows(&self) -> Result<Vec<(u64, Flow)>, MapError> {
        let flows: HashMap<_, u64, Flow> = HashMap::try_from(&self.flows).map_err(other(FLOWS))?;
        let flows = flows
            .iter()
            .collect::<Result<_, _>>()
            .map_err(other(FLOWS))?;
        Ok(once(flows, |cgroup| *cgroup))
    }

    /// Forgets what became of the events of a cgroup; nothing where it had none.
    pub fn remove_flow(&mut self, cgroup: u64) -> Result<(), MapError> {
        let mut flows: HashMap<_, u64, Flow> =
            HashMap::try_from(&mut self.flows).map_err(other(FLOWS))?;
        found(FLOWS, flows.remove(&cgroup)).map(drop)
    }

    /// The configuration.
    pub fn config(&self) -> Result<Config, MapError> {
        let config = Array::try_from(&self.config).map_err(other(CONFIG))?;
        config.get(&0, 0).map_err(other(CONFIG))
    }

    /// Sets the configuration.
    pub fn set_config(&mut self, value: Config) -> Result<(), MapError> {
        let mut config = Array::try_from(&mut self.config).map_err(other(CONFIG))?;
        config.set(0, value, 0).map_err(other(CONFIG))
    }

    /// Which programs look at these maps.
    pub fn build(&self) -> Result<Build, MapError> {
        let build = Array::try_from(&self.build).map_err(other(BUILD))?;
        build.get(&0, 0).map_err(other(BUILD))
    }

    /// Says which programs look at these maps.
    pub fn set_build(&mut self, value: Build) -> Result<(), MapError> {
        let mut build = Array::try_from(&mut self.build).map_err(other(BUILD))?;
        build.set(0, value, 0).map_err(other(BUILD))
    }

    /// The counters, summed over the CPUs.
    pub fn stats(&self) -> Result<Stats, MapError> {
        let stats: PerCpuArray<_, Stats> =
            PerCpuArray::try_from(&self.stats).map_err(other(STATS))?;
        let cpus = stats.get(&0, 0).map_err(other(STATS))?;
        Ok(cpus
            .iter()
            .fold(Stats::default(), |sum, cpu| sum.plus(*cpu)))
    }

    /// Sets the counters to zero. What is counted meanwhile may be lost.
    pub fn clear_stats(&mut self) -> Result<(), MapError> {
        let mut stats: PerCpuArray<_, Stats> =
            PerCpuArray::try_from(&mut self.stats).map_err(other(STATS))?;
        let cpus = stats.get(&0, 0).map_err(other(STATS))?.len();
        let zeros = PerCpuValues::try_from(vec![Stats::default(); cpus]);
        let zeros = zeros.map_err(|error| other(STATS)(error.into()))?;
        stats.set(0, zeros, 0).map_err(other(STATS))
    }

    /// Takes out the events that nobody is to see.
    pub fn discard_events(&mut self) -> Result<(), MapError> {
        let mut events = RingBuf::try_from(&mut self.events).map_err(other(EVENTS))?;
        while events.next().is_some() {}
        Ok(())
    }

    fn containers_map(&self) -> Result<HashMap<&MapData, u64, Container>, MapError> {
        HashMap::try_from(&self.containers).map_err(other(CONTAINERS))
    }
    fn containers_map_mut(&mut self) -> Result<HashMap<&mut MapData, u64, Container>, MapError> {
        HashMap::try_from(&mut self.containers).map_err(other(CONTAINERS))
    }
    fn policies_map(&self) -> Result<HashMap<&MapData, u32, Policy>, MapError> {
        HashMap::try_from(&self.policies).map_err(other(POLICIES))
    }
    fn policies_map_mut(&mut self) -> Result<HashMap<&mut MapData, u32, Policy>, MapError> {
        HashMap::try_from(&mut self.policies).map_err(other(POLICIES))
    }
}

/// Each key once: where the key behind which a walk goes on is deleted meanwhile, the
/// kernel begins anew (`htab_map_get_next_key` in kernel/bpf/hashtab.c).
fn once<K, V, T: Ord>(entries: Vec<(K, V)>, order: impl Fn(&K) -> T) -> Vec<(K, V)> {
    let entries = entries.into_iter().map(|entry| (order(&entry.0), entry));
    entries.collect::<BTreeMap<_, _>>().into_values().collect()
}

pub(super) fn is_errno(error: &AyaError, errno: i32) -> bool {
    matches!(error, AyaError::SyscallError(error)
        if error.io_error.raw_os_error() == Some(errno))
}

/// `None` where the kernel has no such key.
pub(super) fn found<T>(
    map: &'static str,
    result: Result<T, AyaError>,
) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(AyaError::KeyNotFound) => Ok(None),
        Err(AyaError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(other(map)(error)),
    }
}
