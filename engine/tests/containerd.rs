//! Lookup against a containerd of the test's own. It needs root, `containerd`,
//! `ctr`, `runc` and a static BusyBox; where one is missing it says so and counts
//! as skipped.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unnecessary_debug_formatting,
    reason = "a test; paths stand quoted in the configuration"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use tempfile::TempDir;

use execblock::lookup::{LookupError, Place, Sources};

const LIMIT: Duration = Duration::from_mins(1);

fn main() {
    let missing = missing();
    if let Some(missing) = &missing {
        #[expect(clippy::print_stdout, reason = "says why it is skipped")]
        {
            println!("skipped, it needs {missing}");
        }
    }
    let test = Trial::test("a_real_containerd_is_asked_in_all_namespaces", || {
        a_real_containerd_is_asked_in_all_namespaces();
        Ok(())
    });
    let trials = vec![test.with_ignored_flag(missing.is_some())];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Ends with its containers, also where the test fails.
struct Containerd {
    dir: TempDir,
    daemon: Child,
}

impl Containerd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("c.sock"),
            at("c.sock.ttrpc"),
        );
        fs::write(at("config.toml"), config).unwrap();
        fs::create_dir(at("rootfs")).unwrap();
        fs::copy("/bin/busybox", at("rootfs/busybox")).unwrap();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(at("config.toml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { dir, daemon };
        started.until("it to answer", |containerd| {
            containerd.ctr("default", &["version"])
        });
        started
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let ended = self.daemon.try_wait().unwrap();
            assert!(ended.is_none(), "containerd ended: {ended:?}\n{log}");
            assert!(Instant::now() < end, "waited for {what}\n{log}");
            // What is waited for is another program's state, which tells nobody.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    fn ctr(&self, namespace: &str, args: &[&str]) -> bool {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.socket());
        ctr.args(["--namespace", namespace]).args(args);
        ctr.stdout(Stdio::null()).stderr(Stdio::null());
        ctr.status().unwrap().success()
    }

    fn make(&self, namespace: &str, how: &[&str], id: &str) {
        let rootfs = self.dir.path().join("rootfs");
        let program = [rootfs.to_str().unwrap(), id, "/busybox", "sleep", "600"];
        let args = [how, &["--rootfs"], &program].concat();
        assert!(self.ctr(namespace, &args), "ctr {args:?}");
    }

    /// This containerd alone.
    fn sources(&self) -> Sources {
        let none = self.dir.path().join("none");
        Sources {
            containerd: vec![self.socket()],
            docker: none.clone(),
            storage: none.clone(),
            storage_run: none.clone(),
            runc: none.clone(),
            crun: none.clone(),
            run_dir: none,
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in ["web", "webshop"] {
            self.ctr("two", &["task", "rm", "--force", id]);
        }
        let ended = self.daemon.kill().and_then(|()| self.daemon.wait());
        if let Err(error) = ended {
            log::warn!("containerd: {error}");
        }
    }
}

/// What is missing here.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&str| std::env::split_paths(&paths).any(|dir| dir.join(name).exists());
    let programs = ["containerd", "ctr", "runc"];
    if let Some(name) = programs.iter().find(|name| !is_there(name)) {
        return Some((*name).to_owned());
    }
    let busybox = PathBuf::from("/bin/busybox");
    (!busybox.exists()).then(|| busybox.display().to_string())
}

fn a_real_containerd_is_asked_in_all_namespaces() {
    let mut containerd = Containerd::start();
    let named = ["container", "create", "--label", "nerdctl/name=shop"];
    containerd.make("one", &["container", "create"], "web");
    containerd.make("one", &named, "created");
    let annotated = ["run", "--detach", "--annotation", "execblock/deny=whoami"];
    containerd.make("two", &annotated, "web");
    containerd.make("two", &["run", "--detach"], "webshop");
    let sources = containerd.sources();

    // The same id in two namespaces: two containers, of which one runs.
    let (all, looked_at) = sources.list();
    assert_eq!(all.len(), 4, "{all:?} {looked_at:?}");
    let found = sources.find("web").unwrap();
    assert_eq!(found.owner.namespace, "two");
    assert_eq!(found.annotations["execblock/deny"], "whoami");
    let Place::Init { pid, cgroups_path } = &found.place else {
        panic!("{found:?}");
    };
    assert_eq!(cgroups_path.as_deref(), Some("/two/web"));
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(command, "/busybox\0sleep\x00600\0");
    assert_eq!(sources.find("webs").unwrap().owner.container, "webshop");

    for query in ["one/web", "shop", "one/shop", "crea"] {
        let error = sources.find(query).unwrap_err();
        assert!(
            matches!(error, LookupError::NotRunning(_)),
            "{query}: {error}"
        );
    }

    // An ended task that was not deleted still has its process id.
    assert!(containerd.ctr("two", &["task", "kill", "--signal", "KILL", "web"]));
    containerd.until("the task to end", |_| {
        matches!(sources.find("two/web"), Err(LookupError::NotRunning(_)))
    });
}
