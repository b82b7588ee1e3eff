//! The image of the containers: a `BusyBox`, the programs that are denied, their twins, and the
//! dynamic loader of the machine.

use std::fs::{self, File};
use std::io::BufWriter;

use anyhow::{Context as _, Result};

use crate::oci_image::{self, Entry, Image};

pub(super) const NAME: &str = "vmtest.local/evasion:1";

const HELPERS: &str = "/payload/helpers";
pub(super) const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

const FOLDERS: &[&str] = &[
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/opt",
    "/opt/lib",
    "/opt/other",
    "/opt/static",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/vol",
];

/// The applets that scripts use. Which name runs which file matters here, so nothing is left to
/// what a shell finds in itself.
const APPLETS: &[&str] = &[
    "cat", "chmod", "chroot", "cp", "dd", "echo", "env", "find", "head", "id", "ln", "ls", "mkdir",
    "mknod", "mount", "mv", "nice", "nohup", "nsenter", "ps", "readlink", "rm", "sed", "setsid",
    "sh", "sleep", "start-stop-daemon", "su", "tail", "test", "time", "timeout", "touch", "tr",
    "true", "umount", "uname", "unshare", "whoami", "xargs",
];

/// Where each helper of the payload lies in the image.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/bin/evade", "evade"),
    ("/usr/bin/loads", "loads"),
    ("/usr/bin/exec_ia32", "exec_ia32"),
    ("/usr/bin/exec_x32", "exec_x32"),
    ("/usr/bin/whoami", "marker-dynamic"),
    ("/opt/static/whoami", "marker-static"),
    ("/opt/lib/marker.so", "marker.so"),
    // The twins: what they say is the same.
    ("/usr/bin/whoami2", "marker-static"),
    ("/usr/bin/whoami.sh", "marker-static"),
    ("/usr/bin/whoam", "marker-static"),
    ("/usr/bin/xwhoami", "marker-static"),
    ("/usr/bin/WHOAMI", "marker-static"),
    ("/opt/static/other", "marker-static"),
    ("/opt/other/program", "marker-dynamic"),
];

/// Writes the image as a file. A helper that the payload has not got is left out: the techniques
/// that want it say so.
pub(super) fn write(path: &str) -> Result<()> {
    let busybox = fs::read("/usr/bin/busybox").context("the userland's BusyBox")?;
    let mut files = vec![("/bin/busybox", busybox)];
    for file in [LOADER, LIBC] {
        files.push((file, fs::read(file).with_context(|| file.to_owned())?));
    }
    for (path, helper) in PROGRAMS {
        match fs::read(format!("{HELPERS}/{helper}")) {
            Ok(content) => files.push((path, content)),
            Err(_) if helper.starts_with("exec_") => {}
            Err(error) => return Err(error).context(*helper),
        }
    }
    let links: Vec<_> = APPLETS.iter().map(|name| format!("/bin/{name}")).collect();
    let mut entries: Vec<_> = FOLDERS.iter().map(|path| Entry::Dir(path)).collect();
    entries.extend(files.iter().map(|(path, content)| Entry::Program {
        path,
        content,
    }));
    entries.push(Entry::File {
        path: "/etc/passwd",
        content: b"root:x:0:0:root:/root:/bin/sh\n",
    });
    entries.extend(links.iter().map(|path| Entry::Symlink {
        path,
        target: "busybox",
    }));
    let image = Image {
        name: NAME,
        entrypoint: &["/usr/bin/evade", "idle"],
        entries: &entries,
    };
    oci_image::write(image, BufWriter::new(File::create(path)?))
}
