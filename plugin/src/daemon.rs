//! The daemon: one loop over one closed enum of events, and the one owner of
//! what it knows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    sync::{Arc, mpsc::Receiver},
    time::Instant,
};

use execblock::{
    annotation::{Annotation, Spec},
    bind::{BindError, Binder, Collected, Session, Unbound},
    cgroup::Init,
    config::Subject,
    node::Node,
    record::{Owner, Record},
    site::Namespaces,
};
use tokio::sync::oneshot;

use crate::{
    memory,
    metrics::{Metrics, Unprotected},
};

/// A container that is being created, is about to start, or was found running.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) owner: Owner,
    /// Its first process, in this pid namespace; 0 where there is none.
    pub(crate) pid: i32,
    /// `linux.cgroupsPath` of its configuration; empty where there is none.
    pub(crate) cgroups_path: String,
    /// The namespaces of its runtime; zeros where they are not known.
    pub(crate) runtime: Namespaces,
    /// Key as written, key without scope, value.
    pub(crate) annotations: Vec<(String, String, String)>,
    /// Labels of its pod.
    pub(crate) labels: BTreeMap<String, String>,
}

/// All that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A container with annotations of ours is being created; it has no process.
    /// Answered with whether something holds for it.
    Create {
        create: Start,
        /// Why nothing that something holds for can be created now.
        ready: Result<(), String>,
        reply: oneshot::Sender<Result<bool, String>>,
    },
    /// A container with annotations of ours starts when this is answered.
    Start {
        start: Start,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A container is gone.
    Remove {
        container: String,
        reply: oneshot::Sender<()>,
    },
    /// What runs with annotations of ours, and the ids of all that exists.
    Synchronize {
        starts: Vec<Start>,
        known: HashSet<String>,
        reply: oneshot::Sender<()>,
    },
    /// Is anybody there?
    Ping { reply: oneshot::Sender<()> },
    /// The end.
    Stop,
}

/// What the daemon knows.
#[derive(Debug)]
pub(crate) struct Daemon {
    binder: Binder,
    /// Ids of the containers that are bound.
    bound: HashSet<String>,
    /// Containers that run without their rules.
    unprotected: Unprotected,
    metrics: Arc<Metrics>,
}

/// As many as take some ten milliseconds to bind.
const AT_ONCE: usize = 64;

/// What became of a container that runs already.
struct Told {
    /// Whether rules held for it before.
    before: bool,
    /// Whether something holds for it now.
    result: Result<bool, String>,
}

/// The runtime that starts a container although the plugin refused it.
pub(crate) const GOES_ON: &str = "cri-o";

impl Daemon {
    pub(crate) fn new(binder: Binder, metrics: Arc<Metrics>) -> Self {
        let mut daemon = Self {
            binder,
            bound: HashSet::new(),
            unprotected: Unprotected::new(&metrics),
            metrics,
        };
        // What ended while no daemon ran.
        daemon.collect();
        daemon
    }

