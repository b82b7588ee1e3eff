//! bpf(2) as somebody would call it who wants our maps, programs and links: without a loader, and
//! with the errno of each call.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

/// Commands of include/uapi/linux/bpf.h.
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const MAP_DELETE_ELEM: i32 = 3;
const MAP_GET_NEXT_KEY: i32 = 4;
const PROG_LOAD: i32 = 5;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const LINK_DETACH: i32 = 34;

const PROG_TYPE_LSM: u32 = 29;
const ATTACH_LSM_MAC: u32 = 27;
/// `r0 = 0; exit`
const RETURN_0: [u64; 2] = [0xb7, 0x95];

/// `union bpf_attr`, larger than any kernel's use of it here.
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: &OwnedFd) -> Self {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }

    fn pointer<T>(mut self, at: usize, to: *const T) -> Self {
        self.0[at..at + 8].copy_from_slice(&(to as u64).to_ne_bytes());
        self
    }

    /// What its pointers point at must live, and be as long as the command says.
    fn call(&mut self, command: i32) -> io::Result<i32> {
        // SAFETY: the attribute is as long as is said, and what it points at is alive in each of the
        // callers below.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        match i32::try_from(result) {
            Ok(result) if result >= 0 => Ok(result),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn open(&mut self, command: i32) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// What has ids that can be gone through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Program,
    Map,
    Link,
}

impl Kind {
    /// `BPF_*_GET_FD_BY_ID`
    fn by_id(self) -> i32 {
        match self {
            Self::Program => 13,
            Self::Map => 14,
            Self::Link => 30,
        }
    }

    /// All that there are. Ids are counted from one, and a machine that has just been booted has few:
    /// where the kernel does not enumerate them they are guessed.
    pub(crate) fn all(self) -> io::Result<Vec<OwnedFd>> {
        const GUESSES: u32 = 500;
        let mut found = Vec::new();
        let mut last = None;
        for id in 1..=GUESSES {
            match Attr::new().u32(0, id).open(self.by_id()) {
                Ok(fd) => found.push(fd),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

pub(crate) fn by_pin(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    Attr::new().pointer(0, path.as_ptr()).open(OBJ_GET)
}

/// Always of a link; the kernel can do that to some kinds of them.
pub(crate) fn detach(link: &OwnedFd) -> io::Result<()> {
    Attr::new().fd(0, link).call(LINK_DETACH).map(drop)
}

/// A map, and how long its keys and values are.
pub(crate) struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
    pub(crate) name: String,
}

impl Map {
    pub(crate) fn of(fd: OwnedFd) -> io::Result<Self> {
        // struct bpf_map_info
        let mut info = [0_u8; 88];
        Attr::new()
            .fd(0, &fd)
            .u32(4, 88)
            .pointer(8, info.as_mut_ptr())
            .call(OBJ_GET_INFO_BY_FD)?;
        let size = |at: usize| {
            let bytes = [info[at], info[at + 1], info[at + 2], info[at + 3]];
            u32::from_ne_bytes(bytes) as usize
        };
        let name = info[24..40].split(|&byte| byte == 0).next();
        Ok(Self {
            key: size(8),
            value: size(12),
            name: String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
            fd,
        })
    }

    pub(crate) fn entries(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut entries = Vec::new();
        let mut before: Option<Vec<u8>> = None;
        loop {
            let mut key = vec![0; self.key];
            let from = before.as_ref().map_or(std::ptr::null(), Vec::as_ptr);
            let mut attr = Attr::new()
                .fd(0, &self.fd)
                .pointer(8, from)
                .pointer(16, key.as_mut_ptr());
            match attr.call(MAP_GET_NEXT_KEY) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(entries),
                other => other.map(drop)?,
            }
            let mut value = vec![0; self.value];
            self.element(&key, value.as_mut_ptr(), MAP_LOOKUP_ELEM)?;
            before = Some(key.clone());
            entries.push((key, value));
        }
    }

    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.element(key, std::ptr::null(), MAP_DELETE_ELEM)
    }

    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.element(key, value.as_ptr(), MAP_UPDATE_ELEM)
    }

    fn element(&self, key: &[u8], value: *const u8, command: i32) -> io::Result<()> {
        Attr::new()
            .fd(0, &self.fd)
            .pointer(8, key.as_ptr())
            .pointer(16, value)
            .call(command)
            .map(drop)
    }
}

/// A program that answers 0 where ours are asked, attached for as long as the link is held.
pub(crate) fn attach_allowing() -> Result<io::Result<OwnedFd>> {
    let id = function("bpf_lsm_bprm_check_security")?;
    let loaded = Attr::new()
        .u32(0, PROG_TYPE_LSM)
        .u32(4, 2)
        .pointer(8, RETURN_0.as_ptr())
        .pointer(16, c"GPL".as_ptr())
        .u32(68, ATTACH_LSM_MAC)
        .u32(108, id)
        .open(PROG_LOAD);
    Ok(loaded.and_then(|program| Attr::new().fd(8, &program).open(RAW_TRACEPOINT_OPEN)))
}

/// The id of a function among the kernel's types.
fn function(name: &str) -> Result<u32> {
    const FUNC: u32 = 12;
    let btf = fs::read("/sys/kernel/btf/vmlinux").context("the kernel's types")?;
    let word = |at: usize| {
        let bytes = btf.get(at..at + 4).context("the kernel's types end")?;
        Ok::<_, anyhow::Error>(u32::from_ne_bytes(bytes.try_into()?))
    };
    let header = word(4)? as usize;
    let (mut at, strings) = (header + word(8)? as usize, header + word(16)? as usize);
    let end = at + word(12)? as usize;
    let mut id = 0;
    while at < end {
        id += 1;
        let (named, info) = (strings + word(at)? as usize, word(at + 4)?);
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let begins = btf.get(named..).unwrap_or_default();
        if kind == FUNC && begins.starts_with(name.as_bytes()) && begins.get(name.len()) == Some(&0)
        {
            return Ok(id);
        }
        // What stands behind a type (include/uapi/linux/btf.h).
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => members * 12,
                6 | 13 => members * 8,
                _ => 0,
            };
    }
    anyhow::bail!("no function {name}")
}
