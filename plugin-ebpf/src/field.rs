//! The only file that reads kernel memory.
//!
//! Fields on the way to a *name*, a device or a namespace are typed loads: the verifier checks
//! each against the kernel's BTF and refuses a wrong offset. Probe reads are
//! left where the verifier can't follow, and each reports failure:
//! - strings;
//! - the walk through the mounts, which needs `struct mount` around a
//!   `struct vfsmount`;
//! - the part of an overlay's inode that lies around `struct inode`, and the
//!   part of a `struct backing_file` behind `struct file`;
//! - what is read for a report alone, when the verdict stands.
//!
//! A file is typed where a hook has one, and an address where it was found in
//! such a part.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
    bpf_probe_read_user, bpf_probe_read_user_str, bpf_task_pt_regs,
};
use plugin_common::{COMM_CAPACITY, LEVEL_MAX};

use crate::offsets::*;

/// A pointer that the verifier knows the type of.
type Typed = *const c_void;

/// Loads a `T` at `base + offset`, checked by the verifier.
#[inline(always)]
fn load<T: Copy>(base: Typed, offset: usize) -> T {
    // SAFETY: the verifier admits the load only where kernel BTF has a field of
    // this size there; a fault inside it reads as zero.
    unsafe { ptr::read_volatile(base.byte_add(offset).cast::<T>()) }
}

/// Loads an address as a plain number. Since Linux 6.17 the verifier follows even
/// pointers to characters, and a number is what the lookups take. The copy is of
/// our own stack and can't fail.
#[inline(always)]
fn address(base: Typed, offset: usize) -> u64 {
    let pointer: Typed = load(base, offset);
    number(ptr::from_ref(&pointer).cast(), 0).unwrap_or(0)
}

/// Reads a `u64` at an address, or `None` where the kernel can't.
#[inline(always)]
fn probe(address: u64) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u64>() as u32,
            address as *const c_void,
        )
    };
    (failed == 0).then_some(value)
}

/// Reads a `u32` at an address, or `None` where the kernel can't.
#[inline(always)]
fn probe32(address: u64) -> Option<u32> {
    let mut value = 0_u32;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u32>() as u32,
            address as *const c_void,
        )
    };
    (failed == 0).then_some(value)
}

/// Reads the `u64` at an offset of a typed pointer as a plain number, which a
/// typed load would make a pointer of.
#[inline(always)]
fn number(base: Typed, offset: usize) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(
            ptr::from_mut(&mut value).cast(),
            size_of::<u64>() as u32,
            base.byte_add(offset),
        )
    };
    (failed == 0).then_some(value)
}

/// The kernel's `struct linux_binprm`.
pub struct Bprm(Typed);

impl Bprm {
    #[inline(always)]
    pub fn new(bprm: *const c_void) -> Self {
        Self(bprm)
    }

    /// Address of the kernel's copy of the string given to exec; `/dev/fd/N`
    /// where exec was given a descriptor.
    #[inline(always)]
    pub fn filename(&self) -> u64 {
        address(self.0, constant(&BPRM_FILENAME))
    }

    /// Address of the name of this level: the interpreter's as the script writes
    /// it, or [`Self::filename`] itself where there is no script.
    #[inline(always)]
    pub fn interp(&self) -> u64 {
        address(self.0, constant(&BPRM_INTERP))
    }

    /// Number of the new image's arguments.
    #[inline(always)]
    pub fn argc(&self) -> u32 {
        load(self.0, constant(&BPRM_ARGC))
    }

    /// The file of this level of interpreters, after symlinks.
    #[inline(always)]
    pub fn file(&self) -> File {
        File(load(self.0, constant(&BPRM_FILE)))
    }
}

/// The kernel's `struct vm_area_struct`.
pub struct Mapping(Typed);

impl Mapping {
    #[inline(always)]
    pub fn new(vma: *const c_void) -> Self {
        Self(vma)
    }

    /// The file that it maps; `None` for anonymous memory.
    #[inline(always)]
    pub fn file(&self) -> Option<File> {
        File::new(load(self.0, constant(&VMA_FILE)))
    }
}

/// The kernel's `struct file`.
pub struct File(Typed);

impl File {
    /// `None` where there is none.
    #[inline(always)]
    pub fn new(file: *const c_void) -> Option<Self> {
        if file.is_null() {
            None
        } else {
            Some(Self(file))
        }
    }

