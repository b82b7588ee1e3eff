//! The program that is executed, its file, and where that lies.

use core::ffi::c_void;

use super::{Typed, address, load, number, probe, probe32};
use crate::offsets::*;

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

    /// Address of the first of them, in the process's memory once that is in place.
    #[inline(always)]
    pub fn arguments(&self) -> u64 {
        load(self.0, constant(&BPRM_P))
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
pub struct File(pub(super) Typed);

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

/// A dentry and its mount, by address.
pub struct Place {
    pub dentry: u64,
    pub vfsmount: u64,
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
}

/// The way from a file to the root of the mount namespace.
pub struct Climb {
    place: Place,
    /// Address of the dentry that is the root of the place's mount.
    root: u64,
}

/// A step of it.
pub enum Step {
    /// Away from the component whose dentry is at this address.
    Component(u64),
    /// From a mount's root to its mount point, which stands for it.
    Mount,
    /// There is nothing above (or it hangs on no tree).
    Root,
}

impl Climb {
    /// `None` where it can't be read.
    #[inline(always)]
    pub fn new(place: Place) -> Option<Self> {
        let root = root(place.vfsmount)?;
        Some(Self { place, root })
    }

    /// One step up, or `None` where it can't be read.
    #[inline(always)]
    pub fn step(&mut self) -> Option<Step> {
        let Place { dentry, vfsmount } = self.place;
        if dentry == self.root {
            let mount = vfsmount - constant(&MOUNT_VFSMOUNT) as u64;
            let parent = probe(mount + constant(&MOUNT_PARENT) as u64)?;
            if parent == mount {
                return Some(Step::Root);
            }
            let vfsmount = parent + constant(&MOUNT_VFSMOUNT) as u64;
            self.place = Place {
                dentry: probe(mount + constant(&MOUNT_MOUNTPOINT) as u64)?,
                vfsmount,
            };
            self.root = root(vfsmount)?;
            return Some(Step::Mount);
        }
        let parent = probe(dentry + constant(&DENTRY_PARENT) as u64)?;
        if parent == dentry {
            // Above the mount's root or outside of any tree (memfd, unlinked).
            return Some(Step::Root);
        }
        self.place.dentry = parent;
        Some(Step::Component(dentry))
    }
}

#[inline(always)]
fn root(vfsmount: u64) -> Option<u64> {
    probe(vfsmount + constant(&VFSMOUNT_ROOT) as u64)
}
