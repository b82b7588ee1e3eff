//! Attaches the programs of one mechanism.

use std::{
    collections::HashSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aya::programs::{
    BtfTracePoint, Iter, KProbe, Lsm, Program, ProgramError, ProgramInfo, TracePoint,
    iter::IterLink, links::FdLink,
};

use super::{
    KernelError, Mechanism, PinError, Programs, fmod_ret, pin,
    tags::{self, CARRIED},
};
use crate::release::{PREEMPTED, is_since};

/// The programs of one mechanism, attached. Dropping it detaches them, unless
/// they were pinned.
#[derive(Debug)]
pub struct Attached {
    /// Which it is.
    pub mechanism: Mechanism,
    /// Names for the pins, and the links.
    pub links: Vec<(String, Link)>,
}

/// One attached program.
#[derive(Debug)]
pub enum Link {
    /// Attached by aya.
    Aya(FdLink),
    /// Attached by a call of our own: aya has no fmod_ret.
    Raw(OwnedFd),
}

impl Link {
    /// Pins it, so that it holds when this process is gone.
    ///
    /// # Errors
    ///
    /// Where the path is taken or not on a BPF file system.
    pub fn pin(self, path: &Path) -> Result<(), PinError> {
        match self {
            Self::Aya(link) => link.pin(path).map(drop).map_err(|source| PinError::Pin {
                path: path.to_owned(),
                source: Box::new(source),
            }),
            Self::Raw(fd) => pin::pin_fd(&fd, path),
        }
    }
}

/// The syscalls of one program: x32 comes by the 64-bit registers, ia32 by its
/// own. A kernel without an ABI lacks its symbols (arch/x86/include/asm/
/// syscall_wrapper.h).
const SYSCALLS: [(&str, &[&str]); 4] = [
    (
        "kprobe_execve",
        &["__x64_sys_execve", "__x64_compat_sys_execve"],
    ),
    (
        "kprobe_execveat",
        &["__x64_sys_execveat", "__x64_compat_sys_execveat"],
    ),
    (
        "kprobe_execve32",
        &["__ia32_compat_sys_execve", "__ia32_sys_execve"],
    ),
    (
        "kprobe_execveat32",
        &["__ia32_compat_sys_execveat", "__ia32_sys_execveat"],
    ),
];

/// Programs and the LSM hooks that they are for.
const LSM_HOOKS: [(&str, &str); 3] = [
    ("lsm_exec", "bprm_check_security"),
    ("lsm_mmap", "mmap_file"),
    ("lsm_mprotect", "file_mprotect"),
];

/// Those that stand behind them.
const LSM_IMAGE: (&str, &str) = ("lsm_image", "bprm_committed_creds");
const LSM_FORK: (&str, &str) = ("lsm_fork", "task_alloc");

const FMOD_RET_EXEC: &str = "fmod_ret_exec";

/// Programs and the kernel functions around the same hooks.
const FMOD_RET_HOOKS: [(&str, &str); 3] = [
    (FMOD_RET_EXEC, "security_bprm_check"),
    ("fmod_ret_mmap", "security_mmap_file"),
    ("fmod_ret_mprotect", "security_file_mprotect"),
];

impl Programs {
    /// Loads and attaches one mechanism. That it succeeds does not mean that
    /// the kernel runs it: see [`canary`](crate::canary).
    ///
    /// # Errors
    ///
    /// The kernel's answer, for the first program that it refuses. Nothing
    /// stays attached then.
    pub fn attach(&mut self, mechanism: Mechanism) -> Result<Attached, KernelError> {
        let links = match mechanism {
            Mechanism::Lsm => self.lsm()?,
            Mechanism::FmodRet => self.fmod_ret()?,
            Mechanism::Kprobe => self.kprobes()?,
            Mechanism::Signal => self.signal()?,
        };
        Ok(Attached { mechanism, links })
    }

    fn lsm(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        let hooks = LSM_HOOKS.into_iter();
        hooks.map(|hook| self.lsm_hook(hook)).collect()
    }

    fn lsm_hook(
        &mut self,
        (name, hook): (&'static str, &str),
    ) -> Result<(String, Link), KernelError> {
        let Self { ebpf, btf, .. } = self;
        let failed = |error| refused(name, error);
        let program: &mut Lsm = program(ebpf, name)?;
        program.load(hook, btf).map_err(failed)?;
        verified(name, program.info());
        let id = program.attach().map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        Ok((name.to_owned(), Link::Aya(link.into())))
    }

    fn fmod_ret(&self) -> Result<Vec<(String, Link)>, KernelError> {
        let Self { ebpf, btf, maps } = self;
        FMOD_RET_HOOKS
            .into_iter()
            .map(|(name, function)| {
                let link = fmod_ret::attach(ebpf, maps, btf, name, function)?;
                Ok((name.to_owned(), Link::Raw(link)))
            })
            .collect()
    }

    fn signal(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        let mut links = vec![self.tracepoint("signal_exec", "sched_process_exec")?];
        if is_since(PREEMPTED) {
            match self.signal_again() {
                Ok(link) => links.push(link),
                // Fails open, for an exec beside a program that is held up.
                Err(error) => log::warn!("signal has no second look: {error}"),
            }
        }
        Ok(links)
    }

    fn signal_again(&mut self) -> Result<(String, Link), KernelError> {
        const NAME: &str = "signal_again";
        let failed = |error| refused(NAME, error);
        let program: &mut TracePoint = program(&mut self.ebpf, NAME)?;
        program.load().map_err(failed)?;
        verified(NAME, program.info());
        let id = program.attach("sched", "sched_process_exec");
        let link = program.take_link(id.map_err(failed)?).map_err(failed)?;
        let link = FdLink::try_from(link).map_err(|error| KernelError::Program {
            program: NAME,
            source: Box::new(error),
        })?;
        Ok((NAME.to_owned(), Link::Aya(link)))
    }

    /// What kills behind a mechanism, for what that one can't see.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn attach_behind(&mut self, mechanism: Mechanism) -> Result<Attached, KernelError> {
        let links = if mechanism == Mechanism::Lsm && lsm_sees_all() {
            vec![self.lsm_hook(LSM_IMAGE)?]
        } else {
            self.signal()?
        };
        let mechanism = Mechanism::Signal;
        Ok(Attached { mechanism, links })
    }

    /// What goes with every mechanism: processes carry their tag to their
    /// children.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn attach_fork(&mut self, mechanism: Mechanism) -> Result<(String, Link), KernelError> {
        if mechanism == Mechanism::Lsm && lsm_sees_all() {
            self.lsm_hook(LSM_FORK)
        } else {
            self.tracepoint("fork", "task_newtask")
        }
    }

    /// What tells which cgroups are carried, by the name of the file that it is to be
    /// pinned as.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn attach_carried(&mut self) -> Result<(String, Link), KernelError> {
        let link = self.iterator()?;
        let link = FdLink::try_from(link).map_err(|error| KernelError::Program {
            program: CARRIED,
            source: Box::new(error),
        })?;
        Ok((CARRIED.to_owned(), Link::Aya(link)))
    }

    /// The cgroups that processes carry which are alive, wherever they are: before these
    /// programs are pinned, as [`Pins::carried`](super::Pins::carried) afterwards.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn carried(&mut self) -> Result<HashSet<u64>, KernelError> {
        let failed = |source| KernelError::Program {
            program: CARRIED,
            source,
        };
        let file = self.iterator()?.into_file();
        let file = file.map_err(|error| failed(error.into()))?;
        tags::read(file).map_err(|error| failed(error.into()))
    }

    fn iterator(&mut self) -> Result<IterLink, KernelError> {
        let Self { ebpf, btf, .. } = self;
        let failed = |error| refused(CARRIED, error);
        let program: &mut Iter = program(ebpf, CARRIED)?;
        if program.fd().is_err() {
            program.load("task", btf).map_err(failed)?;
            verified(CARRIED, program.info());
        }
        let id = program.attach().map_err(failed)?;
        program.take_link(id).map_err(failed)
    }

    /// What looks at executable mappings behind a mechanism that does not.
    ///
    /// # Errors
    ///
    /// The kernel's answer, most likely that it has no fmod_ret.
    pub fn attach_mappings(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        let Self { ebpf, btf, maps } = self;
        FMOD_RET_HOOKS
            .into_iter()
            .filter(|(name, _)| *name != FMOD_RET_EXEC)
            .map(|(name, function)| {
                let link = fmod_ret::attach(ebpf, maps, btf, name, function)?;
                Ok((name.to_owned(), Link::Raw(link)))
            })
            .collect()
    }

    fn tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<(String, Link), KernelError> {
        let Self { ebpf, btf, .. } = self;
        let failed = |error| refused(name, error);
        let program: &mut BtfTracePoint = program(ebpf, name)?;
        program.load(tracepoint, btf).map_err(failed)?;
        verified(name, program.info());
        let id = program.attach().map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        Ok((name.to_owned(), Link::Aya(link.into())))
    }

    fn kprobes(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        let symbols = exec_symbols()?;
        let mut links = Vec::new();
        for (name, syscalls) in SYSCALLS {
            let failed = |error| refused(name, error);
            let syscalls = syscalls
                .iter()
                .filter(|&&syscall| symbols.iter().any(|s| s == syscall));
            let mut syscalls = syscalls.peekable();
            if syscalls.peek().is_none() {
                continue;
            }
            let program: &mut KProbe = program(&mut self.ebpf, name)?;
            program
                .load()
                .map_err(|error| lacks_override(name, error))?;
            for syscall in syscalls {
                let id = program.attach(syscall, 0).map_err(failed)?;
                let link = program.take_link(id).map_err(failed)?;
                let link = FdLink::try_from(link).map_err(|error| KernelError::Program {
                    program: name,
                    source: Box::new(error),
                })?;
                links.push((format!("kprobe{syscall}"), Link::Aya(link)));
            }
        }
        if links.is_empty() {
            return Err(KernelError::NoSyscall);
        }
        Ok(links)
    }
}