    #[inline(always)]
    fn dentry(&self) -> Typed {
        load(self.0, constant(&FILE_DENTRY))
    }

    /// Address and length of the last component of the file's path.
    #[inline(always)]
    pub fn name(&self) -> (u64, u32) {
        let dentry = self.dentry();
        (
            address(dentry, constant(&DENTRY_NAME)),
            load(dentry, constant(&DENTRY_LEN)),
        )
    }

    /// The place of the file in its tree of mounts.
    #[inline(always)]
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            dentry: number(self.0, constant(&FILE_DENTRY))?,
            vfsmount: number(self.0, constant(&FILE_MNT))?,
        })
    }

    /// The place that the user opened, of the file of a mapping: an overlay maps
    /// a file of its layers instead (`struct backing_file` in fs/file_table.c).
    ///
    /// Behind any other file lies memory that is no such place; what is read
    /// there is on no file system of `dev`.
    #[inline(always)]
    pub fn users_place(&self, dev: u32) -> Option<Place> {
        if constant(&BACKING_DENTRY) as i64 >= 0
            && let Some(place) = self.backed()
            && place.dev() == Some(dev)
        {
            return Some(place);
        }
        self.place()
    }

    #[inline(always)]
    fn backed(&self) -> Option<Place> {
        Some(Place {
            dentry: number(self.0, constant(&BACKING_DENTRY))?,
            vfsmount: number(self.0, constant(&BACKING_MNT))?,
        })
    }

    /// Where the file lies, as drift asks for it.
    #[inline(always)]
    pub fn origin(&self) -> Option<Origin> {
        let dentry = self.dentry();
        let inode: Typed = load(dentry, constant(&DENTRY_INODE));
        let sb: Typed = load(dentry, constant(&DENTRY_SB));
        Some(Origin {
            dev: load(sb, constant(&SB_DEV)),
            nlink: load(inode, constant(&INODE_NLINK)),
            inode: number(dentry, constant(&DENTRY_INODE))?,
            vfsmount: number(self.0, constant(&FILE_MNT))?,
        })
    }
}

/// Where a file lies.
pub struct Origin {
    /// Device of its file system, as the kernel writes it inside.
    pub dev: u32,
    /// Its hard links; 0 where it was deleted or never had a name.
    pub nlink: u32,
    inode: u64,
    vfsmount: u64,
}

impl Origin {
    /// Whether the data of an overlay's file is on its upper layer, or `None`
    /// where that can't be read. A file of which only the metadata was copied up
    /// has its data below (`ovl_inode_realdata` in fs/overlayfs/util.c).
    ///
    /// `struct ovl_inode` has `flags` before and `__upperdentry` behind its
    /// `struct inode` (Linux 4.13 to 7.3).
    #[inline(always)]
    pub fn is_upper(&self) -> Option<bool> {
        const OVL_UPPERDATA: u64 = 1 << 3;
        let upper = probe(self.inode + constant(&INODE_SIZE) as u64)?;
        if upper == 0 {
            return Some(false);
        }
        let flags = probe(self.inode - size_of::<u64>() as u64)?;
        Some(flags & OVL_UPPERDATA != 0)
    }

    /// Inode number of the mount namespace that the file's mount belongs to; 0
    /// where it belongs to none: it is detached, or the kernel's own. `None`
    /// where that can't be read.
    #[inline(always)]
    pub fn mnt_ns(&self) -> Option<u32> {
        /// The least of the kernel's error pointers (`IS_ERR`).
        const ERROR: u64 = -4095_i64 as u64;
        let mount = self.vfsmount - constant(&MOUNT_VFSMOUNT) as u64;
        let namespace = probe(mount + constant(&MOUNT_NS) as u64)?;
        if namespace == 0 || namespace >= ERROR {
            return Some(0);
        }
        probe32(namespace + constant(&MNT_NS_INUM) as u64)
    }
}

/// The kernel's `struct task_struct`.
pub struct Task(Typed);

impl Task {
    #[inline(always)]
    pub fn new(task: *const c_void) -> Self {
        Self(task)
    }

    /// The process that called (Linux 5.11).
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper takes nothing and returns a pointer that the
        // verifier knows the type of.
        Self(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    }

