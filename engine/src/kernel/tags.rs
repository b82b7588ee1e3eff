//! What processes carry with them, as user space sees it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _},
    mem,
    os::fd::OwnedFd,
    path::Path,
};

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_map_type, bpf_prog_info};

use super::{
    PinError, Pins,
    fmod_ret::{bpf, bpf_raw, fd_number},
    maps::{TAGS, other},
    pin::{get_fd, pin_fd},
};

/// The program that tells who carries what, and its pin among the links.
pub(super) const CARRIED: &str = "carried";

impl Pins {
    /// The cgroups that processes carry which are alive, wherever they are now. The
    /// kernel goes through all tasks of this pid namespace.
    ///
    /// # Errors
    ///
    /// Where that can't be told: it is not known then who is bound.
    pub fn carried(&self) -> io::Result<HashSet<u64>> {
        read(File::open(self.links().join(CARRIED))?)
    }
}

/// What the iterator behind a file tells.
pub(super) fn read(mut file: File) -> io::Result<HashSet<u64>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (ids, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(io::Error::other("a part of a cgroup id"));
    }
    Ok(ids.iter().copied().map(u64::from_ne_bytes).collect())
}

/// Pins the tags of programs whose version did not, so that the next ones know who is
/// bound.
///
/// # Errors
///
/// Where they are not found: processes outside of their cgroup would be free.
pub(super) fn pin_those_of(dir: &Path) -> Result<(), PinError> {
    let path = dir.join(TAGS);
    if path.exists() {
        return Ok(());
    }
    let links = dir.join("links");
    let found = of_any_link(&links).and_then(|found| {
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no program has any"))
    });
    let map = found.map_err(|source| PinError::Io {
        call: "looking for the tags of the programs in",
        path: links,
        source,
    })?;
    pin_fd(&map, &path)
}

fn of_any_link(links: &Path) -> io::Result<Option<OwnedFd>> {
    for entry in fs::read_dir(links)? {
        if let Some(map) = of_link(&entry?.path())? {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// The storage in tasks that the program behind a pinned link uses.
fn of_link(link: &Path) -> io::Result<Option<OwnedFd>> {
    let link = get_fd(link)?;
    // SAFETY: all bytes zero is a valid value.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let size = u32::try_from(size_of::<bpf_link_info>()).unwrap_or(0);
    tell(&link, (&raw mut info) as u64, size)?;
    let program = by_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, info.prog_id)?;
    let mut ids = [0_u32; 32];
    // SAFETY: as above.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    info.map_ids = ids.as_mut_ptr() as u64;
    info.nr_map_ids = u32::try_from(ids.len()).unwrap_or(0);
    let size = u32::try_from(size_of::<bpf_prog_info>()).unwrap_or(0);
    tell(&program, (&raw mut info) as u64, size)?;
    let used = usize::try_from(info.nr_map_ids).unwrap_or(0);
    for id in ids.into_iter().take(used) {
        let map = by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)?;
        let copy = map.try_clone()?;
        let kind = MapData::from_fd(copy)
            .and_then(|data| data.info())
            .map_err(|error| io::Error::other(other(TAGS)(error)))?;
        if kind.map_type().ok().map(|kind| kind as u32)
            == Some(bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE as u32)
        {
            return Ok(Some(map));
        }
    }
    Ok(None)
}

/// What the kernel says of an object.
fn tell(object: &OwnedFd, to: u64, size: u32) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.info.bpf_fd = fd_number(object);
    attr.info.info = to;
    attr.info.info_len = size;
    bpf_raw(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

fn by_id(command: bpf_cmd, id: u32) -> io::Result<OwnedFd> {
    // SAFETY: all bytes zero is a valid attribute; the union's fields are integers.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
    bpf(command, &mut attr)
}