/// Whether no exec passes by an LSM program that is held up on its CPU: Linux 6.2 lost
/// that guard, and some of 6.1, of which it is not known (`bpf_prog_check_recur` in
/// include/linux/bpf_verifier.h).
fn lsm_sees_all() -> bool {
    is_since((6, 2))
}

/// What the verifier had to do, of which it has a million.
fn verified(name: &str, info: Result<ProgramInfo, ProgramError>) {
    let count = info.ok().and_then(|info| info.verified_instruction_count());
    log::debug!("{name}: {count:?} instructions verified");
}

fn program<'a, T>(ebpf: &'a mut aya::Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = || KernelError::Program {
        program: name,
        source: "not in the embedded object".into(),
    };
    ebpf.program_mut(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|error| refused(name, error))
}

/// The verifier's answer where the helper does not exist, as a person says it.
fn lacks_override(program: &'static str, error: ProgramError) -> KernelError {
    let text = super::chain(&error);
    if text.contains("bpf_override_return") && text.contains("cannot use helper")
        || text.contains("unknown func bpf_override_return")
    {
        let source = "the kernel lacks CONFIG_BPF_KPROBE_OVERRIDE".into();
        return KernelError::Program { program, source };
    }
    refused(program, error)
}

fn refused(program: &'static str, error: ProgramError) -> KernelError {
    KernelError::Program {
        program,
        source: Box::new(error),
    }
}

/// The symbols of [`SYSCALLS`] that the running kernel has.
fn exec_symbols() -> Result<Vec<String>, KernelError> {
    let path = PathBuf::from("/proc/kallsyms");
    let text = fs::read_to_string(&path).map_err(|source| KernelError::Read { path, source })?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2))
        .filter(|symbol| symbol.contains("sys_execve"))
        .map(str::to_owned)
        .collect())
}