    /// For helpers that take a task.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        self.0.cast_mut()
    }

    /// Inode number of its mount namespace; 0 where it has none.
    #[inline(always)]
    pub fn mnt_ns(&self) -> u32 {
        let proxy: Typed = load(self.0, constant(&TASK_NSPROXY));
        if proxy.is_null() {
            return 0;
        }
        let namespace: Typed = load(proxy, constant(&NSPROXY_MNT_NS));
        load(namespace, constant(&MNT_NS_INUM))
    }

    /// Inode number of its pid namespace; 0 where it lies deeper than four
    /// levels, which nobody's runtime does.
    #[inline(always)]
    pub fn pid_ns(&self) -> u32 {
        let pid: Typed = load(self.0, constant(&TASK_PID));
        if pid.is_null() {
            return 0;
        }
        let level: u32 = load(pid, constant(&PID_LEVEL));
        let base = constant(&PID_NUMBERS) + constant(&UPID_NS);
        // Each offset is a constant: the verifier admits no other.
        let namespace: Typed = match level {
            0 => load(pid, base),
            1 => load(pid, base + constant(&UPID_SIZE)),
            2 => load(pid, base + 2 * constant(&UPID_SIZE)),
            3 => load(pid, base + 3 * constant(&UPID_SIZE)),
            _ => return 0,
        };
        if namespace.is_null() {
            return 0;
        }
        load(namespace, constant(&PID_NS_INUM))
    }

    /// Whether its parent is in the cgroup of this id or below it. Fails closed:
    /// what is deeper than [`LEVEL_MAX`] counts as below.
    #[inline(always)]
    pub fn parent_is_below(&self, cgroup_id: u64) -> bool {
        let parent: Typed = load(self.0, constant(&TASK_PARENT));
        if parent.is_null() {
            return true;
        }
        let set: Typed = load(parent, constant(&TASK_CGROUPS));
        if set.is_null() {
            return true;
        }
        let mut cgroup: Typed = load(set, constant(&CSS_SET_CGROUP));
        let mut level = 0;
        while level <= LEVEL_MAX {
            if cgroup.is_null() {
                return false;
            }
            let node: Typed = load(cgroup, constant(&CGROUP_NODE));
            if load::<u64>(node, constant(&NODE_ID)) == cgroup_id {
                return true;
            }
            let above: Typed = load(cgroup, constant(&CGROUP_PARENT));
            if above.is_null() {
                return false;
            }
            cgroup = load(above, constant(&CSS_CGROUP));
            level += 1;
        }
        true
    }

    /// Whether what it maps readable is executable too (`READ_IMPLIES_EXEC` of
    /// personality(2)).
    #[inline(always)]
    pub fn executes_what_it_reads(&self) -> bool {
        const READ_IMPLIES_EXEC: u32 = 0x0040_0000;
        load::<u32>(self.0, constant(&TASK_PERSONALITY)) & READ_IMPLIES_EXEC != 0
    }

    /// Whether it is in the midst of an exec, and this is the file of its new image.
    #[inline(always)]
    pub fn is_executing(&self, file: &File) -> bool {
        let flags: u32 = load(self.0, constant(&TASK_EXEC_WORD));
        if flags & constant(&TASK_EXEC_BIT) as u32 == 0 {
            return false;
        }
        let mm: Typed = load(self.0, constant(&TASK_MM));
        if mm.is_null() {
            return false;
        }
        let asked = number(ptr::from_ref(&file.0).cast(), 0);
        asked.is_some() && asked == number(mm, constant(&MM_EXE_FILE))
    }

    /// Address of its parent.
    #[inline(always)]
    pub fn parent(&self) -> Option<u64> {
        number(self.0, constant(&TASK_PARENT))
    }

    /// Its thread group id in its own pid namespace.
    #[inline(always)]
    pub fn own_pid(&self) -> Option<u32> {
        let leader = number(self.0, constant(&TASK_LEADER))?;
        let pid = probe(leader + constant(&TASK_PID) as u64)?;
        let level = probe32(pid + constant(&PID_LEVEL) as u64)?;
        let upid = u64::from(level) * constant(&UPID_SIZE) as u64;
        probe32(pid + constant(&PID_NUMBERS) as u64 + upid + constant(&UPID_NR) as u64)
    }

    /// Thread group id, in the initial pid namespace, of the process that came into
    /// this one's pid namespace from outside and that it descends from.
    #[inline(always)]
    pub fn session(&self) -> Option<u32> {
        const STEPS: u32 = 32;
        let level = |task: u64| {
            let pid = probe(task + constant(&TASK_PID) as u64)?;
            probe32(pid + constant(&PID_LEVEL) as u64)
        };
        let mut task = number(self.0, constant(&TASK_LEADER))?;
        let own = level(task)?;
        if own == 0 {
            return None;
        }
        let mut step = 0;
        while step < STEPS {
            let parent = probe(task + constant(&TASK_PARENT) as u64)?;
            let parent = probe(parent + constant(&TASK_LEADER) as u64)?;
            if level(parent)? < own {
                return probe32(task + constant(&TASK_TGID) as u64);
            }
            task = parent;
            step += 1;
        }
        None
    }

    /// Address of the first argument of the exec that the current process is in, as
    /// it was called; 0 where that can't be told. For reports: it is in user memory.
    #[inline(always)]
    pub fn first_argument() -> u64 {
        if constant(&HAS_REGISTERS) == 0 {
            return 0;
        }
        let task = Self::current();
        // SAFETY: the helper takes a task that the verifier knows.
        let regs = unsafe { bpf_task_pt_regs(task.as_ptr().cast()) } as u64;
        match argument(regs) {
            Some(address) => address,
            None => 0,
        }
    }

    /// Address of the first argument of its image.
    #[inline(always)]
    pub fn arguments(&self) -> Option<u64> {
        let mm: Typed = load(self.0, constant(&TASK_MM));
        if mm.is_null() {
            return None;
        }
        Some(load(mm, constant(&MM_ARG_START)))
    }
}

