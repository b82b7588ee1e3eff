//! What a kubelet makes of a DaemonSet on its node: volumes, and the messages to the runtime. Of
//! the manifest's fields those that ours has; any other is an error, so that nothing of it is left
//! out unseen.

mod manifest;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::containerd::STATE;
use crate::cri_client::container::{
    Capabilities, ContainerConfig, ContainerMetadata, ContainerSecurity, ImageSpec, Int64Value,
    KeyValue, LinuxContainer, Mount, ProfileType, Resources, SecurityProfile,
};
use crate::cri_client::{LinuxPod, Namespaces, PodConfig, PodMetadata, PodSecurity};

pub(crate) use self::manifest::HttpGet;
use self::manifest::{Container, DaemonSet, Profile, Volume};

/// Of a container whose `procMount` is the default: `defaultMaskedPaths` and
/// `defaultReadonlyPaths` of the kubelet's pkg/securitycontext/util.go.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A DaemonSet, and the files of the ConfigMap that its pods mount.
#[derive(Debug)]
pub(crate) struct Node {
    set: DaemonSet,
    files: Vec<(String, String)>,
}

impl Node {
    pub(crate) fn new(manifest: &str, files: &[(&str, &str)]) -> Result<Self> {
        let owned = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
        Ok(Self {
            set: serde_saphyr::from_str(manifest).context("the manifest of the DaemonSet")?,
            files: files.iter().map(owned).collect(),
        })
    }

    /// The image of all its containers.
    pub(crate) fn image(&self) -> Result<&str> {
        let spec = &self.set.spec.template.spec;
        let mut images = spec.init_containers.iter().chain(&spec.containers);
        let first = &images.next().context("no container")?.image;
        ensure!(images.all(|one| one.image == *first), "several images");
        Ok(first)
    }

    /// Where the kubelet asks whether the pod lives.
    pub(crate) fn health(&self) -> Result<&HttpGet> {
        let [container] = &self.set.spec.template.spec.containers[..] else {
            bail!("several containers")
        };
        Ok(&container
            .liveness_probe
            .as_ref()
            .context("no probe")?
            .http_get)
    }