    /// Handles events until [`Event::Stop`] or until nobody is left to send any.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        while let Ok(event) = events.recv() {
            match event {
                Event::Create {
                    create,
                    ready,
                    reply,
                } => {
                    reply.send(self.create(&create, ready)).ok();
                }
                Event::Start { start, reply } => {
                    // Nobody waits any more: the deadline passed, the container
                    // was refused and its removal unbinds it.
                    reply.send(self.start(&start)).ok();
                }
                Event::Remove { container, reply } => {
                    self.remove(&container);
                    reply.send(()).ok();
                }
                Event::Synchronize {
                    starts,
                    known,
                    reply,
                } => {
                    self.synchronize(starts, &known, reply);
                    drop(known);
                    memory::give_back();
                }
                // Whoever asked may have gone.
                Event::Ping { reply } => drop(reply.send(())),
                Event::Stop => return,
            }
        }
    }

    /// Fails closed: an error refuses the container.
    fn start(&mut self, start: &Start) -> Result<(), String> {
        let began = Instant::now();
        let bound = self.bind(start);
        if let Ok(Some(_)) = bound {
            self.bound.insert(start.owner.container.clone());
        }
        if !matches!(bound, Ok(None)) {
            self.metrics
                .bind_seconds
                .observe(began.elapsed().as_secs_f64());
        }
        if bound.is_err() && start.owner.engine == GOES_ON {
            self.unprotected.add(&start.owner.container);
        } else {
            self.unprotected.remove(&start.owner.container);
        }
        match bound {
            Ok(None) => Ok(()),
            Ok(Some(record)) => {
                log::info!(
                    "bound {}: cgroup {} ({}) in {:?}",
                    start.owner.describe(),
                    record.cgroup,
                    record.path,
                    began.elapsed()
                );
                Ok(())
            }
            Err(reason) => Err(self.refuse(&start.owner, &reason)),
        }
    }

    /// Whether something holds for it. Fails closed: an error refuses the container.
    fn create(&self, create: &Start, ready: Result<(), String>) -> Result<bool, String> {
        let holds = spec(create).and_then(|spec| match spec {
            Some(_) => ready.map(|()| true),
            None => Ok(false),
        });
        holds.map_err(|reason| self.refuse(&create.owner, &reason))
    }

    /// What the runtime is told, and everybody else.
    fn refuse(&self, owner: &Owner, reason: &str) -> String {
        self.metrics.bind_refused.inc();
        log::error!("refused {}: {reason}", owner.describe());
        format!("execblock refused {}: {reason}", owner.describe())
    }

    /// `None`: nothing holds for it, and nothing was touched.
    fn bind(&mut self, start: &Start) -> Result<Option<Record>, String> {
        let Some(spec) = spec(start)? else {
            return Ok(None);
        };
        self.binder.set_runtime(start.runtime);
        let record = self
            .binder
            .bind_container(&start.owner, init(start), &spec)
            .map_err(|error| error.to_string())?;
        Ok(Some(record))
    }

    /// [`bind`](Self::bind) for many of one runtime.
    fn bind_all(&mut self, starts: &[Start]) -> Vec<Told> {
        let Some(first) = starts.first() else {
            return Vec::new();
        };
        self.binder.set_runtime(first.runtime);
        let mut specs = Specs::new();
        // Whoever starts a container meanwhile waits for the lock: not for all of them.
        let parts = starts.chunks(AT_ONCE).map(|starts| {
            let mut session = self.binder.session();
            let tell = |start| self.bind_in(&mut session, &mut specs, start);
            starts.iter().map(tell).collect::<Vec<_>>()
        });
        parts.flatten().collect()
    }

    fn bind_in<'a>(
        &self,
        session: &mut Result<Session<'_>, BindError>,
        specs: &mut Specs<'a>,
        start: &'a Start,
    ) -> Told {
        let result = specs.of(start).and_then(|spec| {
            let Some(spec) = spec else { return Ok(None) };
            let session = session.as_mut().map_err(|error| error.to_string())?;
            let bound = session.bind_container(&start.owner, init(start), &spec);
            bound.map(Some).map_err(|error| error.to_string())
        });
        let before = match (&result, session) {
            (Ok(bound), _) => bound.as_ref().is_some_and(|bound| bound.before),
            (Err(_), Ok(session)) => session.is_bound(&start.owner.container),
            // Nobody can be asked.
            (Err(_), Err(_)) => self.bound.contains(&start.owner.container),
        };
        Told {
            before,
            result: result.map(|bound| bound.is_some()),
        }
    }

    /// An entry that can't be removed stays until it is collected: that fails
    /// closed.
    fn remove(&mut self, container: &str) {
        // It does not run any more.
        self.unprotected.remove(container);
        match self.binder.unbind_container(container) {
            Ok(Unbound::Done) => log::info!("unbound container {container}"),
            Ok(Unbound::Unknown) => {}
            Ok(Unbound::InUse) => {
                log::warn!("container {container} still has processes, they stay under its rules");
                return;
            }
            Err(error) => log::warn!("unbinding container {container}: {error}"),
        }
        self.bound.remove(container);
    }

    fn synchronize(
        &mut self,
        starts: Vec<Start>,
        known: &HashSet<String>,
        reply: oneshot::Sender<()>,
    ) {
        let began = Instant::now();
        self.unprotected.keep(known);
        let (mut late, mut unprotected) = (0, 0);
        for (start, told) in starts.iter().zip(self.bind_all(&starts)) {
            let Told { before, result } = told;
            let container = &start.owner.container;
            if let Ok(true) = result {
                self.bound.insert(container.clone());
            }
            if before || result.is_ok() {
                self.unprotected.remove(container);
            } else {
                self.unprotected.add(container);
            }
            let who = start.owner.describe();
            match result {
                Ok(false) => {}
                Ok(true) if before => {}
                Ok(true) => {
                    late += 1;
                    log::warn!("{who} ran without its rules; bound now");
                }
                Err(reason) if before => {
                    log::error!("{who} could not be bound anew, the rules before hold: {reason}");
                }
                Err(reason) => {
                    unprotected += 1;
                    // Fails open: it runs already.
                    log::error!("{who} runs without its rules: {reason}");
                }
            }
        }
        let (annotated, took) = (starts.len(), began.elapsed());
        drop(starts);
        // What the runtime does not wait for comes behind it, and it may have gone.
        reply.send(()).ok();
        self.collect();
        let gone = self.bound.difference(known).count();
        log::info!(
            "synchronized: {} containers, {annotated} with annotations, {late} bound late, \
             {unprotected} unprotected, {gone} bound that this runtime does not know, in {took:?}",
            known.len(),
        );
    }

    /// Forgets what is dead, and learns what is bound.
    fn collect(&mut self) {
        self.bound = match self.binder.collect() {
            Ok(Collected { dead, containers }) => {
                if dead != 0 {
                    log::info!("forgot {dead} containers whose cgroups are gone");
                }
                containers.into_iter().collect()
            }
            Err(error) => {
                log::warn!("forgetting dead containers: {error}");
                self.binder.records().ids().collect()
            }
        };
    }
}

/// What holds for many: containers of one kind have the same annotations.
struct Specs<'a> {
    /// Defaults look at names and labels too.
    defaults: bool,
    known: HashMap<&'a [(String, String, String)], Found>,
}

/// What holds for one; `None` where nothing does.
type Found = Result<Option<Rc<Spec>>, String>;

impl<'a> Specs<'a> {
    fn new() -> Self {
        Self {
            defaults: Node::default().has_defaults(),
            known: HashMap::new(),
        }
    }

    fn of(&mut self, start: &'a Start) -> Found {
        let find = || spec(start).map(|spec| spec.map(Rc::new));
        if self.defaults {
            return find();
        }
        let known = self.known.entry(&start.annotations);
        known.or_insert_with(find).clone()
    }
}

fn init(start: &Start) -> Init<'_> {
    Init {
        pid: start.pid,
        cgroups_path: Some(start.cgroups_path.as_str()).filter(|path| !path.is_empty()),
        root: None,
    }
}

/// What holds for it; `None` where nothing does.
fn spec(start: &Start) -> Result<Option<Spec>, String> {
    let annotations = start
        .annotations
        .iter()
        .map(|(written, key, value)| Annotation {
            written,
            key,
            value,
        });
    let subject = Subject {
        namespace: &start.owner.namespace,
        labels: Some(&start.labels),
    };
    Node::default()
        .spec(annotations, subject)
        .map_err(|error| error.to_string())
}
