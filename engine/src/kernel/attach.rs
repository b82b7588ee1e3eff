//! Attaches the programs of one mechanism.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use aya::programs::{BtfTracePoint, KProbe, Lsm, Program, ProgramError, links::FdLink};

use super::{KernelError, Mechanism, PinError, Programs, fmod_ret, pin};

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
            Mechanism::FmodRet => {
                let link = fmod_ret::attach(&self.ebpf, &self.maps, &self.btf)?;
                vec![("fmod_ret_exec".to_owned(), Link::Raw(link))]
            }
            Mechanism::Kprobe => self.kprobes()?,
            Mechanism::Signal => self.signal()?,
        };
        Ok(Attached { mechanism, links })
    }

    fn lsm(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        const NAME: &str = "lsm_exec";
        let Self { ebpf, btf, .. } = self;
        let failed = |error| refused(NAME, error);
        let program: &mut Lsm = program(ebpf, NAME)?;
        program.load("bprm_check_security", btf).map_err(failed)?;
        let id = program.attach().map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        Ok(vec![(NAME.to_owned(), Link::Aya(link.into()))])
    }

    fn signal(&mut self) -> Result<Vec<(String, Link)>, KernelError> {
        const NAME: &str = "signal_exec";
        let Self { ebpf, btf, .. } = self;
        let failed = |error| refused(NAME, error);
        let program: &mut BtfTracePoint = program(ebpf, NAME)?;
        program.load("sched_process_exec", btf).map_err(failed)?;
        log::debug!(
            "{NAME}: {:?} instructions verified",
            program
                .info()
                .ok()
                .and_then(|info| info.verified_instruction_count())
        );
        let id = program.attach().map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        Ok(vec![(NAME.to_owned(), Link::Aya(link.into()))])
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
