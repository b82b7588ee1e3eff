//! A containerd and an execblock of one's own, so that the machine's are neither configured nor
//! restarted: for the demo and for the soak test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal};

use crate::containerd::{self, Place};
use crate::cri_client::CriClient;
use crate::process::{self, LogFile};
use crate::protocol;

const LIMIT: Duration = Duration::from_mins(3);

/// Both, and what they keep. Fields are dropped in their order.
pub(crate) struct Private {
    /// The daemon and its log; none where containerd has no NRI.
    plugin: Option<(Daemon, PathBuf)>,
    _containerd: Daemon,
    socket: String,
    folders: Folders,
}

impl Private {
    /// Starts both, with the image of the tests, in folders of this name.
    pub(crate) fn start(name: &str, execblock: &str) -> Result<Self> {
        let folders = Folders::make(name)?;
        let Folders { run, state } = &folders;
        let [nri_socket, nri_plugins, nri_settings] =
            ["nri.sock", "nri-plugins", "nri-conf"].map(|name| format!("{run}/{name}"));
        let place = Place {
            state,
            run,
            nri_socket: &nri_socket,
            nri_plugins: &nri_plugins,
            nri_settings: &nri_settings,
        };
        let config = format!("{run}/config.toml");
        let major = containerd::major_version()?;
        let wrapper = Path::new(execblock).with_file_name("execblock-runc");
        let class = containerd::runtime_class(major, &wrapper.to_string_lossy());
        fs::write(&config, containerd::config(&place, major) + &class)?;
        let mut command = Command::new("containerd");
        let (containerd, log) =
            folders.daemon(command.args(["--config", &config]), "containerd")?;
        let socket = place.socket();
        let client = process::until(LIMIT, "containerd to answer", || {
            let client = CriClient::connect(Path::new(&socket))?;
            client.version()?;
            Ok(Some(client))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        containerd::import_image(&place, &client)?;

        let plugin = if containerd::has_nri(&containerd::version()?) {
            let mut registered = LogFile::from_here(Path::new(&format!("{run}/plugin.log")));
            let mut command = Command::new(execblock);
            command.args(["nri", "--socket", &nri_socket]);
            let plugin = folders.daemon(&mut command, "plugin")?;
            registered.wait_for(LIMIT, "the plugin to register", |line| {
                line.contains("registered")
            })?;
            Some(plugin)
        } else {
            process::run(process::command(execblock).arg("load"))?.success()?;
            None
        };
        Ok(Self {
            plugin,
            _containerd: containerd,
            socket,
            folders,
        })
    }

    /// The runtime class by which pods are bound: the wrapper's where there is no NRI.
    pub(crate) fn handler(&self) -> &'static str {
        if self.plugin.is_some() {
            "runc"
        } else {
            "execblock"
        }
    }

    /// A client of containerd.
    pub(crate) fn client(&self) -> Result<CriClient> {
        CriClient::connect(Path::new(&self.socket))
    }

    /// Where logs may be put.
    pub(crate) fn dir(&self) -> &str {
        &self.folders.run
    }

    /// The daemon, where there is one.
    pub(crate) fn plugin(&self) -> Result<Option<Pid>> {
        let plugin = self.plugin.as_ref();
        plugin
            .map(|(plugin, _)| process::pid_of(&plugin.0))
            .transpose()
    }

    /// What the daemon said so far.
    pub(crate) fn plugin_log(&self) -> Result<String> {
        match &self.plugin {
            Some((_, log)) => Ok(fs::read_to_string(log)?),
            None => Ok(String::new()),
        }
    }
}

/// A process that ends with this one's scope.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = process::pid_of(&self.0)
            .and_then(|pid| process::signal(pid, Signal::TERM))
            .and_then(|()| process::wait_within(&mut self.0, LIMIT));
        if let Err(error) = ended {
            protocol::write_stdout(&format!("ending a daemon: {error:#}\n"));
        }
    }
}

/// Removes what is left, also by one that was killed.
struct Folders {
    run: String,
    state: String,
}

impl Folders {
    fn make(name: &str) -> Result<Self> {
        let folders = || Self {
            run: format!("/run/{name}"),
            state: format!("/var/lib/{name}"),
        };
        drop(folders());
        let made = folders();
        for dir in [&made.run, &made.state] {
            fs::create_dir_all(dir)?;
        }
        Ok(made)
    }

    /// Its output goes to a log, which is returned.
    fn daemon(&self, command: &mut Command, name: &str) -> Result<(Daemon, PathBuf)> {
        let path = PathBuf::from(format!("{}/{name}.log", self.run));
        let log = File::create(&path)?;
        command.stdout(log.try_clone()?).stderr(log);
        Ok((Daemon(command.spawn().context(name.to_owned())?), path))
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for dir in [&self.run, &self.state] {
            if Path::new(dir).exists()
                && let Err(error) = fs::remove_dir_all(dir)
            {
                protocol::write_stdout(&format!("removing {dir}: {error}\n"));
            }
        }
    }
}
