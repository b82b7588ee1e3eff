//! Many containers at once, and containers that come and go, on this machine's containerd and
//! kernel: all are bound before their first instruction, and nothing is left of them.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cri_client::{ContainerSpec, CriClient, LinuxPod, PodConfig, PodMetadata, PodSecurity};
use crate::private::Private;
use crate::{containerd, execblock, process, protocol};

/// Pods, each with a thread that starts its containers.
const PODS: usize = 8;
/// Containers that try the denied program without a pause.
const FLOODERS: usize = 50;
const PARENT: &str = "execblock-soak";
const LIMIT: Duration = Duration::from_mins(5);
/// How often the daemon is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The first thing that a container does is what it is denied.
const TRIES: &str = "/usr/bin/whoami; echo status $?; exec /bin/sleep 1000000";
const FLOODS: &str = "while :; do /usr/bin/whoami; done";

pub(crate) fn run(program: &str, containers: usize, seconds: u64) -> Result<()> {
    protocol::without_log();
    let private = Private::start(PARENT, program)?;
    let result = soak(&private, containers, Duration::from_secs(seconds));
    if result.is_err() {
        say(&private.plugin_log()?);
    }
    drop(private);
    remove_cgroups();
    result
}

/// The pods' parent, in each hierarchy: their runtime leaves it.
fn remove_cgroups() {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let below = hierarchies.flatten().map(|entry| entry.path());
    for hierarchy in below.chain(["/sys/fs/cgroup".into()]) {
        // Not there, or not empty.
        let _removed = fs::remove_dir(hierarchy.join(PARENT));
    }
}

fn soak(private: &Private, containers: usize, churn: Duration) -> Result<()> {
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| Pod::new(private, number))
        .collect::<Result<_>>()?;
    let began = Instant::now();
    let mut pods = each(pods, |pod| {
        let share = containers / PODS + usize::from(pod.number < containers % PODS);
        (0..share).try_for_each(|_| pod.start(TRIES).map(drop))
    })?;
    let took = began.elapsed();
    let bound = execblock::bound_cgroups()?.len();
    say(&format!(
        "{containers} containers started by {PODS} at a time in {:.1} s: {bound} bound",
        took.as_secs_f64()
    ));
    ensure!(bound == containers, "{bound} of {containers} are bound");
    let daemon = Daemon::look(private)?;
    match daemon {
        Some(daemon) => say(&format!("daemon: {daemon}")),
        None => say("this containerd has no NRI: bound by the wrapper, and no daemon to look at"),
    }

    if !churn.is_zero() {
        pods = come_and_go(private, pods, churn, daemon)?;
        ensure!(
            execblock::bound_cgroups()?.len() == containers,
            "entries are lost, or left"
        );
    }
    flood(private, &mut pods)?;
    drop(each(pods, Pod::end)?);
    nothing_is_left(private)
}

/// Does it for each pod at the same time.
fn each(pods: Vec<Pod>, what: impl Fn(&mut Pod) -> Result<()> + Sync) -> Result<Vec<Pod>> {
    thread::scope(|scope| {
        let threads: Vec<_> = pods
            .into_iter()
            .map(|mut pod| {
                let what = &what;
                scope.spawn(move || what(&mut pod).map(|()| pod))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Pod>>| match thread.join() {
            Ok(result) => result,
            Err(_panic) => bail!("a thread panicked"),
        };
        threads.into_iter().map(join).collect()
    })
}

/// The oldest container of each pod goes and a new one comes, for that long. The daemon does not
/// grow.
fn come_and_go(
    private: &Private,
    pods: Vec<Pod>,
    time: Duration,
    before: Option<Daemon>,
) -> Result<Vec<Pod>> {
    let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (pods, most) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = before;
            while !done.load(Ordering::Relaxed) {
                if let Some((most, now)) = most.as_mut().zip(Daemon::look(private)?) {
                    *most = most.most(now);
                }
                thread::park_timeout(EVERY);
            }
            Ok::<_, anyhow::Error>(most)
        });
        let end = Instant::now() + time;
        let pods = each(pods, |pod| {
            while Instant::now() < end {
                pod.replace_oldest()?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        watch.thread().unpark();
        let most = watch.join();
        Ok::<_, anyhow::Error>((
            pods?,
            most.map_err(|_panic| anyhow::anyhow!("it panicked"))??,
        ))
    })?;
    let count = count.into_inner();
    say(&format!(
        "{count} containers came and as many went in {} s",
        time.as_secs()
    ));
    if let (Some(before), Some(most), Some(after)) = (before, most, Daemon::look(private)?) {
        say(&format!(
            "  daemon before  {before}\n  at most        {most}\n  after          {after}"
        ));
        ensure!(
            after.descriptors <= before.descriptors + 2,
            "descriptors: {before}, then {after}"
        );
        // An allocator keeps some of what it had.
        ensure!(
            after.kibibytes <= before.kibibytes + before.kibibytes / 4 + 2048,
            "memory: {before}, then {after}"
        );
    }
    Ok(pods)
}

/// Containers that are refused all the time, and others that start meanwhile.
fn flood(private: &Private, pods: &mut Vec<Pod>) -> Result<()> {
    let mut flooders = Pod::new(private, PODS)?;
    for _ in 0..FLOODERS {
        flooders.start(FLOODS)?;
    }
    let began = Instant::now();
    *pods = each(std::mem::take(pods), |pod| {
        (0..5).try_for_each(|_| pod.replace_oldest())
    })?;
    say(&format!(
        "{FLOODERS} containers tried the denied program in a loop, and {} others started in {:.1} s",
        PODS * 5,
        began.elapsed().as_secs_f64()
    ));
    flooders.end()
}

fn nothing_is_left(private: &Private) -> Result<()> {
    // Removals are told to the daemon before they are answered.
    let bound = execblock::bound_cgroups()?;
    ensure!(bound.is_empty(), "{} entries are left", bound.len());
    let records = fs::read_dir("/run/execblock/containers")?.count();
    ensure!(records == 0, "{records} records are left");
    let log = private.plugin_log()?;
    for unwanted in [
        "bound now",
        "runs without its rules",
        "panicked",
        "refused ",
    ] {
        ensure!(!log.contains(unwanted), "the daemon said {unwanted:?}");
    }
    say("all removed: no entry and no record is left");
    Ok(())
}

/// What the daemon takes.
#[derive(Clone, Copy)]
struct Daemon {
    kibibytes: usize,
    descriptors: usize,
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kibibytes,
            descriptors,
        } = self;
        write!(out, "{kibibytes} KiB resident, {descriptors} descriptors")
    }
}

