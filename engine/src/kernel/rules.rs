//! The rules in the maps: edges of automata by the length of their names, and the
//! names with a `*`.

use aya::maps::{
    HashMap,
    lpm_trie::{Key, LpmTrie},
};
use plugin_common::{GLOB_MAX, GlobKey, RuleKey, RuleValue, ShortKey};

use super::maps::{GLOBS, MapError, Maps, RULES, RULES_LONG, found, is_errno, other};

impl Maps {
    /// Sets an entry of a policy.
    pub fn set_rule(&mut self, key: RuleKey, value: RuleValue) -> Result<(), MapError> {
        if let Some(short) = key.short() {
            let mut rules: HashMap<_, ShortKey, RuleValue> =
                HashMap::try_from(&mut self.rules).map_err(other(RULES))?;
            return rules.insert(short, value, 0).map_err(other(RULES));
        }
        let mut rules: HashMap<_, RuleKey, RuleValue> =
            HashMap::try_from(&mut self.rules_long).map_err(other(RULES_LONG))?;
        rules.insert(key, value, 0).map_err(other(RULES_LONG))
    }

    /// Forgets an entry; nothing where it was not known.
    pub fn remove_rule(&mut self, key: &RuleKey) -> Result<(), MapError> {
        if let Some(short) = key.short() {
            let mut rules: HashMap<_, ShortKey, RuleValue> =
                HashMap::try_from(&mut self.rules).map_err(other(RULES))?;
            return found(RULES, rules.remove(&short)).map(drop);
        }
        let mut rules: HashMap<_, RuleKey, RuleValue> =
            HashMap::try_from(&mut self.rules_long).map_err(other(RULES_LONG))?;
        found(RULES_LONG, rules.remove(key)).map(drop)
    }

    /// Keys of all entries of all policies.
    pub fn rule_keys(&self) -> Result<Vec<RuleKey>, MapError> {
        let short: HashMap<_, ShortKey, RuleValue> =
            HashMap::try_from(&self.rules).map_err(other(RULES))?;
        let long: HashMap<_, RuleKey, RuleValue> =
            HashMap::try_from(&self.rules_long).map_err(other(RULES_LONG))?;
        let short = short
            .keys()
            .map(|key| key.map(RuleKey::from).map_err(other(RULES)));
        let long = long.keys().map(|key| key.map_err(other(RULES_LONG)));
        short.chain(long).collect()
    }

    /// All entries of all policies.
    pub(super) fn rules(&self) -> Result<Vec<(RuleKey, RuleValue)>, MapError> {
        let short: HashMap<_, ShortKey, RuleValue> =
            HashMap::try_from(&self.rules).map_err(other(RULES))?;
        let long: HashMap<_, RuleKey, RuleValue> =
            HashMap::try_from(&self.rules_long).map_err(other(RULES_LONG))?;
        let short = short.iter().map(|entry| {
            let (key, value) = entry.map_err(other(RULES))?;
            Ok((RuleKey::from(key), value))
        });
        let long = long.iter().map(|entry| entry.map_err(other(RULES_LONG)));
        short.chain(long).collect()
    }

    /// Sets a name with a `*` of a policy.
    pub fn set_glob(&mut self, key: &GlobKey, value: RuleValue) -> Result<(), MapError> {
        let mut globs: LpmTrie<_, GlobText, RuleValue> =
            LpmTrie::try_from(&mut self.globs).map_err(other(GLOBS))?;
        globs
            .insert(&glob_key(key), value, 0)
            .map_err(|error| match other(GLOBS)(error) {
                // ENOSPC: more than max_entries (trie_update_elem).
                MapError::Other { source, .. } if is_errno(&source, libc::ENOSPC) => {
                    MapError::Full(GLOBS)
                }
                error => error,
            })
    }

    /// Forgets one; nothing where it was not known.
    pub fn remove_glob(&mut self, key: &GlobKey) -> Result<(), MapError> {
        let mut globs: LpmTrie<_, GlobText, RuleValue> =
            LpmTrie::try_from(&mut self.globs).map_err(other(GLOBS))?;
        found(GLOBS, globs.remove(&glob_key(key))).map(drop)
    }

    /// Keys of all names with a `*` of all policies.
    pub fn glob_keys(&self) -> Result<Vec<GlobKey>, MapError> {
        let globs: LpmTrie<_, GlobText, RuleValue> =
            LpmTrie::try_from(&self.globs).map_err(other(GLOBS))?;
        let keys = globs.keys();
        keys.map(|key| Ok(from_glob_key(&key.map_err(other(GLOBS))?)))
            .collect()
    }

    /// All names with a `*` of all policies.
    pub(super) fn globs(&self) -> Result<Vec<(GlobKey, RuleValue)>, MapError> {
        let globs: LpmTrie<_, GlobText, RuleValue> =
            LpmTrie::try_from(&self.globs).map_err(other(GLOBS))?;
        let globs = globs.iter().map(|entry| {
            let (key, value) = entry.map_err(other(GLOBS))?;
            Ok((from_glob_key(&key), value))
        });
        globs.collect()
    }
}

/// A [`GlobKey`] without its bits, which aya has apart.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct GlobText {
    policy: u32,
    kind: u32,
    name: [u8; GLOB_MAX],
}

// SAFETY: integers and an array of integers, without padding.
unsafe impl aya::Pod for GlobText {}

fn glob_key(key: &GlobKey) -> Key<GlobText> {
    let text = GlobText {
        policy: key.policy,
        kind: key.kind,
        name: key.name,
    };
    Key::new(key.bits, text)
}

fn from_glob_key(key: &Key<GlobText>) -> GlobKey {
    let text = key.data();
    GlobKey {
        bits: key.prefix_len(),
        policy: text.policy,
        kind: text.kind,
        name: text.name,
    }
}
