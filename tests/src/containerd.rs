//! The userland's containerd, configured for the tests, with the image of the tests in it.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::Signal;

use crate::background::Background;
use crate::cri_client::CriClient;
use crate::oci_image::{self, About, Entry, Image};
use crate::process;

/// A tmpfs: overlayfs does not take an overlay as its upper layer.
pub(crate) const STATE: &str = "/var/lib/vmtest";
pub(crate) const NRI_SOCKET: &str = "/var/run/nri/nri.sock";
/// Where containerd looks for plugins that it starts itself, unless told otherwise.
pub(crate) const NRI_PLUGINS: &str = "/opt/nri/plugins";

/// Where a containerd keeps its things.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Images and snapshots.
    pub(crate) state: &'a str,
    /// What does not outlive it, its socket among it.
    pub(crate) run: &'a str,
    pub(crate) nri_socket: &'a str,
    /// Of plugins that it starts itself, and of their settings.
    pub(crate) nri_plugins: &'a str,
    pub(crate) nri_settings: &'a str,
}

impl Place<'_> {
    pub(crate) fn socket(&self) -> String {
        format!("{}/containerd.sock", self.run)
    }
}

/// That of the virtual machine's, as Debian has it.
const SYSTEM: Place<'_> = Place {
    state: STATE,
    run: "/run/containerd",
    nri_socket: NRI_SOCKET,
    nri_plugins: NRI_PLUGINS,
    nri_settings: "/etc/nri/conf.d",
};
/// The image of the containers, and of the pods' sandboxes.
pub(crate) const IMAGE: &str = "vmtest.local/busybox:1";

pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFIG: &str = "/run/vmtest/containerd.toml";
/// The runtime wrapper; it runs runc.
pub(crate) const WRAPPER: &str = "/payload/execblock-runc";
const START_LIMIT: Duration = Duration::from_mins(3);

/// What `/bin` of the image has besides `BusyBox` itself. `/usr/bin/whoami` is a file of its own.
const APPLETS: &[&str] = &[
    "cat", "echo", "env", "id", "ls", "mkdir", "sed", "sh", "sleep", "touch", "true", "uname",
    "whoami",
];

pub(crate) const DAEMON: Background = Background::named("containerd");

/// A client of the running containerd, and whether it had to be started.
pub(crate) fn ensure() -> Result<(CriClient, bool)> {
    if DAEMON.pid().is_some()
        && let Ok(client) = CriClient::connect(Path::new(SOCKET))
        && client.version().is_ok()
    {
        return Ok((client, false));
    }
    DAEMON.stop(Signal::KILL)?;
    Ok((start()?, true))
}

/// Has the image of this archive in the running containerd's store.
pub(crate) fn import(archive: &str, name: &str, client: &CriClient) -> Result<()> {
    import_archive(&SYSTEM, archive, name, client)
}

/// Ends containerd as an administrator would; its containers go on.
pub(crate) fn stop() -> Result<()> {
    DAEMON.stop(Signal::TERM)
}

pub(crate) fn start() -> Result<CriClient> {
    configure()?;
    launch()
}

/// Starts it anew, with what is made of its configuration's file.
pub(crate) fn restart_with(change: impl FnOnce(&str) -> Result<()>) -> Result<CriClient> {
    stop()?;
    configure()?;
    change(CONFIG)?;
    launch()
}

/// Has the validator of NRI 0.10 on, which looks at what pods ask for.
pub(crate) fn validate(config: &str) -> Result<()> {
    const TABLE: &str = "[plugins.\"io.containerd.nri.v1.nri\".default_validator]\nenable = true\n";
    let text = fs::read_to_string(config).context("its configuration")?;
    Ok(fs::write(config, text + TABLE)?)
}

fn launch() -> Result<CriClient> {
    let pid = DAEMON.start(process::command("containerd").args(["--config", CONFIG]))?;
    answering(|| {
        if !process::is_alive(pid) {
            DAEMON.show_log();
            bail!("containerd ended");
        }
        Ok(())
    })
}

