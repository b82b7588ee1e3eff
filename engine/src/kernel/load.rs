//! Loads the object: maps made, offsets set, no program in the kernel yet.

use std::path::PathBuf;

use aya::{Btf, Ebpf, EbpfLoader};
use plugin_common::{
    Build, CONTAINERS_DEFAULT, GLOBS_DEFAULT, HITS_DEFAULT, LONG_DEFAULT, RULES_DEFAULT,
};
use sha2::{Digest as _, Sha256};

use super::{
    KernelError, Maps, PinError, PinState, Pins,
    btf::{BtfError, Layout},
    maps::TAGS,
    tags,
};
use crate::release::{PREEMPTED, is_since};

/// The compiled programs of `plugin-ebpf`.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/execblock.bpf.o"));

/// Constants of the object (`plugin-ebpf/src/offsets.rs`) and the fields whose
/// offsets they hold.
pub(super) const OFFSETS: [(&str, &str, &str); 46] = [
    ("BPRM_FILENAME", "linux_binprm", "filename"),
    ("BPRM_INTERP", "linux_binprm", "interp"),
    ("BPRM_FILE", "linux_binprm", "file"),
    ("BPRM_ARGC", "linux_binprm", "argc"),
    ("BPRM_P", "linux_binprm", "p"),
    ("FILE_DENTRY", "file", "f_path.dentry"),
    ("FILE_MNT", "file", "f_path.mnt"),
    ("VMA_FILE", "vm_area_struct", "vm_file"),
    ("DENTRY_LEN", "dentry", "d_name.len"),
    ("DENTRY_NAME", "dentry", "d_name.name"),
    ("DENTRY_PARENT", "dentry", "d_parent"),
    ("DENTRY_INODE", "dentry", "d_inode"),
    ("DENTRY_SB", "dentry", "d_sb"),
    ("VFSMOUNT_ROOT", "vfsmount", "mnt_root"),
    ("MOUNT_VFSMOUNT", "mount", "mnt"),
    ("MOUNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("MOUNT_NS", "mount", "mnt_ns"),
    ("MNT_NS_INUM", "mnt_namespace", "ns.inum"),
    ("SB_DEV", "super_block", "s_dev"),
    ("INODE_NLINK", "inode", "i_nlink"),
    ("TASK_NSPROXY", "task_struct", "nsproxy"),
    ("TASK_PID", "task_struct", "thread_pid"),
    ("TASK_PARENT", "task_struct", "real_parent"),
    ("TASK_LEADER", "task_struct", "group_leader"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_COMM", "task_struct", "comm"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_PERSONALITY", "task_struct", "personality"),
    ("TASK_EXIT_STATE", "task_struct", "exit_state"),
    ("ITER_FILE", "bpf_iter_meta", "seq"),
    ("MM_ARG_START", "mm_struct", "arg_start"),
    ("MM_ARG_END", "mm_struct", "arg_end"),
    ("MM_EXE_FILE", "mm_struct", "exe_file"),
    ("NSPROXY_MNT_NS", "nsproxy", "mnt_ns"),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("UPID_NS", "upid", "ns"),
    ("UPID_NR", "upid", "nr"),
    ("PID_NS_INUM", "pid_namespace", "ns.inum"),
    ("CSS_SET_CGROUP", "css_set", "dfl_cgrp"),
    ("CGROUP_NODE", "cgroup", "kn"),
    ("CGROUP_PARENT", "cgroup", "self.parent"),
    ("CSS_CGROUP", "cgroup_subsys_state", "cgroup"),
    ("NODE_ID", "kernfs_node", "id"),
];

/// As [`OFFSETS`], of fields that only some kernels have.
const OPTIONAL_OFFSETS: [(&str, &str, &str); 2] = [
    ("BACKING_DENTRY", "backing_file", "user_path.dentry"),
    ("BACKING_MNT", "backing_file", "user_path.mnt"),
];

/// Constants that hold the size of a structure.
pub(super) const SIZES: [(&str, &str); 2] = [("INODE_SIZE", "inode"), ("UPID_SIZE", "upid")];

/// The value of every constant for the running kernel.
fn constants(layout: &Layout) -> Result<Vec<(&'static str, i64)>, KernelError> {
    const ABSENT: i64 = -1;
    let mut constants = Vec::new();
    for (constant, structure, field) in OFFSETS {
        constants.push((constant, layout.offset(structure, field)?));
    }
    for (constant, structure, field) in OPTIONAL_OFFSETS {
        let offset = match layout.offset(structure, field) {
            Err(BtfError::NoField { .. }) => ABSENT,
            other => other?,
        };
        constants.push((constant, offset));
    }
    let (word, bit) = match layout.flag("task_struct", "in_execve") {
        // Then the mappings of a program's own file are looked at too.
        Err(BtfError::NoField { .. }) => (0, 0),
        other => other?,
    };
    constants.extend([("TASK_EXEC_WORD", word), ("TASK_EXEC_BIT", bit)]);
    let exec_id = if is_since(PREEMPTED) {
        layout.offset("task_struct", "self_exec_id")?
    } else {
        0
    };
    constants.push(("TASK_EXEC_ID", exec_id));
    constants.push(("HAS_REGISTERS", i64::from(has_registers())));
    for (constant, structure) in SIZES {
        constants.push((constant, layout.size(structure)?));
    }
    Ok(constants)
}

/// Whether programs may ask for the registers of a process, and they are those
/// that `field/registers.rs` knows.
fn has_registers() -> bool {
    cfg!(target_arch = "x86_64") && is_since((5, 15))
}

/// How much the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Containers, and policies.
    pub containers: u32,
    /// Entries of the map `rules`: one a name, a few a path. Names of more than 32 bytes
    /// have a quarter of it beside, and so have those with a `*`.
    pub rules: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            containers: CONTAINERS_DEFAULT,
            rules: RULES_DEFAULT,
        }
    }
}

