//! What processes carry with them, as user space sees it.

use std::{
    collections::HashSet,
    fs, io, mem,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use aya::maps::MapData;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_map_type, bpf_prog_info};
use plugin_common::Tag;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::cgroup::has_ended;

use super::{
    Maps, PinError,
    fmod_ret::{bpf, bpf_raw, fd_number},
    maps::{TAGS, other},
    pin::{get_fd, pin_fd},
};

impl Maps {
    /// The cgroups that a process carries which is alive, wherever it is now. Goes
    /// through all processes of this pid namespace, a few system calls each.
    ///
    /// # Errors
    ///
    /// Where one can't be looked at: it is not known then who is bound.
    pub fn carried(&self) -> io::Result<HashSet<u64>> {
        let mut cgroups = HashSet::new();
        let Some(map) = self.fd(TAGS) else {
            return Ok(cgroups);
        };
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else {
                continue;
            };
            let process = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => process,
                // Gone meanwhile.
                Err(Errno::SRCH) => continue,
                Err(error) => return Err(error.into()),
            };
            let (key, mut tag) = (process.as_raw_fd(), Tag::default());
            // SAFETY: all bytes zero is a valid attribute.
            let mut attr: bpf_attr = unsafe { mem::zeroed() };
            // SAFETY: the union's fields are integers; this is the one of elements.
            let element = unsafe { &mut attr.__bindgen_anon_2 };
            element.map_fd = map.as_raw_fd().cast_unsigned();
            element.key = (&raw const key) as u64;
            element.__bindgen_anon_1.value = (&raw mut tag) as u64;
            match bpf_raw(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) {
                // One that nobody has waited for yet does nothing more.
                Ok(_) if has_ended(&process) => {}
                Ok(_) => {
                    cgroups.insert(tag.cgroup);
                }
                // Most have none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cgroups)
    }
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
