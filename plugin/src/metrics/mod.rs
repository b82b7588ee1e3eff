//! What the process counts of itself, and the registry that is told others.
//! docs/metrics.md says what each means.

mod kernel;
mod labels;
mod server;
mod unprotected;

use std::sync::atomic::AtomicU64;

use execblock::{kernel::Mechanism, setup::Loaded};
use plugin_common::ABI;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub(crate) use kernel::{Kernel, Pinned};
pub(crate) use server::{Answers, Server};
pub(crate) use unprotected::Unprotected;

/// Bounds of the histogram of bindings, in seconds: design asks for half a
/// millisecond, a runtime waits for two seconds.
const BIND_SECONDS: [f64; 11] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// What the runtime asks of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Configure,
    Synchronize,
    Create,
    Start,
    Remove,
}

impl Request {
    const ALL: [Self; 5] = [
        Self::Configure,
        Self::Synchronize,
        Self::Create,
        Self::Start,
        Self::Remove,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Synchronize => "synchronize",
            Self::Create => "create_container",
            Self::Start => "start_container",
            Self::Remove => "remove_container",
        }
    }

    fn label(self) -> Label {
        [("request", self.name())]
    }
}

/// What became of a refusal that was to be posted as a Kubernetes Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posting {
    Posted,
    /// Too many at once.
    Dropped,
    Failed,
}

impl Posting {
    const ALL: [Self; 3] = [Self::Posted, Self::Dropped, Self::Failed];

    fn label(self) -> Label {
        let name = match self {
            Self::Posted => "posted",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        };
        [("result", name)]
    }
}

/// One label of a fixed set of values.
type Label = [(&'static str, &'static str); 1];

/// What the process counts. Each has its own atomics: nobody waits for another.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Time to bind a container, also where that failed.
    pub(crate) bind_seconds: Histogram,
    /// Containers that were refused.
    pub(crate) bind_refused: Counter,
    /// Containers that run without their rules; [`Unprotected`] sets it.
    unprotected: Gauge<u64, AtomicU64>,
    connected: Gauge,
    reconnects: Counter,
    requests: Family<Label, Counter>,
    errors: Family<Label, Counter>,
    /// Zeros where they are not built in.
    kubernetes_events: Family<Label, Counter>,
    /// Parts of the maps that a scrape could not read.
    scrape_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            bind_seconds: Histogram::new(BIND_SECONDS),
            bind_refused: Counter::default(),
            unprotected: Gauge::default(),
            connected: Gauge::default(),
            reconnects: Counter::default(),
            requests: Family::default(),
            errors: Family::default(),
            kubernetes_events: Family::default(),
            scrape_errors: Counter::default(),
        };
        // A rate needs a zero to begin with.
        for request in Request::ALL {
            drop(metrics.requests.get_or_create(&request.label()));
            drop(metrics.errors.get_or_create(&request.label()));
        }
        for result in Posting::ALL {
            drop(metrics.kubernetes_events.get_or_create(&result.label()));
        }
        metrics
    }
}

impl Metrics {
    /// Counts a request, and an error unless [`Counted::end`] is told otherwise: a
    /// handler that panics or is out of time is dropped.
    pub(crate) fn begin(&self, request: Request) -> Counted {
        self.requests.get_or_create(&request.label()).inc();
        Counted {
            errors: self.errors.get_or_create_owned(&request.label()),
            failed: true,
        }
    }

    /// A connection to a runtime was made; `before`: not for the first time.
    pub(crate) fn connects(&self, before: bool) {
        if before {
            self.reconnects.inc();
        }
    }

    /// Whether a runtime is connected and has registered the plugin.
    pub(crate) fn connected(&self, connected: bool) {
        self.connected.set(i64::from(connected));
    }

    /// Counts Kubernetes Events.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn posting(&self, result: Posting) -> Counter {
        self.kubernetes_events.get_or_create_owned(&result.label())
    }

    /// All that is told, also what stands in the kernel's maps.
    pub(crate) fn registry(&self, loaded: Loaded, kernel: Kernel) -> Registry {
        let mut registry = Registry::with_prefix("execblock");
        registry.register(
            "build",
            "Version of execblock and of its maps",
            Info::new([
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("abi", ABI.to_string()),
            ]),
        );
        mechanisms(&mut registry, loaded);
        registry.register_with_unit(
            "bind",
            "Time to bind a container that starts, also where that failed",
            Unit::Seconds,
            self.bind_seconds.clone(),
        );
        registry.register(
            "bind_refused",
            "Containers refused because they could not be bound",
            self.bind_refused.clone(),
        );
        registry.register(
            "unprotected_containers",
            "Containers that run without the rules that they should have",
            self.unprotected.clone(),
        );
        registry.register(
            "nri_connected",
            "1 while a container runtime has the plugin registered",
            self.connected.clone(),
        );
        registry.register(
            "nri_reconnects",
            "Connections to the container runtime after the first",
            self.reconnects.clone(),
        );
        registry.register(
            "nri_requests",
            "Requests of the container runtime",
            self.requests.clone(),
        );
        registry.register(
            "nri_errors",
            "Requests of the container runtime answered with an error",
            self.errors.clone(),
        );
        registry.register(
            "kubernetes_events",
            "Refusals that were to be posted as Kubernetes Events",
            self.kubernetes_events.clone(),
        );
        registry.register_collector(Box::new(kernel.counting(self.scrape_errors.clone())));
        registry
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Counted {
    errors: Counter,
    failed: bool,
}

impl Counted {
    /// It was answered with this.
    pub(crate) fn end<T, E>(mut self, answer: Result<T, E>) -> Result<T, E> {
        self.failed = answer.is_err();
        answer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.failed {
            self.errors.inc();
        }
    }
}

/// What is in force, and what was found to work by whoever loaded.
fn mechanisms(registry: &mut Registry, loaded: Loaded) {
    let label = |mechanism: Mechanism| [("mechanism", mechanism.name())];
    let force = Family::<Label, Gauge>::default();
    force.get_or_create(&label(loaded.mechanism())).set(1);
    registry.register("mechanism", "1 for the mechanism in force", force);
    let works = Family::<Label, Gauge>::default();
    for (mechanism, answer) in tried(loaded) {
        works
            .get_or_create(&label(mechanism))
            .set(i64::from(answer));
    }
    registry.register(
        "mechanism_works",
        "Whether a mechanism was seen to refuse a program, for those that were tried",
        works,
    );
}

/// Mechanisms are tried in their order, until one works. What an earlier load
/// tried in vain is not known any more.
fn tried(loaded: Loaded) -> Vec<(Mechanism, bool)> {
    let chosen = loaded.mechanism();
    let before = match loaded {
        Loaded::Already(_) => &[][..],
        Loaded::New(..) | Loaded::Replaced { .. } => &Mechanism::ALL[..],
    };
    let failed = before.iter().take_while(|one| **one != chosen);
    failed
        .map(|one| (*one, false))
        .chain([(chosen, true)])
        .collect()
}

/// A form of the answer to a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4, for those that know no other.
    Prometheus,
}

impl Exposition {
    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        }
    }

    /// By the header `Accept`: OpenMetrics, unless only the other is named.
    fn accepted(accept: &str) -> Self {
        let names = |what: &str| accept.contains(what);
        if names("text/plain") && !names("application/openmetrics-text") {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    fn encode(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        match self {
            Self::OpenMetrics => {
                prometheus_client::encoding::text::encode(&mut text, registry)?;
            }
            Self::Prometheus => {
                prometheus_client::encoding::prometheus_text::encode(&mut text, registry)?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod examples_tests;
#[cfg(test)]
mod tests;
