//! The kernels: which there are, and how one comes from a Debian package (or a
//! build) into the cache as an image, the modules its initrd loads, and a disk
//! with all its modules for the guest's modprobe.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    Cache,
    apt::{Apt, natural_key},
    image,
    modules::{ModuleTree, decompress},
};
use crate::host;

/// A kernel that tests can name.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    source: Source,
    /// Added to the kernel command line.
    pub(crate) command_line: &'static str,
}

#[derive(Debug)]
enum Source {
    /// Packages of one series of Debian's or Ubuntu's.
    Packages(&'static Series),
    /// Built by `build-kernel`, or found in a folder of built ones.
    Built,
}

/// How a kernel's packages are called: `PREFIX` + release.
#[derive(Debug)]
struct Series {
    /// The folder in the cache.
    folder: &'static str,
    /// What releases of this series begin with, and must contain.
    release: (&'static str, &'static str),
    /// What they end with.
    flavour: &'static str,
    /// The first is looked for; the others have the same release in their name.
    prefixes: &'static [&'static str],
    archive: Archive,
}

/// Where a kernel is fetched from.
#[derive(Debug, Clone, Copy)]
enum Archive {
    Debian,
    Debian11,
    Ubuntu,
}

/// Debian's flavour for virtual machines, and Ubuntu's for all.
const CLOUD: &str = "-cloud-amd64";
const GENERIC: &str = "-generic";

static DEBIAN_11: Series = Series {
    folder: "5.10",
    release: ("5.10.0-", ""),
    prefixes: &["linux-image-"],
    flavour: CLOUD,
    archive: Archive::Debian11,
};
static DEBIAN_12: Series = Series {
    folder: "6.1",
    release: ("6.1.0-", ""),
    prefixes: &["linux-image-"],
    flavour: CLOUD,
    archive: Archive::Debian,
};
static DEBIAN_13: Series = Series {
    folder: "6.12",
    release: ("6.12.", "+deb13"),
    prefixes: &["linux-image-"],
    flavour: CLOUD,
    archive: Archive::Debian,
};
static BACKPORTS: Series = Series {
    folder: "7.3",
    release: ("7.3.", "+deb13"),
    // From 7.x on the image comes apart from its modules and their lists.
    prefixes: &["linux-binary-", "linux-modules-", "linux-base-"],
    flavour: CLOUD,
    archive: Archive::Debian,
};

static UBUNTU_22_04: Series = ubuntu("ubuntu-5.15", "5.15.0-");
static UBUNTU_24_04: Series = ubuntu("ubuntu-6.8", "6.8.0-");
static UBUNTU_26_04: Series = ubuntu("ubuntu-7.0", "7.0.0-");

const fn ubuntu(folder: &'static str, release: &'static str) -> Series {
    Series {
        folder,
        release: (release, ""),
        prefixes: &["linux-image-", "linux-modules-"],
        flavour: GENERIC,
        archive: Archive::Ubuntu,
    }
}

pub(crate) static KERNELS: &[Kernel] = &[
    // Older than what is asked for: how that is said.
    Kernel {
        name: "5.10",
        source: Source::Packages(&DEBIAN_11),
        command_line: "",
    },
    Kernel {
        name: "6.1",
        source: Source::Packages(&DEBIAN_12),
        command_line: "",
    },
    Kernel {
        name: "6.12",
        source: Source::Packages(&DEBIAN_13),
        command_line: "",
    },
    Kernel {
        name: "7.3",
        source: Source::Packages(&BACKPORTS),
        command_line: "",
    },
    Kernel {
        name: "6.12-nolsm",
        source: Source::Packages(&DEBIAN_13),
        command_line: "lsm=landlock,lockdown,yama,apparmor",
    },
    // By name, for what a whole run costs. They have `bpf_override_return`; `bpf` is among the LSMs
    // of 7.0 alone.
    Kernel {
        name: "ubuntu-5.15",
        source: Source::Packages(&UBUNTU_22_04),
        command_line: "",
    },
    Kernel {
        name: "ubuntu-6.8",
        source: Source::Packages(&UBUNTU_24_04),
        command_line: "",
    },
    Kernel {
        name: "ubuntu-7.0",
        source: Source::Packages(&UBUNTU_26_04),
        command_line: "",
    },
    Kernel {
        name: OVERRIDE,
        source: Source::Built,
        command_line: "",
    },
];

/// The kernel with `bpf_override_return`, which no Debian kernel has.
pub(crate) const OVERRIDE: &str = "6.12-override";

/// Modules that the initrd can't do without, unless they are built in.
const REQUIRED: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "overlay"];
/// Modules that some kernels want besides: ext4 before 6.15 asks for crc32c by
/// its algorithm's name, which no dependency shows.
const OPTIONAL: &[&str] = &["crc32c_generic"];

pub(crate) const NEEDED: &[host::Needed] = &[
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("mke2fs", "e2fsprogs"),
];

