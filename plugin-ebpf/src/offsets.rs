//! What differs from kernel to kernel: where fields lie, and how long structures
//! are. The constants are in `.rodata`: user space takes them from the running
//! kernel's BTF and freezes them at load, so the verifier sees constants.

use core::ptr;

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: i64 = $value;
    )*};
}

constants! {
    /// What a refused exec returns. Read from memory because `-1` behind a
    /// condition becomes a negation whose range the verifier can't tell.
    EPERM_NEGATIVE = -1;
    /// `linux_binprm.filename`
    BPRM_FILENAME = 0;
    /// `linux_binprm.interp`
    BPRM_INTERP = 0;
    /// `linux_binprm.file`
    BPRM_FILE = 0;
    /// `linux_binprm.argc`
    BPRM_ARGC = 0;
    /// `linux_binprm.p`
    BPRM_P = 0;
    /// `file.f_path.dentry`
    FILE_DENTRY = 0;
    /// `file.f_path.mnt`
    FILE_MNT = 0;
    /// `backing_file.user_path.dentry`, or -1 where `f_path` is the user's
    /// (before Linux 6.8).
    BACKING_DENTRY = -1;
    /// `backing_file.user_path.mnt`, or -1 as above.
    BACKING_MNT = -1;
    /// `vm_area_struct.vm_file`
    VMA_FILE = 0;
    /// `dentry.d_inode`
    DENTRY_INODE = 0;
    /// `dentry.d_sb`
    DENTRY_SB = 0;
    /// `dentry.d_name.len`
    DENTRY_LEN = 0;
    /// `dentry.d_name.name`
    DENTRY_NAME = 0;
    /// `dentry.d_parent`
    DENTRY_PARENT = 0;
    /// `vfsmount.mnt_root`
    VFSMOUNT_ROOT = 0;
    /// `mount.mnt`
    MOUNT_VFSMOUNT = 0;
    /// `mount.mnt_parent`
    MOUNT_PARENT = 0;
    /// `mount.mnt_mountpoint`
    MOUNT_MOUNTPOINT = 0;
    /// `mount.mnt_ns`
    MOUNT_NS = 0;
    /// `mnt_namespace.ns.inum`
    MNT_NS_INUM = 0;
    /// `super_block.s_dev`
    SB_DEV = 0;
    /// `inode.i_nlink`
    INODE_NLINK = 0;
    /// Size of `struct inode`, which `ovl_inode.__upperdentry` lies behind.
    INODE_SIZE = 0;
    /// `task_struct.nsproxy`
    TASK_NSPROXY = 0;
    /// `task_struct.thread_pid`
    TASK_PID = 0;
    /// `task_struct.real_parent`
    TASK_PARENT = 0;
    /// `task_struct.group_leader`
    TASK_LEADER = 0;
    /// `task_struct.tgid`
    TASK_TGID = 0;
    /// `task_struct.comm`
    TASK_COMM = 0;
    /// `task_struct.cgroups`
    TASK_CGROUPS = 0;
    /// `task_struct.mm`
    TASK_MM = 0;
    /// The word of `task_struct` that has the bit `in_execve`.
    TASK_EXEC_WORD = 0;
    /// That bit.
    TASK_EXEC_BIT = 0;
    /// `task_struct.self_exec_id` (Linux 5.7), or 0 where one program looks at an image.
    TASK_EXEC_ID = 0;
    /// `task_struct.personality`
    TASK_PERSONALITY = 0;
    /// `task_struct.exit_state`
    TASK_EXIT_STATE = 0;
    /// `bpf_iter_meta.seq`
    ITER_FILE = 0;
    /// `mm_struct.arg_start`
    MM_ARG_START = 0;
    /// `mm_struct.arg_end`
    MM_ARG_END = 0;
    /// `mm_struct.exe_file`
    MM_EXE_FILE = 0;
    /// `nsproxy.mnt_ns`
    NSPROXY_MNT_NS = 0;
    /// `pid.level`
    PID_LEVEL = 0;
    /// `pid.numbers`, whose elements are of [`UPID_SIZE`] bytes.
    PID_NUMBERS = 0;
    /// Size of `struct upid`.
    UPID_SIZE = 0;
    /// `upid.ns`
    UPID_NS = 0;
    /// `upid.nr`
    UPID_NR = 0;
    /// 1 where the kernel has `bpf_task_pt_regs` (Linux 5.15) and its registers are
    /// x86-64's.
    HAS_REGISTERS = 0;
    /// `pid_namespace.ns.inum`
    PID_NS_INUM = 0;
    /// `css_set.dfl_cgrp`
    CSS_SET_CGROUP = 0;
    /// `cgroup.kn`
    CGROUP_NODE = 0;
    /// `cgroup.self.parent`
    CGROUP_PARENT = 0;
    /// `cgroup_subsys_state.cgroup`
    CSS_CGROUP = 0;
    /// `kernfs_node.id`
    NODE_ID = 0;
}

/// Reads a constant that user space set at load.
#[inline(always)]
pub fn constant(of: &'static i64) -> usize {
    // SAFETY: a reference to a static is valid; volatile because the compiler
    // must not take the value that stands in the source.
    unsafe { ptr::read_volatile(of) as usize }
}

/// `-EPERM`.
#[inline(always)]
pub fn eperm() -> i32 {
    // SAFETY: as in `constant`.
    unsafe { ptr::read_volatile(&EPERM_NEGATIVE) as i32 }
}
