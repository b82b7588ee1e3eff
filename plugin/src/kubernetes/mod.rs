//! Refusals as Kubernetes Events on their pods, so that `kubectl describe pod`
//! shows them.
//!
//! Built in with the feature `kubernetes`, and off unless config.toml asks for it.
//! Reports are told apart where they are logged; an API server is spoken to by a
//! thread of its own, behind a bounded queue. Whatever that server does, nobody
//! else waits for it.

mod client;
mod event;
mod gate;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use tokio::{runtime, sync::mpsc};

use self::{
    client::Poster,
    event::Notice,
    gate::{Admitted, Gate},
};
use crate::{
    events::Report,
    metrics::{Metrics, Posting},
};

/// Most Events that wait to be posted.
const QUEUE: usize = 64;

/// Hears of reports, and queues those that are to be posted.
#[derive(Debug)]
pub(crate) struct Listener {
    gate: Arc<Mutex<Gate>>,
    queue: mpsc::Sender<Notice>,
    metrics: Arc<Metrics>,
    /// Name of this node.
    node: String,
}

/// Starts the thread that posts.
pub(crate) fn start(metrics: &Arc<Metrics>) -> io::Result<Listener> {
    let (listener, poster, queue) = parts(metrics);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("kubernetes".to_owned())
        .spawn(move || runtime.block_on(poster.run(queue)))?;
    log::info!(
        "refusals are posted as Kubernetes Events, from node {:?}",
        listener.node
    );
    Ok(listener)
}

fn parts(metrics: &Arc<Metrics>) -> (Listener, Poster, mpsc::Receiver<Notice>) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let gate = Arc::new(Mutex::new(Gate::default()));
    let poster = Poster::new(Arc::clone(&gate), Arc::clone(metrics));
    let listener = Listener {
        gate,
        queue: sender,
        metrics: Arc::clone(metrics),
        node: node(),
    };
    (listener, poster, queue)
}

/// As the pod that we may be in says it, or as the kernel does.
fn node() -> String {
    let told = std::env::var("NODE_NAME").ok();
    told.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    })
}

impl Listener {
    /// Queues what this report is to be posted as, if it is. Never waits.
    pub(crate) fn hear(&self, report: &Report) {
        self.hear_at(report, Instant::now());
    }

    fn hear_at(&self, report: &Report, now: Instant) {
        let Some(notice) = Notice::of(report, &self.node) else {
            return;
        };
        // Held for no longer than it takes to look something up.
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = match gate.admit(&notice.key, now) {
            Admitted::Known => false,
            Admitted::TooMany => true,
            Admitted::New => match self.queue.try_send(notice) {
                Ok(()) => false,
                Err(error) => {
                    gate.forget(&error.into_inner().key);
                    true
                }
            },
        };
        if dropped {
            self.metrics.posting(Posting::Dropped).inc();
        }
    }
}

#[cfg(test)]
mod tests;