/// A kernel in the cache, ready to boot.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) image: PathBuf,
    /// Uncompressed modules in the order in which they must be loaded.
    pub(crate) modules: Vec<PathBuf>,
    /// A disk with all modules, for kernels that have any.
    pub(crate) module_disk: Option<PathBuf>,
}

pub(crate) fn by_name(name: &str) -> Result<&'static Kernel> {
    KERNELS
        .iter()
        .find(|kernel| kernel.name == name)
        .with_context(|| {
            let names = KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>();
            format!("no kernel {name}; there are {}", names.join(", "))
        })
}

impl Kernel {
    /// Brings the kernel into the cache. `Ok(Err(reason))` is a kernel that this
    /// machine has not got, with the way to get it.
    pub(crate) fn fetch(&self, cache: &Cache) -> Result<Result<Fetched, String>> {
        match self.source {
            Source::Packages(series) => series.fetch(cache).map(Ok),
            Source::Built => Ok(built(cache)),
        }
    }
}

fn built(cache: &Cache) -> Result<Fetched, String> {
    let file = format!("bzImage-{OVERRIDE}");
    let given = env::var_os("EXECBLOCK_VM_CACHE").map(|folder| PathBuf::from(folder).join(&file));
    [given, Some(cache.built_kernel())]
        .into_iter()
        .flatten()
        .find(|image| image.exists())
        .map(|image| Fetched {
            image,
            modules: Vec::new(),
            module_disk: None,
        })
        .ok_or_else(|| {
            format!(
                "kernel {OVERRIDE} is not built; `cargo xtask vm build-kernel` builds it, or \
                 EXECBLOCK_VM_CACHE names a folder with {file}"
            )
        })
}

impl Series {
    fn fetch(&self, cache: &Cache) -> Result<Fetched> {
        let folder = cache.kernels().join(self.folder);
        if !folder.exists() {
            self.download(cache, &folder)
                .with_context(|| format!("kernel {} can't be fetched", self.folder))?;
        }
        let mut modules = fs::read_dir(folder.join("initrd"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        modules.sort();
        Ok(Fetched {
            image: folder.join("vmlinuz"),
            modules,
            module_disk: Some(folder.join("modules.img")),
        })
    }

    fn download(&self, cache: &Cache, folder: &Path) -> Result<()> {
        super::check_tools()?;
        let apt = match self.archive {
            Archive::Debian => &cache.apt,
            Archive::Debian11 => &cache.old_apt,
            Archive::Ubuntu => cache.ubuntu()?,
        };
        let release = self.newest(apt)?;
        println!("fetching kernel {release}");
        let scratch = cache.scratch()?;
        let unpacked = scratch.path().join("unpacked");
        let packages = self
            .prefixes
            .iter()
            .map(|prefix| format!("{prefix}{release}"))
            .collect::<Vec<_>>();
        apt.unpack(&packages, &unpacked)?;

        // Packages differ in whether they know /lib as a link to /usr/lib.
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|path| unpacked.join(path))
            .find(|path| path.exists())
            .context("the packages have no modules")?;
        let base = scratch.path().join("modules");
        fs::create_dir_all(base.join("lib"))?;
        fs::rename(&modules, base.join("lib/modules"))?;
        host::run_quietly(host::program("depmod").arg("-b").arg(&base).arg(&release))?;

        let ready = scratch.path().join("ready");
        fs::create_dir_all(ready.join("initrd"))?;
        let tree = base.join("lib/modules").join(&release);
        let image = [
            unpacked.join(format!("boot/vmlinuz-{release}")),
            tree.join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.exists())
        .context("the packages have no kernel image")?;
        fs::rename(image, ready.join("vmlinuz"))?;
        for (number, module) in ModuleTree::read(&tree)?
            .load_order(REQUIRED, OPTIONAL)?
            .iter()
            .enumerate()
        {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let name = name.split('.').next().unwrap_or_default();
            fs::write(
                ready.join(format!("initrd/{number:02}-{name}.ko")),
                decompress(&tree.join(module))?,
            )?;
        }
        image::from_folder(
            &base.join("lib/modules"),
            &ready.join("modules.img"),
            "modules",
        )?;
        fs::write(ready.join("release"), &release)?;
        fs::rename(&ready, folder)?;
        Ok(())
    }

    fn newest(&self, apt: &Apt) -> Result<String> {
        let (begin, within) = self.release;
        let prefix = self.prefixes[0];
        let names = apt.names(&format!("{prefix}{begin}"), self.flavour)?;
        let newest = names
            .iter()
            .filter_map(|name| name.strip_prefix(prefix))
            .filter(|release| release.contains(within))
            .max_by_key(|release| natural_key(release));
        match newest {
            Some(release) => Ok(release.to_owned()),
            None => bail!(
                "the archive has no package {prefix}{begin}*{}",
                self.flavour
            ),
        }
    }
}