/// A client of one that systemd has started, with our [`configure`]d file.
pub(crate) fn client() -> Result<CriClient> {
    answering(|| Ok(()))
}

/// Writes the configuration that the daemon is started with.
pub(crate) fn configure() -> Result<()> {
    fs::create_dir_all("/run/vmtest")?;
    let major = major_version()?;
    fs::write(
        CONFIG,
        config(&SYSTEM, major) + &runtime_class(major, WRAPPER),
    )
    .context(CONFIG)
}

const OLDER: &str = "/run/older";
const PROGRAMS: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "ctr"];

/// Puts the containerd of the release before in the place of the userland's own. What that one
/// keeps is deleted: an older one does not read it.
pub(crate) fn downgrade() -> Result<()> {
    if DAEMON.pid().is_some() {
        let (client, _) = ensure()?;
        for pod in client.pods()? {
            client.remove_pod(&pod)?;
        }
    }
    stop()?;
    for dir in [format!("{STATE}/containerd"), SYSTEM.run.to_owned()] {
        if Path::new(&dir).exists() {
            fs::remove_dir_all(&dir).context(dir)?;
        }
    }
    fs::create_dir_all(OLDER)?;
    let flags = MountFlags::RDONLY;
    mount(disk("older")?, OLDER, "ext4", flags, None).context("the disk of the older")?;
    for program in PROGRAMS {
        let from = format!("{OLDER}/usr/bin/{program}");
        mount_bind(&from, format!("/usr/bin/{program}")).context(from)?;
    }
    Ok(())
}

/// Ends [`downgrade`]. The shims of running containers go on as the program that they were
/// started as.
pub(crate) fn upgrade() -> Result<()> {
    for program in PROGRAMS {
        unmount(format!("/usr/bin/{program}"), UnmountFlags::DETACH)?;
    }
    Ok(unmount(OLDER, UnmountFlags::DETACH)?)
}

/// The disk of that serial number.
fn disk(serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let said = fs::read_to_string(entry.path().join("serial"));
        if said.is_ok_and(|said| said.trim() == serial) {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    bail!("no disk has the serial number {serial}")
}

/// Waits until it answers, and has the image in its store.
fn answering(check: impl Fn() -> Result<()>) -> Result<CriClient> {
    let client = process::until(START_LIMIT, "containerd to answer", || {
        check()?;
        let client = CriClient::connect(Path::new(SOCKET))?;
        client.version()?;
        Ok(Some(client))
    })
    .inspect_err(|_| DAEMON.show_log())?;
    if !client.has_image(IMAGE)? {
        import_image(&SYSTEM, &client)?;
    }
    Ok(client)
}

pub(crate) fn version() -> Result<String> {
    let said = process::run(process::command("containerd").arg("--version"))?
        .success()?
        .stdout;
    // "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1"
    said.split_whitespace()
        .nth(2)
        .map(ToOwned::to_owned)
        .context("containerd --version")
}

pub(crate) fn major_version() -> Result<u32> {
    let version = version()?;
    let digits: String = version
        .trim_start_matches('v')
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .with_context(|| format!("containerd version {version}"))
}

/// 1.7 was the first.
pub(crate) fn has_nri(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(1), Some(7))
}

/// Both formats; 1.x ignores the table of the NRI without `version = 2`.
pub(crate) fn config(place: &Place<'_>, major: u32) -> String {
    let Place {
        state,
        run,
        nri_socket,
        nri_plugins,
        nri_settings,
    } = place;
    let cri = cri_plugin(major);
    let (version, sandbox) = if major < 2 {
        (2, format!("sandbox_image = \"{IMAGE}\""))
    } else {
        (3, String::new())
    };
    let pinned = if major < 2 {
        String::new()
    } else {
        format!(
            "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\n  sandbox = \"{IMAGE}\"\n"
        )
    };
    format!(
        r#"version = {version}
root = "{state}/containerd"
state = "{run}"
[grpc]
  address = "{run}/containerd.sock"
[plugins."{cri}"]
  # Where it may not be lowered: a machine without CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  {sandbox}
[plugins."{cri}".containerd]
  default_runtime_name = "runc"
[plugins."{cri}".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."{cri}".containerd.runtimes.crun]
  runtime_type = "io.containerd.runc.v2"
[plugins."{cri}".containerd.runtimes.crun.options]
  BinaryName = "/usr/bin/crun"
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  disable_connections = false
  plugin_path = "{nri_plugins}"
  plugin_config_path = "{nri_settings}"
  plugin_registration_timeout = "20s"
  plugin_request_timeout = "10s"
  socket_path = "{nri_socket}"
{pinned}"#
    )
}

