//! Loads the object: maps made, offsets set, no program in the kernel yet.

use aya::{Btf, Ebpf, EbpfLoader};
use plugin_common::{CONTAINERS_DEFAULT, HITS_DEFAULT, RULES_DEFAULT};

use super::{KernelError, Maps, btf::Layout};

/// The compiled programs of `plugin-ebpf`.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/execblock.bpf.o"));

/// Constants of the object (`plugin-ebpf/src/field.rs`) and the fields whose
/// offsets they hold.
pub(super) const OFFSETS: [(&str, &str, &str); 12] = [
    ("BPRM_FILENAME", "linux_binprm", "filename"),
    ("BPRM_INTERP", "linux_binprm", "interp"),
    ("BPRM_FILE", "linux_binprm", "file"),
    ("FILE_DENTRY", "file", "f_path.dentry"),
    ("FILE_MNT", "file", "f_path.mnt"),
    ("DENTRY_LEN", "dentry", "d_name.len"),
    ("DENTRY_NAME", "dentry", "d_name.name"),
    ("DENTRY_PARENT", "dentry", "d_parent"),
    ("VFSMOUNT_ROOT", "vfsmount", "mnt_root"),
    ("MOUNT_VFSMOUNT", "mount", "mnt"),
    ("MOUNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
];

/// How much the maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Containers, and policies.
    pub containers: u32,
    /// Entries of the rules map: one a name, a few a path.
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
        let layout = Layout::of_kernel()?;
        let mut offsets = Vec::with_capacity(OFFSETS.len());
        for (constant, structure, field) in OFFSETS {
            offsets.push((constant, layout.offset(structure, field)?));
        }
        drop(layout);
        let mut loader = EbpfLoader::new();
        for (constant, offset) in &offsets {
            loader.override_global(constant, offset, true);
        }
        let mut ebpf = loader
            .map_max_entries("containers", capacity.containers)
            .map_max_entries("policies", capacity.containers)
            .map_max_entries("rules", capacity.rules)
            .map_max_entries("hits", capacity.containers.max(HITS_DEFAULT))
            .load(OBJECT)
            .map_err(Box::new)?;
        let maps = Maps::take(&mut ebpf)?;
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