impl Daemon {
    fn look(private: &Private) -> Result<Option<Self>> {
        let Some(pid) = private.plugin()? else {
            return Ok(None);
        };
        let proc = format!("/proc/{}", pid.as_raw_pid());
        let status = fs::read_to_string(format!("{proc}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Ok(Some(Self {
            kibibytes: kibibytes.context("no VmRSS")?,
            descriptors: fs::read_dir(format!("{proc}/fd"))?.count(),
        }))
    }

    fn most(self, other: Self) -> Self {
        Self {
            kibibytes: self.kibibytes.max(other.kibibytes),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

/// A pod, its containers from the oldest on, and a client of its own.
struct Pod {
    number: usize,
    client: CriClient,
    id: String,
    config: PodConfig,
    containers: VecDeque<String>,
    made: usize,
}

impl Pod {
    fn new(private: &Private, number: usize) -> Result<Self> {
        let client = private.client()?;
        let name = format!("soak-{number}");
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "default".to_owned(),
            }),
            log_directory: format!("{}/{name}", private.dir()),
            // A policy of its own each.
            annotations: HashMap::from([(
                "execblock/deny".to_owned(),
                format!("whoami,program-{number}"),
            )]),
            linux: Some(LinuxPod {
                cgroup_parent: format!("/{PARENT}"),
                security_context: Some(PodSecurity::on_host_network(false)),
            }),
        };
        fs::create_dir_all(&config.log_directory)?;
        let id = client.run_pod(&config, private.handler())?;
        Ok(Self {
            number,
            client,
            id,
            config,
            containers: VecDeque::new(),
            made: 0,
        })
    }

    /// Starts one that runs the script, and waits until it was refused where it says so.
    fn start(&mut self, script: &str) -> Result<()> {
        let name = format!("c{}", self.made);
        self.made += 1;
        let spec = ContainerSpec {
            name: name.clone(),
            image: containerd::IMAGE.to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            annotations: HashMap::new(),
            privileged: false,
        };
        let id = self.client.create(&self.id, &self.config, spec)?;
        self.client.start(&id)?;
        self.containers.push_back(id);
        if script == TRIES {
            self.is_refused(&name)?;
        }
        Ok(())
    }

    /// Its first program was refused: it was bound in time.
    fn is_refused(&self, name: &str) -> Result<()> {
        let log = format!("{}/{name}.log", self.config.log_directory);
        let said = process::until(LIMIT, format_args!("{log} to say a status"), || {
            let text = fs::read_to_string(&log)?;
            Ok(text.contains("status ").then_some(text))
        })?;
        let refused = said.contains("status 126") || said.contains("status 137");
        ensure!(
            refused && !said.contains("root"),
            "pod {}, {name} ran what it is denied: {said}",
            self.number
        );
        fs::remove_file(&log)?;
        Ok(())
    }

    fn replace_oldest(&mut self) -> Result<()> {
        if let Some(oldest) = self.containers.pop_front() {
            self.client.remove(&oldest)?;
        }
        self.start(TRIES)
    }

    fn end(&mut self) -> Result<()> {
        for container in self.containers.drain(..) {
            self.client.remove(&container)?;
        }
        self.client.remove_pod(&self.id)
    }
}

fn say(line: &str) {
    protocol::write_stdout(&format!("{line}\n"));
}