/// Thread group id of the task at an address; 0 where there is none.
#[inline(always)]
pub fn id(task: u64) -> u32 {
    match probe32(task + constant(&TASK_TGID) as u64) {
        Some(id) => id,
        None => 0,
    }
}

/// Command name of the task at an address; empty where there is none.
#[inline(always)]
pub fn comm(to: &mut [u8; COMM_CAPACITY], task: u64) {
    if kernel_string(to, task + constant(&TASK_COMM) as u64).is_none() {
        to[0] = 0;
    }
}

/// A dentry and its mount, by address.
pub struct Place {
    pub dentry: u64,
    pub vfsmount: u64,
}

/// A step from a [`Place`] towards the root.
pub enum Step {
    /// To the directory above, which has the component's name just read.
    Up(Place),
    /// The place is the root of a mount: its mount point stands for it.
    Mount(Place),
    /// The place is the root of the mount namespace (or hangs on no tree).
    Root,
}

impl Place {
    /// Address of the name of the component here.
    #[inline(always)]
    pub fn name(&self) -> Option<u64> {
        probe(self.dentry + constant(&DENTRY_NAME) as u64)
    }

    /// Address and length of the name of the component here.
    #[inline(always)]
    pub fn named(&self) -> Option<(u64, u32)> {
        let len = probe32(self.dentry + constant(&DENTRY_LEN) as u64)?;
        Some((self.name()?, len))
    }

    /// Device of the file system here.
    #[inline(always)]
    fn dev(&self) -> Option<u32> {
        let sb = probe(self.dentry + constant(&DENTRY_SB) as u64)?;
        probe32(sb + constant(&SB_DEV) as u64)
    }

    /// As [`File::origin`], of what is here.
    #[inline(always)]
    pub fn origin(&self) -> Option<Origin> {
        let inode = probe(self.dentry + constant(&DENTRY_INODE) as u64)?;
        Some(Origin {
            dev: self.dev()?,
            nlink: probe32(inode + constant(&INODE_NLINK) as u64)?,
            inode,
            vfsmount: self.vfsmount,
        })
    }

    /// What is above, or `None` where it can't be read.
    #[inline(always)]
    pub fn step(&self) -> Option<Step> {
        if self.dentry == probe(self.vfsmount + constant(&VFSMOUNT_ROOT) as u64)? {
            let mount = self.vfsmount - constant(&MOUNT_VFSMOUNT) as u64;
            let parent = probe(mount + constant(&MOUNT_PARENT) as u64)?;
            if parent == mount {
                return Some(Step::Root);
            }
            return Some(Step::Mount(Self {
                dentry: probe(mount + constant(&MOUNT_MOUNTPOINT) as u64)?,
                vfsmount: parent + constant(&MOUNT_VFSMOUNT) as u64,
            }));
        }
        let parent = probe(self.dentry + constant(&DENTRY_PARENT) as u64)?;
        if parent == self.dentry {
            // Above the mount's root or outside of any tree (memfd, unlinked).
            return Some(Step::Root);
        }
        Some(Step::Up(Self {
            dentry: parent,
            vfsmount: self.vfsmount,
        }))
    }
}

