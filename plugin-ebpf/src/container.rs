//! Which bound container the current process belongs to: by its cgroup or the
//! nearest bound ancestor of it; where there is none, by the tag that it got
//! when it, or whom it descends from, executed a program in one. Never by
//! namespaces, comm or exe_file, which a process can change.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use plugin_common::{CGROUP_ROOT, Config, Container, LEVEL_MAX};

use crate::{
    field::{Output, Task},
    maps::{CONFIG, CONTAINERS, TAGS},
    report,
};

/// A container, and how it was found.
pub struct Found {
    /// What holds for it.
    pub container: &'static Container,
    /// The cgroup that is bound.
    pub cgroup: u64,
    /// The process is not in that cgroup any more.
    pub outside: bool,
}

/// The container of the current process, wherever it moved. Tags it.
#[inline(always)]
pub fn tagged(mechanism: u32) -> Option<Found> {
    let task = Task::current();
    if let Some(found) = current() {
        match TAGS.get_or_insert(&task) {
            Some(tag) => {
                if tag.cgroup != found.cgroup {
                    tag.cgroup = found.cgroup;
                    tag.reported = 0;
                }
            }
            // Without memory for it, which fails open, it is free outside.
            None => report::count(|stats| &mut stats.untagged),
        }
        return Some(found);
    }
    let tag = TAGS.get(&task)?;
    // SAFETY: as in `current`.
    let container = unsafe { CONTAINERS.get(tag.cgroup) }?;
    if tag.reported == 0 {
        tag.reported = 1;
        report::moved(tag.cgroup, container.policy, mechanism);
    }
    Some(Found {
        container,
        cgroup: tag.cgroup,
        outside: true,
    })
}

/// A new task has its parent's tag.
#[inline(always)]
pub fn inherit(task: &Task) {
    let Some(parents) = TAGS.get(&Task::current()) else {
        return;
    };
    match TAGS.get_or_insert(task) {
        Some(tag) => {
            tag.cgroup = parents.cgroup;
            tag.reported = parents.reported;
        }
        // Without memory for it, which fails open, the child is free outside.
        None => report::count(|stats| &mut stats.untagged),
    }
}

/// Writes which cgroup a task carries, if it is alive and carries one.
#[inline(always)]
pub fn tell(task: &Task, output: &Output) {
    if task.has_ended() {
        return;
    }
    if let Some(tag) = TAGS.get(task) {
        let cgroup = tag.cgroup;
        output.write(&cgroup);
    }
}

/// The mechanism that refuses, as user space set it.
#[inline(always)]
pub fn mechanism() -> u32 {
    CONFIG.get(0).map_or(0, |config: &Config| config.mechanism)
}

/// The container of the current process by its cgroup.
///
/// Only the levels on which something is bound are looked at, so the cost grows
/// with them and not with the depth of the process, and no depth escapes.
#[inline(always)]
pub fn current() -> Option<Found> {
    let config = CONFIG.get(0)?;
    let levels = config.levels;
    let mut level = config.deepest;
    // A plain loop: the verifier follows each instruction of an iterator's too.
    let mut turns = 0;
    while turns < LEVEL_MAX {
        if level == 0 || level > LEVEL_MAX {
            return None;
        }
        if levels & (1 << level) != 0 {
            // SAFETY: the helper takes a number. Level 0 is the root of the
            // whole hierarchy, cgroup namespaces don't change it; 0 comes back
            // for a level below the process's own cgroup.
            let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
            if id > CGROUP_ROOT {
                // SAFETY: the entry may be replaced or deleted meanwhile; each
                // value of it is a valid Container.
                if let Some(container) = unsafe { CONTAINERS.get(id) } {
                    return Some(Found {
                        container,
                        cgroup: id,
                        outside: false,
                    });
                }
            }
        }
        level -= 1;
        turns += 1;
    }
    None
}
