//! Loads and attaches the fmod_ret programs: aya has no such type. The
//! instructions come relocated from aya-obj, bpf(2) is called here.

use std::{
    collections::HashSet,
    ffi::CStr,
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    slice,
};

use aya::{Btf, Ebpf, maps::Map};
use aya_obj::{
    Function, Object,
    btf::BtfKind,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_map_info, bpf_prog_info, bpf_prog_type},
};

use super::{KernelError, Maps, chain, load::OBJECT, maps::RULES};

/// Of the verifier's log, when it refuses the program.
const LOG_BYTES: usize = 1 << 20;

type Reason = Box<dyn std::error::Error + Send + Sync>;

/// Attaches the program `name` of the object, with the maps of `ebpf`, to a
/// function. The verifier allows fmod_ret on every `security_…` function
/// (`check_attach_modify_return` in kernel/bpf/verifier.c).
pub(super) fn attach(
    ebpf: &Ebpf,
    maps: &Maps,
    btf: &Btf,
    name: &'static str,
    function: &str,
) -> Result<OwnedFd, KernelError> {
    try_attach(ebpf, maps, btf, name, function).map_err(|source| KernelError::Program {
        program: name,
        source,
    })
}

fn try_attach(
    ebpf: &Ebpf,
    maps: &Maps,
    btf: &Btf,
    name: &str,
    target: &str,
) -> Result<OwnedFd, Reason> {
    let target_id = btf.id_by_type_name_kind(target, BtfKind::Func)?;
    let (function, license) = relocated(ebpf, maps, name)?;
    let types = object_types(maps)?;
    let program = match load(name, &function, &license, target_id, &types, None) {
        Ok(program) => program,
        Err(error) => {
            let mut log = vec![0_u8; LOG_BYTES];
            // Asked again, this time for the reason.
            match load(name, &function, &license, target_id, &types, Some(&mut log)) {
                Ok(program) => program,
                Err(_) => return Err(format!("{error}{}", last_lines(&log)).into()),
            }
        }
    };
    log::debug!("{name}: {:?} instructions verified", verified(&program));
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.raw_tracepoint.prog_fd = fd_number(&program);
    // Without a name: the program carries its target (Linux 5.5).
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
        .map_err(|error| format!("attaching to {target}: {error}").into())
}

fn relocated(
    ebpf: &Ebpf,
    maps: &Maps,
    name: &str,
) -> Result<(Function, std::ffi::CString), Reason> {
    let mut object = Object::parse(OBJECT)?;
    let declared = mem::take(&mut object.maps);
    let mut known = Vec::with_capacity(declared.len());
    for (name, map) in &declared {
        let constants = match ebpf.map(name) {
            // Constants, and what only programs use.
            Some(Map::Array(data) | Map::LruHashMap(data) | Map::Unsupported(data)) => {
                Some(data.fd().as_fd())
            }
            _ => None,
        };
        let fd = maps
            .fd(name)
            .or(constants)
            .ok_or_else(|| format!("the object has an unknown map {name}"))?;
        known.push((name.as_str(), fd.as_raw_fd(), map));
    }
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object
        .relocate_maps(known.into_iter(), &text)
        .map_err(|error| chain(&error))?;
    object
        .relocate_calls(&text)
        .map_err(|error| chain(&error))?;
    let program = object
        .programs
        .get(name)
        .ok_or("not in the embedded object")?;
    let function = object
        .functions
        .get(&program.function_key())
        .ok_or("has no instructions")?;
    Ok((function.clone(), program.license.clone()))
}

/// What the verifier had to do (Linux 5.16).
fn verified(program: &OwnedFd) -> io::Result<u32> {
    // SAFETY: all bytes zero is a valid value of both.
    let (mut attr, mut info): (bpf_attr, bpf_prog_info) = unsafe { mem::zeroed() };
    attr.info.bpf_fd = fd_number(program);
    attr.info.info = (&raw mut info) as u64;
    attr.info.info_len = u32::try_from(size_of::<bpf_prog_info>()).unwrap_or(0);
    bpf_raw(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.verified_insns)
}

/// The object's types, which the kernel has since the maps were made.
fn object_types(maps: &Maps) -> Result<OwnedFd, Reason> {
    let map = maps.fd(RULES).ok_or("the object has no map of rules")?;
    // SAFETY: all bytes zero is a valid value of both.
    let (mut attr, mut info): (bpf_attr, bpf_map_info) = unsafe { mem::zeroed() };
    attr.info.bpf_fd = map.as_raw_fd().cast_unsigned();
    attr.info.info = (&raw mut info) as u64;
    attr.info.info_len = u32::try_from(size_of::<bpf_map_info>())?;
    bpf_raw(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: as above; the fields are those of BPF_BTF_GET_FD_BY_ID.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = info.btf_id;
    Ok(bpf(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr)?)
}

fn load(
    name: &str,
    function: &Function,
    license: &CStr,
    target: u32,
    types: &OwnedFd,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    // SAFETY: the union's fields are integers; this is the one of BPF_PROG_LOAD.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
    load.attach_btf_id = target;
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(function.instructions.len()).unwrap_or(u32::MAX);
    load.license = license.as_ptr() as u64;
    // Without its NUL at the end the kernel refuses it (BPF_OBJ_NAME_LEN).
    let room = load.prog_name.len() - 1;
    for (to, from) in load.prog_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from.cast_signed();
    }
    // With the types of its functions the verifier goes once through those that
    // are global, and without them anew for each call.
    let functions = function.func_info.func_info_bytes();
    load.prog_btf_fd = fd_number(types);
    load.func_info = functions.as_ptr() as u64;
    load.func_info_cnt = u32::try_from(function.func_info.len()).unwrap_or(0);
    load.func_info_rec_size = u32::try_from(function.func_info_rec_size).unwrap_or(0);
    if let Some(log) = log {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).unwrap_or(0);
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// bpf(2), for the commands that give a descriptor.
pub(super) fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf_raw(command, attr)?;
    // SAFETY: the call just made it, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
pub(super) fn bpf_raw(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attribute lives as long as the call and has the size passed;
    // what it points to is kept alive by the callers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            slice::from_mut(attr).as_mut_ptr(),
            size_of::<bpf_attr>(),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor as the attributes want it.
pub(super) fn fd_number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The end of the verifier's log: that is where it says why.
fn last_lines(log: &[u8]) -> String {
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..]
        .iter()
        .flat_map(|line| ["; ", line])
        .collect()
}
