//! The process that calls.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_seq_write, bpf_task_pt_regs};
use plugin_common::{COMM_CAPACITY, LEVEL_MAX};

use super::{File, Typed, kernel_string, load, number, probe, probe32, registers};
use crate::offsets::*;

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

    /// Which exec of this process it is in, or was the last.
    #[inline(always)]
    pub fn exec_id(&self) -> u32 {
        load::<u64>(self.0, constant(&TASK_EXEC_ID)) as u32
    }

    /// The file of its image.
    #[inline(always)]
    pub fn image(&self) -> Option<File> {
        let mm: Typed = load(self.0, constant(&TASK_MM));
        if mm.is_null() {
            return None;
        }
        File::new(load(mm, constant(&MM_EXE_FILE)))
    }

    /// Whether it does nothing more: it waits to be waited for, or not even that.
    #[inline(always)]
    pub fn has_ended(&self) -> bool {
        load::<u32>(self.0, constant(&TASK_EXIT_STATE)) != 0
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
        match registers::argument(regs) {
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

    /// Address behind the last of them.
    #[inline(always)]
    pub fn arguments_end(&self) -> u64 {
        let mm: Typed = load(self.0, constant(&TASK_MM));
        if mm.is_null() {
            return 0;
        }
        load(mm, constant(&MM_ARG_END))
    }
}

/// What a tracepoint of perf is told of an exec: the record of `sched_process_exec`.
pub struct Record(*const c_void);

impl Record {
    #[inline(always)]
    pub fn new(record: *const c_void) -> Self {
        Self(record)
    }

    /// Address of the kernel's copy of the string given to exec, as [`super::Bprm::filename`].
    #[inline(always)]
    pub fn filename(&self) -> u64 {
        // Behind what all records begin with, in the lower half how far from the
        // record's beginning (`__data_loc`, include/trace/stages/stage1_struct_define.h).
        const FILENAME: usize = 8;
        let at: u32 = load(self.0, FILENAME);
        // The record as a number.
        let record = number(ptr::from_ref(&self.0).cast(), 0).unwrap_or(0);
        record + u64::from(at & 0xffff)
    }
}

/// What an iterator writes to: the kernel's `struct bpf_iter_meta`.
pub struct Output(Typed);

impl Output {
    #[inline(always)]
    pub fn new(meta: *const c_void) -> Self {
        Self(meta)
    }

    /// Writes a value as it is in memory. Where the kernel's buffer is full, it calls for
    /// the same task again once that is read.
    #[inline(always)]
    pub fn write(&self, value: &u64) {
        let file: Typed = load(self.0, constant(&ITER_FILE));
        // SAFETY: the verifier knows the file; the value has the size that is passed.
        unsafe {
            bpf_seq_write(
                file.cast_mut().cast(),
                ptr::from_ref(value).cast(),
                size_of::<u64>() as u32,
            )
        };
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
