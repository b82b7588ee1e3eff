//! Many containers at once, by the wrapper and a real runc: all are bound before their
//! first instruction, and nothing is left of them.

use std::{
    fs,
    io::{BufRead as _, BufReader, PipeReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use execblock::{bind::Binder, cgroup::Hierarchy, kernel::Pins};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{Case, WRAPPER, deny, program, text};

/// Those that need runc and a static BusyBox.
pub(crate) const CASES: &[Case] = &[(
    "two_hundred_at_once_are_bound_in_time",
    two_hundred_at_once_are_bound_in_time,
)];

/// Threads that start containers.
const THREADS: usize = 8;
const CONTAINERS: usize = 200;
/// Containers that try the denied program without a pause.
const FLOODERS: usize = 50;
/// Containers that start meanwhile.
const BESIDE: usize = 8;

/// The first thing that a container does is what it is denied.
const TRIES: &str = "/bin/true; echo status $?; exec /bin/busybox sleep 100000";
const FLOODS: &str = "echo begins; while :; do /bin/true; done";

/// A root file system, and what of a configuration is the same for all.
struct Image {
    dir: tempfile::TempDir,
    config: Value,
}

impl Image {
    fn new() -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let bin = dir.path().join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(program("busybox").ok_or("no busybox")?, bin.join("busybox"))?;
        symlink("busybox", bin.join("sh"))?;
        fs::copy(bin.join("busybox"), bin.join("true"))?;
        let spec = Command::new("runc")
            .arg("spec")
            .current_dir(&dir)
            .status()?;
        ensure!(spec.success(), "runc spec");
        let mut config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json"))?)?;
        config["process"]["terminal"] = json!(false);
        config["root"]["path"] = json!(dir.path().join("rootfs"));
        config["annotations"] = deny("true");
        Ok(Self { dir, config })
    }

    /// Creates and starts a container, as an engine does.
    fn start<'a>(&'a self, id: &str, script: &str) -> Result<Container<'a>, Failed> {
        let bundle = self.dir.path().join(id);
        fs::create_dir(&bundle)?;
        let mut config = self.config.clone();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        if script == FLOODS {
            // So that the machine has time for the others.
            config["linux"]["resources"]["cpu"] = json!({ "shares": 2 });
        }
        fs::write(bundle.join("config.json"), config.to_string())?;
        let (reader, writer) = std::io::pipe()?;
        let container = Container {
            id: id.to_owned(),
            said: BufReader::new(reader),
            _image: self,
        };
        let mut create = Command::new(WRAPPER);
        create.args(["create", "--bundle"]).arg(&bundle).arg(id);
        let errors = fs::File::create(bundle.join("err"))?;
        create.stdin(Stdio::null()).stdout(writer).stderr(errors);
        ensure!(create.status()?.success(), "create: {}", said(&bundle)?);
        let errors = fs::File::create(bundle.join("err"))?;
        let mut start = Command::new(WRAPPER);
        start.args(["start", id]).stdin(Stdio::null());
        let start = start.stdout(Stdio::null()).stderr(errors).status()?;
        ensure!(start.success(), "start: {}", said(&bundle)?);
        Ok(container)
    }
}

fn said(bundle: &Path) -> Result<String, Failed> {
    Ok(text(&fs::read(bundle.join("err"))?))
}

struct Container<'a> {
    id: String,
    said: BufReader<PipeReader>,
    _image: &'a Image,
}

impl Container<'_> {
    fn says(&mut self, expected: &[&str]) -> Result<(), Failed> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        ensure!(
            expected.contains(&line.trim_end()),
            "{}: {line:?}, expected one of {expected:?}",
            self.id
        );
        Ok(())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut delete = Command::new(WRAPPER);
        delete.args(["delete", "--force", &self.id]);
        delete.stderr(Stdio::null()).status().ok();
    }
}

/// How long what was killed may take to end.
const PATIENCE: Duration = Duration::from_mins(1);

const REFUSED: [&str; 2] = ["status 137", "status 126"];

/// Starts that many, some at a time, each of which is refused its first program.
fn start<'a>(image: &'a Image, name: &str, count: usize) -> Result<Vec<Container<'a>>, Failed> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    (thread..count)
                        .step_by(THREADS)
                        .map(|number| {
                            let id = format!("execblock-test-{name}-{number}");
                            let mut container = image.start(&id, TRIES)?;
                            container.says(&REFUSED)?;
                            Ok(container)
                        })
                        .collect::<Result<Vec<_>, Failed>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_panic| "a thread panicked")??);
        }
        Ok(all)
    })
}

/// `delete --force` kills what runs after the wrapper has looked: what is left then is
/// collected, once its cgroup is gone. A process of a busy machine may outlive runc's
/// patience, and the kernel tells nobody when a cgroup's directory goes.
fn forgotten(count: usize, before: usize) -> Result<(), Failed> {
    let began = Instant::now();
    let mut collected = 0;
    loop {
        collected += Binder::new()?.collect()?.dead;
        if bound()? == before || began.elapsed() > PATIENCE {
            break;
        }
        remove_cgroups()?;
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(
        collected <= count && bound()? == before,
        "{collected} were collected, {} are left",
        bound()?
    );
    Ok(())
}

/// What runc on a busy machine leaves of its cgroups, where v1 is mounted too.
fn remove_cgroups() -> Result<(), Failed> {
    for entry in fs::read_dir(Hierarchy::find()?.mount())?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("execblock-test-") {
            // Refused while a process is in it.
            drop(fs::remove_dir(entry.path()));
        }
    }
    Ok(())
}

fn bound() -> Result<usize, Failed> {
    Ok(Pins::default().open()?.containers()?.len())
}

fn two_hundred_at_once_are_bound_in_time() -> Result<(), Failed> {
    let before = bound()?;
    let image = Image::new()?;
    let all = start(&image, "load", CONTAINERS)?;
    ensure!(bound()? == before + CONTAINERS, "{} are bound", bound()?);
    drop(all);
    forgotten(CONTAINERS, before)?;

    let mut flooders = Vec::new();
    for number in 0..FLOODERS {
        let id = format!("execblock-test-flooder-{number}");
        let mut flooder = image.start(&id, FLOODS)?;
        flooder.says(&["begins"])?;
        flooders.push(flooder);
    }
    let beside = start(&image, "beside", BESIDE)?;
    ensure!(
        bound()? == before + FLOODERS + BESIDE,
        "{} are bound",
        bound()?
    );
    drop((flooders, beside));
    forgotten(FLOODERS + BESIDE, before)?;
    let left = fs::read_dir("/run/execblock/containers")?.count();
    ensure!(left == 0, "{left} records are left");
    Ok(())
}