/// The runtime class whose runtime is the wrapper. It sees those annotations alone that containerd
/// is told to hand down.
pub(crate) fn runtime_class(major: u32, wrapper: &str) -> String {
    let cri = cri_plugin(major);
    format!(
        r#"
[plugins."{cri}".containerd.runtimes.execblock]
  runtime_type = "io.containerd.runc.v2"
  pod_annotations = ["execblock/*"]
  container_annotations = ["execblock/*"]
[plugins."{cri}".containerd.runtimes.execblock.options]
  BinaryName = "{wrapper}"
"#
    )
}

pub(crate) fn cri_plugin(major: u32) -> &'static str {
    if major < 2 {
        "io.containerd.grpc.v1.cri"
    } else {
        "io.containerd.cri.v1.runtime"
    }
}

pub(crate) fn import_image(place: &Place<'_>, client: &CriClient) -> Result<()> {
    let path = format!("{}/image.tar", place.state);
    write_image(&path)?;
    import_archive(place, &path, IMAGE, client)?;
    Ok(fs::remove_file(&path)?)
}

fn import_archive(place: &Place<'_>, archive: &str, name: &str, client: &CriClient) -> Result<()> {
    process::run(process::command("ctr").args([
        "--address",
        &place.socket(),
        "--namespace",
        "k8s.io",
        "images",
        "import",
        archive,
    ]))?
    .success()?;
    process::until(START_LIMIT, format_args!("the image {name}"), || {
        Ok(client.has_image(name)?.then_some(()))
    })
}

/// The image as a file.
pub(crate) fn write_image(path: &str) -> Result<()> {
    let busybox = fs::read("/usr/bin/busybox").context("the userland's BusyBox")?;
    let mut entries: Vec<_> = [
        "/bin", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/tmp", "/usr", "/usr/bin",
    ]
    .map(Entry::Dir)
    .into();
    entries.push(Entry::Program {
        path: "/bin/busybox",
        content: &busybox,
    });
    entries.push(Entry::Program {
        path: "/usr/bin/whoami",
        content: &busybox,
    });
    entries.push(Entry::File {
        path: "/etc/passwd",
        content: b"root:x:0:0:root:/root:/bin/sh\n",
    });
    let links: Vec<_> = APPLETS
        .iter()
        .map(|applet| format!("/bin/{applet}"))
        .collect();
    entries.extend(links.iter().map(|path| Entry::Symlink {
        path,
        target: "busybox",
    }));

    let image = Image {
        name: IMAGE,
        // What a pod's sandbox runs: it only has to stay.
        entrypoint: &["/bin/sleep", "1000000"],
        entries: &entries,
        about: About::default(),
    };
    oci_image::write(image, BufWriter::new(File::create(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_containerd_with_nri_is_1_7() {
        for (version, expected) in [("1.6.20~ds1", false), ("1.7.24~ds1", true), ("2.1.9", true)] {
            assert_eq!(has_nri(version), expected, "{version}");
        }
    }

    #[test]
    fn each_containerd_gets_its_own_format() {
        let old = config(&SYSTEM, 1);
        assert!(old.starts_with("version = 2\n") && old.contains("sandbox_image"));
        let new = config(&SYSTEM, 2);
        assert!(new.starts_with("version = 3\n") && new.contains("pinned_images"));
        assert!(!new.contains("grpc.v1.cri"));
    }
}
