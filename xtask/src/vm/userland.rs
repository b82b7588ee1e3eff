//! The userlands: releases of Debian and Ubuntu with their own container engines,
//! as disk images that every run boots afresh.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Cache, apt};
use crate::host;

#[derive(Debug)]
pub(crate) struct Userland {
    pub(crate) name: &'static str,
    /// What it is there for.
    pub(crate) about: &'static str,
    release: &'static Release,
}

/// A release: one image, which several userlands may boot.
#[derive(Debug)]
struct Release {
    name: &'static str,
    /// Its makers' name for it.
    codename: &'static str,
    archive: Archive,
    /// Lists of packages.
    packages: &'static [&'static [&'static str]],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archive {
    Debian,
    Ubuntu,
}

static BOOKWORM: Release = Release {
    name: "bookworm",
    codename: "bookworm",
    archive: Archive::Debian,
    // docker.io has the client in it, and wants AppArmor's parser where the kernel has AppArmor.
    packages: &[COMMON, &["criu", "apparmor", "bpftool"]],
};
static TRIXIE: Release = Release {
    name: "trixie",
    codename: "trixie",
    archive: Archive::Debian,
    packages: &[COMMON, &["criu", "docker-cli", "bpftool"]],
};
static TRIXIE_BCC: Release = Release {
    name: "trixie-bcc",
    codename: "trixie",
    archive: Archive::Debian,
    packages: &[&[
        "python3-bpfcc",
        "linux-headers-amd64",
        "bpftool",
        "busybox-static",
        "iproute2",
        "kmod",
        "procps",
    ]],
};
static BOOKWORM_BARE: Release = Release {
    name: "bookworm-bare",
    codename: "bookworm",
    archive: Archive::Debian,
    packages: &[BARE],
};
static TRIXIE_BARE: Release = Release {
    name: "trixie-bare",
    codename: "trixie",
    archive: Archive::Debian,
    packages: &[BARE],
};
static NOBLE: Release = Release {
    name: "noble",
    codename: "noble",
    archive: Archive::Ubuntu,
    // docker.io has the client in it; bpftool comes with the tools of the kernel.
    packages: &[COMMON, &["linux-tools-generic", "apparmor"]],
};
static FORKY: Release = Release {
    name: "forky",
    codename: "forky",
    archive: Archive::Debian,
    packages: &[COMMON, &["criu", "docker-cli", "bpftool"]],
};

/// The guest's program knows what a name means: one that ends in `-systemd` has systemd as its
/// PID 1.
pub(crate) static USERLANDS: &[Userland] = &[
    Userland {
        name: "bookworm",
        about: "containerd 1.6, which has no NRI; runc 1.1.5, crun 1.8, Podman 4.3, Docker 20.10",
        release: &BOOKWORM,
    },
    Userland {
        name: "trixie",
        about: "containerd 1.7.24, runc 1.1.15, crun 1.21, Podman 5.4, Docker 26.1",
        release: &TRIXIE,
    },
    Userland {
        name: "trixie-systemd",
        about: "the same, booted by systemd",
        release: &TRIXIE,
    },
    Userland {
        name: "bookworm-systemd",
        about: "Debian 12 as above, booted by systemd",
        release: &BOOKWORM,
    },
    Userland {
        name: "bookworm-bare-systemd",
        about: "Debian 12 without an engine, booted by systemd",
        release: &BOOKWORM_BARE,
    },
    Userland {
        name: "trixie-bare-systemd",
        about: "Debian 13 without an engine, booted by systemd",
        release: &TRIXIE_BARE,
    },
    Userland {
        name: "trixie-bcc",
        about: "BCC and kernel headers in place of engines, for `cargo xtask bench peers`",
        release: &TRIXIE_BCC,
    },
    Userland {
        name: "forky",
        about: "containerd 2.1, runc 1.3, crun 1.28, Podman 5.8, Docker 28.5",
        release: &FORKY,
    },
    Userland {
        name: "noble",
        about: "Ubuntu 24.04: containerd 2.2, runc 1.3, crun 1.14, Podman 4.9, Docker 29.1",
        release: &NOBLE,
    },
    Userland {
        name: "noble-systemd",
        about: "the same, booted by systemd",
        release: &NOBLE,
    },
];

/// What each has whose engines are tested.
const COMMON: &[&str] = &[
    "containerd",
    "runc",
    "crun",
    "busybox-static",
    "iproute2",
    "kmod",
    "procps",
    "ca-certificates",
    "podman",
    "netavark",
    "catatonit",
    "uidmap",
    "docker.io",
    "iptables",
    "dbus",
    "systemd",
];

/// What a machine without an engine has, and bpftool to look with.
const BARE: &[&str] = &["bpftool", "dbus", "iproute2", "kmod", "procps", "systemd"];

const SIZE: &str = "4G";

pub(crate) const NEEDED: &[host::Needed] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("tar", "tar"),
];
/// Without root, something must remember that the image's files are root's.
pub(crate) const NEEDED_BY_USERS: &[host::Needed] =
    &[("fakeroot", "fakeroot"), ("newuidmap", "uidmap")];