/// Reads a string of the kernel's; the length without the NUL, or `None`.
#[inline(always)]
pub fn kernel_string<const N: usize>(to: &mut [u8; N], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), N as u32, address as *const c_void)
    };
    length(taken, N)
}

/// Reads a string of the process's, only where its page is resident.
#[inline(always)]
pub fn user_string<const N: usize>(to: &mut [u8; N], address: u64) -> Option<u32> {
    // SAFETY: the destination has the size that is passed.
    let taken = unsafe {
        bpf_probe_read_user_str(to.as_mut_ptr().cast(), N as u32, address as *const c_void)
    };
    length(taken, N)
}

/// Reads one byte of the kernel's.
#[inline(always)]
pub fn kernel_byte(address: u64) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_kernel(ptr::from_mut(&mut byte).cast(), 1, address as *const c_void)
    };
    (failed == 0).then_some(byte)
}

/// Reads one byte of the process's, only where its page is resident.
#[inline(always)]
pub fn user_byte(address: u64) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is ours and has the size that is passed.
    let failed = unsafe {
        bpf_probe_read_user(ptr::from_mut(&mut byte).cast(), 1, address as *const c_void)
    };
    (failed == 0).then_some(byte)
}

/// The helpers count the NUL; negative is an errno, zero is nothing.
#[inline(always)]
fn length(taken: i64, capacity: usize) -> Option<u32> {
    if taken > 0 && taken <= capacity as i64 {
        Some(taken as u32 - 1)
    } else {
        None
    }
}

/// Offsets in x86-64's `struct pt_regs`, which is part of the user ABI (ptrace).
const PT_REGS_RBX: u64 = 40;
const PT_REGS_RCX: u64 = 88;
const PT_REGS_RDX: u64 = 96;
const PT_REGS_RSI: u64 = 104;
const PT_REGS_RDI: u64 = 112;
const PT_REGS_ORIG_RAX: u64 = 120;

/// The first element of an exec's argument vector, by the number of its syscall
/// (arch/x86/entry/syscalls). No number of one ABI is an exec of another.
#[inline(always)]
fn argument(regs: u64) -> Option<u64> {
    let number = probe(regs + PT_REGS_ORIG_RAX)? & 0xffff_ffff;
    let (register, wide) = match number {
        // execve, execveat
        59 => (PT_REGS_RSI, true),
        322 => (PT_REGS_RDX, true),
        // of x32, by its own numbers 520 and 545
        0x4000_0208 => (PT_REGS_RSI, false),
        0x4000_0221 => (PT_REGS_RDX, false),
        // of ia32
        11 => (PT_REGS_RCX, false),
        358 => (PT_REGS_RDX, false),
        _ => return None,
    };
    let vector = probe(regs + register)?;
    let mut first = 0_u64;
    let (size, vector) = if wide {
        (8, vector)
    } else {
        (4, vector & 0xffff_ffff)
    };
    // SAFETY: the destination is ours and not shorter than the size that is passed.
    let failed = unsafe {
        bpf_probe_read_user(
            ptr::from_mut(&mut first).cast(),
            size,
            vector as *const c_void,
        )
    };
    (failed == 0).then_some(first)
}

/// First argument of a 64-bit or x32 syscall, from the wrapper's argument.
#[inline(always)]
pub fn user_rdi(regs: Option<u64>) -> Option<u64> {
    probe(regs? + PT_REGS_RDI)
}

/// Second argument of a 64-bit or x32 syscall.
#[inline(always)]
pub fn user_rsi(regs: Option<u64>) -> Option<u64> {
    probe(regs? + PT_REGS_RSI)
}

/// First argument of an ia32 syscall, 32 bits of it.
#[inline(always)]
pub fn user_ebx(regs: Option<u64>) -> Option<u64> {
    Some(probe(regs? + PT_REGS_RBX)? & 0xffff_ffff)
}

/// Second argument of an ia32 syscall, 32 bits of it.
#[inline(always)]
pub fn user_ecx(regs: Option<u64>) -> Option<u64> {
    Some(probe(regs? + PT_REGS_RCX)? & 0xffff_ffff)
}
