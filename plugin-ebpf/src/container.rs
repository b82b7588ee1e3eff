//! Which bound container the current process belongs to: by its cgroup or the
//! nearest bound ancestor of it. Never by namespaces, comm or exe_file, which
//! a process can change.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use plugin_common::{CGROUP_ROOT, Container, LEVEL_MAX};

use crate::maps::{CONFIG, CONTAINERS};

/// The container and the id of the cgroup that is bound.
///
/// Only the levels on which something is bound are looked at, so the cost grows
/// with them and not with the depth of the process, and no depth escapes.
#[inline(always)]
pub fn current() -> Option<(&'static Container, u64)> {
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
                    return Some((container, id));
                }
            }
        }
        level -= 1;
        turns += 1;
    }
    None
}