/// Which programs these are: those of this version.
#[must_use]
pub fn build() -> Build {
    let number = |text: &str| text.parse().unwrap_or(0);
    Build {
        object: Sha256::digest(OBJECT).into(),
        version: [
            number(env!("CARGO_PKG_VERSION_MAJOR")),
            number(env!("CARGO_PKG_VERSION_MINOR")),
            number(env!("CARGO_PKG_VERSION_PATCH")),
        ],
        reserved: 0,
    }
}

/// Where the tags of pinned programs are pinned.
#[derive(Debug)]
pub struct Tags(PathBuf);

impl Tags {
    /// Those of the programs behind complete pins.
    ///
    /// # Errors
    ///
    /// Where they are not found.
    pub fn of(pins: &Pins) -> Result<Self, PinError> {
        if let PinState::Foreign(_) = pins.state()? {
            // Those of older versions are not pinned.
            tags::pin_those_of(pins.dir())?;
        }
        Ok(Self(pins.dir().join(TAGS)))
    }
}

/// The object with its maps; programs go into the kernel when they are attached.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Btf,
    pub(super) maps: Maps,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").finish_non_exhaustive()
    }
}

impl Programs {
    /// Makes the maps and sets the running kernel's offsets.
    ///
    /// # Errors
    ///
    /// Where the kernel has no BTF, or refuses a map.
    pub fn load(capacity: Capacity) -> Result<Self, KernelError> {
        Self::load_beside(capacity, None)
    }

    /// As [`load`](Self::load), to take the place of pinned programs: what processes
    /// carry with them is theirs too.
    ///
    /// # Errors
    ///
    /// Where the kernel has no BTF, or refuses a map.
    pub fn load_beside(capacity: Capacity, others: Option<&Tags>) -> Result<Self, KernelError> {
        let layout = Layout::of_kernel()?;
        let constants = constants(&layout)?;
        drop(layout);
        let mut loader = EbpfLoader::new();
        for (constant, value) in &constants {
            loader.override_global(constant, value, true);
        }
        if let Some(Tags(path)) = others {
            loader.map_pin_path(TAGS, path.as_path());
        }
        let mut ebpf = loader
            .map_max_entries("containers", capacity.containers)
            .map_max_entries("policies", capacity.containers)
            .map_max_entries("rules", capacity.rules)
            .map_max_entries(
                "rules_long",
                capacity.rules.div_ceil(RULES_DEFAULT / LONG_DEFAULT),
            )
            .map_max_entries(
                "globs",
                capacity.rules.div_ceil(RULES_DEFAULT / GLOBS_DEFAULT),
            )
            .map_max_entries("flows", capacity.containers)
            .map_max_entries("hits", capacity.containers.max(HITS_DEFAULT))
            // aya has no type for the storage in tasks, which only programs use.
            .allow_unsupported_maps()
            .load(OBJECT)
            .map_err(Box::new)?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.set_build(build())?;
        let btf = Btf::from_sys_fs().map_err(|error| KernelError::Program {
            program: "all",
            source: Box::new(error),
        })?;
        Ok(Self { ebpf, btf, maps })
    }

    /// The maps, shared with all programs of this object.
    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }
}