pub(crate) fn by_name(name: &str) -> Result<&'static Userland> {
    USERLANDS
        .iter()
        .find(|userland| userland.name == name)
        .with_context(|| {
            let names = USERLANDS
                .iter()
                .map(|userland| userland.name)
                .collect::<Vec<_>>();
            format!("no userland {name}; there are {}", names.join(", "))
        })
}

impl Userland {
    /// The disk image, made when the cache has none.
    pub(crate) fn fetch(&self, cache: &Cache) -> Result<PathBuf> {
        // The name tells the packages, so that a longer list makes a new image.
        let image =
            cache
                .userlands()
                .join(format!("{}-{}.img", self.release.name, self.release.key()));
        if !image.exists() {
            self.release
                .make(cache, &image)
                .with_context(|| format!("userland {} can't be made", self.name))?;
        }
        Ok(image)
    }
}

impl Release {
    fn packages(&self) -> String {
        self.packages.concat().join(",")
    }

    fn make(&self, cache: &Cache, image: &Path) -> Result<()> {
        super::check_tools()?;
        println!("making userland {}", self.name);
        let scratch = cache.scratch()?;
        let archive = scratch.path().join("root.tar");
        let keyring = match self.archive {
            Archive::Debian => apt::KEYRING.into(),
            Archive::Ubuntu => cache.ubuntu_keyring()?,
        };
        let (components, sources) = self.sources();
        host::run_quietly(
            host::program("mmdebstrap")
                .args(["--variant=minbase", "--architectures=amd64"])
                .arg(format!("--include={}", self.packages()))
                .arg(format!("--keyring={}", keyring.display()))
                .arg(format!("--components={components}"))
                .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
                .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
                .arg("--dpkgopt=path-exclude=/usr/share/man/*")
                .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
                .arg(self.codename)
                .arg(&archive)
                .args(sources),
        )?;
        let root = scratch.path().join("root");
        let made = scratch.path().join("made.img");
        fs::create_dir(&root)?;
        // Both in one shell, which fakeroot can stand around; the guest's /dev
        // is the kernel's.
        let script = "tar -xf \"$1\" -C \"$2\" --numeric-owner --exclude='./dev/*' \
                      && mke2fs -q -F -t ext4 -L root -d \"$2\" \"$3\" \"$4\"";
        let mut shell = host::program(if host::is_root() { "sh" } else { "fakeroot" });
        if !host::is_root() {
            shell.arg("sh");
        }
        shell
            .args(["-c", script, "sh"])
            .arg(&archive)
            .arg(&root)
            .arg(&made)
            .arg(SIZE);
        shell.env("PATH", with_sbin());
        host::run_quietly(&mut shell)?;
        fs::create_dir_all(cache.userlands())?;
        fs::rename(made, image)?;
        Ok(())
    }

    /// Components, and mirrors or lines of sources: what Ubuntu brings to a release later is in
    /// a suite of its own.
    fn sources(&self) -> (&'static str, Vec<String>) {
        match self.archive {
            Archive::Debian => ("main", vec![apt::MIRROR.to_owned()]),
            Archive::Ubuntu => {
                let components = "main,universe";
                let line = |suite: &str| {
                    let words = components.replace(',', " ");
                    format!("deb {} {suite} {words}", apt::UBUNTU_MIRROR)
                };
                let updates = format!("{}-updates", self.codename);
                (components, vec![line(self.codename), line(&updates)])
            }
        }
    }

    /// A short name for the list of packages (FNV-1a: stable across compilers).
    fn key(&self) -> String {
        let hash = self
            .packages()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{:08x}", hash >> 32)
    }
}

fn with_sbin() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
