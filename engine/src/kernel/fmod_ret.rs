//! Loads and attaches `fmod_ret_exec`: aya has no such program type. The
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
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type},
};

use super::{KernelError, Maps, load::OBJECT};

const NAME: &str = "fmod_ret_exec";
/// The verifier allows fmod_ret on every `security_…` function
/// (`check_attach_modify_return` in kernel/bpf/verifier.c).
const TARGET: &str = "security_bprm_check";
/// Of the verifier's log, when it refuses the program.
const LOG_BYTES: usize = 1 << 20;

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KernelError {
    KernelError::Program {
        program: NAME,
        source: source.into(),
    }
}

/// Attaches it to the maps of `ebpf`.
pub(super) fn attach(ebpf: &Ebpf, maps: &Maps, btf: &Btf) -> Result<OwnedFd, KernelError> {
    let target = btf
        .id_by_type_name_kind(TARGET, BtfKind::Func)
        .map_err(failed)?;
    let (function, license) = relocated(ebpf, maps)?;
    let program = match load(&function, &license, target, None) {
        Ok(program) => program,
        Err(error) => {
            let mut log = vec![0_u8; LOG_BYTES];
            // Asked again, this time for the reason.
            match load(&function, &license, target, Some(&mut log)) {
                Ok(program) => program,
                Err(_) => return Err(failed(format!("{error}{}", last_lines(&log)))),
            }
        }
    };
    // SAFETY: all bytes zero is a valid attribute.
    let mut attr: bpf_attr = unsafe { mem::zeroed() };
    attr.raw_tracepoint.prog_fd = fd_number(&program);
    // Without a name: the program carries its target (Linux 5.5).
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
        .map_err(|error| failed(format!("attaching to {TARGET}: {error}")))
}

fn relocated(ebpf: &Ebpf, maps: &Maps) -> Result<(Function, std::ffi::CString), KernelError> {
    let mut object = Object::parse(OBJECT).map_err(failed)?;
    let declared = mem::take(&mut object.maps);
    let mut known = Vec::with_capacity(declared.len());
    for (name, map) in &declared {
        let constants = match ebpf.map(name) {
            Some(Map::Array(data)) => Some(data.fd().as_fd()),
            _ => None,
        };
        let fd = maps
            .fd(name)
            .or(constants)
            .ok_or_else(|| failed(format!("the object has an unknown map {name}")))?;
        known.push((name.as_str(), fd.as_raw_fd(), map));
    }
    let text: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object
        .relocate_maps(known.into_iter(), &text)
        .map_err(failed)?;
    object.relocate_calls(&text).map_err(failed)?;
    let program = object
        .programs
        .get(NAME)
        .ok_or_else(|| failed("not in the embedded object"))?;
    let function = object
        .functions
        .get(&program.function_key())
        .ok_or_else(|| failed("has no instructions"))?;
    Ok((function.clone(), program.license.clone()))
}

fn load(
    function: &Function,
    license: &CStr,
    target: u32,
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
    for (to, from) in load.prog_name.iter_mut().zip(NAME.as_bytes()) {
        *to = from.cast_signed();
    }
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
