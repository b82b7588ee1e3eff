//! What the guest boots from: ext4 images of folders, and the initrd that finds
//! them and starts the test program as PID 1.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};

use super::kernel::Fetched;
use crate::host;

/// Serial numbers by which the initrd knows the disks: their order on the bus
/// is no promise.
pub(crate) const ROOT: &str = "root";
pub(crate) const PAYLOAD: &str = "payload";
pub(crate) const MODULES: &str = "modules";
pub(crate) const OLDER: &str = "older";

/// Where the guest finds the payload, and in it the program that becomes PID 1.
const INIT: &str = r#"#!/bin/busybox sh
# Loads what the disks need, mounts them, and becomes the test program.
bb=/bin/busybox
fail() { echo "VMTEST log initrd: $1"; $bb poweroff -f; }
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
for ko in /modules/*.ko; do
    [ -e "$ko" ] || continue
    $bb insmod "$ko" || echo "VMTEST log initrd: insmod $ko failed"
done
# The disk with this serial number, once it has come up.
disk() {
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        for block in /sys/block/vd*; do
            [ "$($bb cat "$block/serial")" = "$1" ] && echo "/dev/${block##*/}" && return
        done
        $bb sleep 0.5
    done
}
$bb mount -t ext4 -o rw "$(disk root)" /newroot || fail "no root disk"
$bb mkdir -p /newroot/payload /newroot/proc /newroot/sys /newroot/dev
$bb mount -t ext4 -o ro "$(disk payload)" /newroot/payload || fail "no payload disk"
case " $($bb cat /proc/cmdline) " in *" execblock.modules "*)
    [ -L /newroot/lib ] && lib=/newroot/usr/lib || lib=/newroot/lib
    $bb mkdir -p "$lib/modules"
    $bb mount -t ext4 -o ro "$(disk modules)" "$lib/modules" || fail "no modules disk"
esac
$bb umount /dev /sys /proc
exec $bb switch_root /newroot /payload/vmtest
"#;

/// Writes an initrd for a kernel.
pub(crate) fn write_initrd(kernel: &Fetched, busybox: &Path, into: &Path) -> Result<()> {
    let mut archive = Cpio::default();
    for folder in ["bin", "dev", "modules", "newroot", "proc", "sys"] {
        archive.add(folder, 0o040_755, &[]);
    }
    archive.device("dev/console", 0o020_600, (5, 1));
    archive.add("init", 0o100_755, INIT.as_bytes());
    let program = fs::read(busybox).with_context(|| busybox.display().to_string())?;
    archive.add("bin/busybox", 0o100_755, &program);
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.add(&format!("modules/{name}"), 0o100_644, &fs::read(module)?);
    }
    fs::write(into, archive.finish()).with_context(|| into.display().to_string())
}

/// Makes an ext4 image with a folder's content, to be mounted read-only.
pub(crate) fn from_folder(folder: &Path, image: &Path, label: &str) -> Result<()> {
    let kilobytes = host::output(host::program("du").args(["-sk"]).arg(folder))?;
    let kilobytes = kilobytes
        .split_whitespace()
        .next()
        .and_then(|size| size.parse::<u64>().ok());
    let kilobytes = kilobytes.context("du")?;
    host::run_quietly(
        host::program("mke2fs")
            .args([
                "-q",
                "-F",
                "-t",
                "ext4",
                "-O",
                "^has_journal",
                "-m",
                "0",
                "-L",
                label,
                "-d",
            ])
            .arg(folder)
            .arg(image)
            // Room for inodes and bitmaps, and for files smaller than a block.
            .arg(format!("{}k", kilobytes * 3 / 2 + 16 * 1024)),
    )
}

/// Copies a program into a folder of an image.
pub(crate) fn install(program: &Path, into: &Path) -> Result<()> {
    fs::copy(program, into).with_context(|| program.display().to_string())?;
    fs::set_permissions(into, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The archive format of an initrd ("newc"), written here because a device node
/// in a folder would need root.
#[derive(Debug, Default)]
struct Cpio {
    bytes: Vec<u8>,
    inode: usize,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, mode, content, (0, 0));
    }

    fn device(&mut self, name: &str, mode: u32, number: (u32, u32)) {
        self.entry(name, mode, &[], number);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.inode += 1;
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.inode,
            0, // user
            0, // group
            1, // links
            0, // time
            content.len(),
            0, // major and minor number of the device that holds the file
            0,
            device.0,
            device.1,
            name.len() + 1,
            0, // checksum
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_header_a_name_and_content_each_padded() {
        let mut archive = Cpio::default();
        archive.add("init", 0o100_755, b"hello");
        let text = String::from_utf8_lossy(&archive.bytes);
        assert!(text.starts_with("07070100000001000081ed"));
        // 110 bytes of header, 5 of name, one of padding.
        assert_eq!(&archive.bytes[110..116], b"init\0\0");
        assert_eq!(&archive.bytes[116..124], b"hello\0\0\0");
    }
}
