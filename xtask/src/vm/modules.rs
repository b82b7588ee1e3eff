//! A kernel's tree of modules: which files must be loaded, in which order, for
//! a module to load. The initrd has no modprobe that could find out.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::host;

/// What depmod wrote about a tree.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    /// By module name: its file and the files it needs, direct or not.
    loadable: HashMap<String, (PathBuf, Vec<PathBuf>)>,
    built_in: HashSet<String>,
}

impl ModuleTree {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            fs::read_to_string(folder.join(name))
                .with_context(|| folder.join(name).display().to_string())
        };
        Self::parse(&text("modules.dep")?, &text("modules.builtin")?)
    }

    fn parse(dependencies: &str, built_in: &str) -> Result<Self> {
        let mut loadable = HashMap::new();
        for line in dependencies.lines() {
            let (file, needs) = line
                .split_once(':')
                .with_context(|| format!("modules.dep: {line}"))?;
            let needs = needs.split_whitespace().map(PathBuf::from).collect();
            loadable.insert(module_name(file), (PathBuf::from(file), needs));
        }
        Ok(Self {
            loadable,
            built_in: built_in.lines().map(module_name).collect(),
        })
    }

    /// The files to load, dependencies first, none twice.
    pub(crate) fn load_order(&self, required: &[&str], optional: &[&str]) -> Result<Vec<PathBuf>> {
        for name in required {
            if !self.loadable.contains_key(*name) && !self.built_in.contains(*name) {
                bail!("the kernel has no module {name}");
            }
        }
        let mut order = Vec::new();
        for name in optional.iter().chain(required) {
            if let Some((file, _)) = self.loadable.get(*name) {
                self.add(file, &mut order);
            }
        }
        Ok(order)
    }

    fn add(&self, file: &Path, order: &mut Vec<PathBuf>) {
        if order.iter().any(|added| added == file) {
            return;
        }
        if let Some((_, needs)) = self.loadable.get(&module_name(&file.to_string_lossy())) {
            for need in needs {
                self.add(need, order);
            }
        }
        order.push(file.to_owned());
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` is `ext4`; the kernel writes `-` as `_`.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

/// A module's bytes as the kernel takes them.
pub(crate) fn decompress(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| file.display().to_string()),
    };
    let done = host::program(program)
        .arg("-dc")
        .arg(file)
        .output()
        .context(program)?;
    if !done.status.success() {
        bail!(
            "{program} -dc {}: {}",
            file.display(),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(done.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz
kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz
kernel/lib/crc16.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/drivers/virtio/virtio-pci.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
";

    fn order(required: &[&str], optional: &[&str]) -> Result<Vec<String>> {
        let tree = ModuleTree::parse(DEPENDENCIES, "kernel/fs/overlayfs/overlay.ko\n")?;
        let files = tree.load_order(required, optional)?;
        Ok(files
            .iter()
            .map(|file| module_name(&file.to_string_lossy()))
            .collect())
    }

    #[test]
    fn dependencies_come_first_and_once() -> Result<()> {
        assert_eq!(
            order(&["virtio_pci", "ext4", "overlay"], &["crc16", "absent"])?,
            [
                "crc16",
                "virtio_ring",
                "virtio_pci",
                "jbd2",
                "mbcache",
                "ext4"
            ]
        );
        Ok(())
    }

    #[test]
    fn a_required_module_must_be_somewhere() {
        assert!(order(&["overlay"], &[]).is_ok());
        assert!(order(&["btrfs"], &[]).is_err());
    }
}