    pub(crate) fn pod(&self, name: &str, log_directory: String) -> PodConfig {
        let template = &self.set.spec.template;
        PodConfig {
            metadata: Some(PodMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "execblock".to_owned(),
            }),
            log_directory,
            annotations: template.metadata.annotations.clone(),
            linux: Some(LinuxPod {
                cgroup_parent: format!("/kubepods/burstable/pod-{name}"),
                security_context: Some(PodSecurity::in_namespaces(self.namespaces())),
            }),
        }
    }

    fn namespaces(&self) -> Namespaces {
        let spec = &self.set.spec.template.spec;
        Namespaces::machines(spec.host_network, spec.host_pid)
    }

    /// Those that run one after the other, and the one that stays.
    pub(crate) fn containers(&self) -> Result<(Vec<ContainerConfig>, ContainerConfig)> {
        let spec = &self.set.spec.template.spec;
        let first = spec.init_containers.iter().map(|one| self.config(one));
        let [last] = &spec.containers[..] else {
            bail!("several containers")
        };
        Ok((first.collect::<Result<_>>()?, self.config(last)?))
    }

    fn config(&self, container: &Container) -> Result<ContainerConfig> {
        let security = &container.security_context;
        let owned = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        let security = ContainerSecurity {
            capabilities: Some(Capabilities {
                add: security.capabilities.add.clone(),
                drop: security.capabilities.drop.clone(),
            }),
            privileged: security.privileged,
            namespaces: Some(self.namespaces()),
            run_as_user: Some(Int64Value {
                value: security.run_as_user,
            }),
            run_as_group: Some(Int64Value {
                value: security.run_as_group,
            }),
            readonly_rootfs: security.read_only_root_filesystem,
            no_new_privs: !security.allow_privilege_escalation,
            masked_paths: owned(MASKED),
            readonly_paths: owned(READ_ONLY),
            seccomp: Some(profile(&security.seccomp_profile)),
            apparmor: Some(profile(&security.app_armor_profile)),
        };
        let limit = container.resources.limits.get("memory");
        let resources = Resources {
            memory_limit_in_bytes: limit.map_or(Ok(0), |limit| bytes(limit))?,
        };
        let envs = container.env.iter().map(|variable| {
            let path = &variable.value_from.field_ref.field_path;
            ensure!(path == "spec.nodeName", "env of {path}");
            Ok(KeyValue {
                key: variable.name.clone(),
                value: "vmtest".to_owned(),
            })
        });
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: container.name.clone(),
            }),
            image: Some(ImageSpec {
                image: container.image.clone(),
            }),
            // `args` of Kubernetes stand behind the image's entrypoint.
            args: container.args.clone(),
            envs: envs.collect::<Result<_>>()?,
            mounts: self.mounts(container)?,
            log_path: format!("{}.log", container.name),
            linux: Some(LinuxContainer {
                resources: Some(resources),
                security_context: Some(security),
            }),
            ..ContainerConfig::default()
        })
    }

    fn mounts(&self, container: &Container) -> Result<Vec<Mount>> {
        let volumes = &self.set.spec.template.spec.volumes;
        let mounts = container.volume_mounts.iter().map(|mount| {
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.with_context(|| format!("no volume {}", mount.name))?;
            let mut path = self.prepare(volume)?;
            if let Some(sub_path) = &mount.sub_path {
                // Links on the way are the kubelet's to follow.
                path = path.join(sub_path).canonicalize()?;
            }
            Ok(Mount {
                container_path: mount.mount_path.clone(),
                host_path: path.display().to_string(),
                readonly: mount.read_only,
            })
        });
        mounts.collect()
    }

    /// Has the volume on the node.
    fn prepare(&self, volume: &Volume) -> Result<PathBuf> {
        match (&volume.host_path, &volume.config_map) {
            (Some(host), None) => {
                let path = Path::new(&host.path);
                match &*host.kind {
                    "Directory" => ensure!(path.is_dir(), "no directory {}", path.display()),
                    "DirectoryOrCreate" if path.is_dir() => {}
                    "DirectoryOrCreate" => make(path, 0o755)?,
                    other => bail!("hostPath of type {other}"),
                }
                Ok(path.to_owned())
            }
            (None, Some(map)) => self.config_map(&map.name, map.default_mode),
            _ => bail!("volume {}: neither hostPath nor configMap", volume.name),
        }
    }

    /// As `AtomicWriter` of the kubelet writes them: files in a folder that a link is for, in one
    /// that all may write.
    fn config_map(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let dir = Path::new(STATE).join("kubelet").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        make(&dir, 0o777)?;
        let data = dir.join("..2026_01_01");
        make(&data, 0o755)?;
        symlink("..2026_01_01", dir.join("..data"))?;
        for (name, text) in &self.files {
            let path = data.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            symlink(Path::new("..data").join(name), dir.join(name))?;
        }
        Ok(dir)
    }
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    Ok(fs::set_permissions(dir, Permissions::from_mode(mode))?)
}

fn profile(profile: &Profile) -> SecurityProfile {
    let kind = match profile {
        Profile::RuntimeDefault => ProfileType::RuntimeDefault,
        Profile::Unconfined => ProfileType::Unconfined,
    };
    SecurityProfile { kind: kind.into() }
}

/// `256Mi`
fn bytes(quantity: &str) -> Result<i64> {
    let mebibytes = quantity.strip_suffix("Mi").context("a limit in Mi")?;
    Ok(mebibytes.parse::<i64>()? << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = include_str!("../../deploy/kustomize/base/daemonset.yaml");

    #[test]
    fn the_daemonset_is_understood_whole() {
        let node = Node::new(MANIFEST, &[]).unwrap();
        assert!(node.image().unwrap().starts_with("ghcr.io/execblock/"));
        let health = node.health().unwrap();
        assert_eq!((&*health.path, health.port), ("/healthz", 9643));
        let pod = node.pod("x", "/logs".to_owned());
        assert_eq!(pod.annotations["execblock.dev/tolerate-missing"], "true");
    }

    #[test]
    fn a_field_that_is_not_known_is_not_left_out() {
        let more = MANIFEST.replace("hostPID: true", "hostPID: true\n      hostIPC: true");
        let error = Node::new(&more, &[]).unwrap_err();
        assert!(format!("{error:#}").contains("hostIPC"), "{error:#}");
    }

    #[test]
    fn quantities_are_bytes() {
        assert_eq!(bytes("256Mi").unwrap(), 256 << 20);
        assert!(bytes("1G").is_err());
    }
}
