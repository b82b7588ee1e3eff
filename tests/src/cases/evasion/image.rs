//! The image of the containers: a `BusyBox`, the programs that are denied, their twins, and the
//! dynamic loader of the machine.

use std::fs::{self, File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::oci_image::{self, About, Entry, Image};

pub(super) const NAME: &str = "vmtest.local/evasion:1";

const HELPERS: &str = "/payload/helpers";
pub(super) const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";

const FOLDERS: &[&str] = &[
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib/x86_64-linux-gnu",
    "/lib64",
    "/opt",
    "/opt/denied",
    "/opt/denied2",
    "/opt/empty",
    "/opt/lib",
    "/opt/multi",
    "/opt/ok",
    "/opt/other",
    "/opt/static",
    "/opt/victim",
    "/opt/whoami",
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
    "cat",
    "chmod",
    "chroot",
    "cp",
    "dd",
    "echo",
    "env",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nice",
    "nohup",
    "nsenter",
    "pivot_root",
    "ps",
    "readlink",
    "rm",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "start-stop-daemon",
    "su",
    "tail",
    "test",
    "time",
    "timeout",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "unshare",
    "whoami",
    "xargs",
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
    ("/opt/denied/tool", "marker-static"),
    ("/opt/denied/dynamic", "marker-dynamic"),
    ("/opt/static/pwntool", "marker-static"),
    ("/usr/bin/tool.evil", "marker-dynamic"),
    ("/opt/multi/toybox", "multicall"),
    ("/opt/multi/coreutils", "multicall"),
    // The twins: what they say is the same.
    ("/usr/bin/whoami2", "marker-static"),
    ("/usr/bin/whoami.sh", "marker-static"),
    ("/usr/bin/whoam", "marker-static"),
    ("/usr/bin/xwhoami", "marker-static"),
    ("/usr/bin/WHOAMI", "marker-static"),
    ("/opt/static/other", "marker-static"),
    ("/opt/other/program", "marker-dynamic"),
    ("/opt/ok/program", "marker-static"),
    ("/opt/whoami/program", "marker-static"),
    ("/opt/denied2/tool", "marker-static"),
    ("/opt/deniedfile", "marker-static"),
    ("/opt/lib/whoami.so", "marker.so"),
    // Each of these is changed by one technique.
    ("/opt/victim/append", "marker-static"),
    ("/opt/victim/chmod", "marker-static"),
    ("/opt/victim/deleted", "marker-static"),
    ("/opt/victim/link", "marker-static"),
    ("/opt/victim/opened", "marker-static"),
    ("/opt/victim/overwritten", "marker-dynamic"),
    ("/opt/victim/rename", "marker-static"),
    ("/opt/victim/replace", "marker-static"),
    ("/opt/victim/touch", "marker-static"),
];

/// What the volume has besides: two programs that lists admit, and those that none does.
const ON_VOLUME: &[(&str, &str)] = &[
    ("one", "marker-static"),
    ("ok/tool", "marker-static"),
    ("ok/dynamic", "marker-dynamic"),
    ("ok/marker.so", "marker.so"),
    ("other/tool", "marker-static"),
    ("other/dynamic", "marker-dynamic"),
];
const SCRIPT: &str = "#!/bin/sh\necho EVASION-MARK\n";

/// Puts the programs on a volume.
pub(super) fn fill_volume(volume: &Path) -> Result<()> {
    for folder in ["ok", "other"] {
        fs::create_dir_all(volume.join(folder))?;
        let script = volume.join(folder).join("script");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    }
    for (name, helper) in ON_VOLUME {
        fs::copy(format!("{HELPERS}/{helper}"), volume.join(name)).context(*helper)?;
    }
    Ok(())
}

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
    entries.extend(
        files
            .iter()
            .map(|(path, content)| Entry::Program { path, content }),
    );
    entries.push(Entry::Program {
        path: "/opt/script",
        content: SCRIPT.as_bytes(),
    });
    for (path, content) in [
        ("/etc/passwd", PASSWD),
        ("/etc/passwd-", PASSWD),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ] {
        entries.push(Entry::File {
            path,
            content: content.as_bytes(),
        });
    }
    entries.extend(links.iter().map(|path| Entry::Symlink {
        path,
        target: "busybox",
    }));
    let image = Image {
        name: NAME,
        entrypoint: &["/usr/bin/evade", "idle"],
        entries: &entries,
        about: About::default(),
    };
    oci_image::write(image, BufWriter::new(File::create(path)?))
}
