//! What the kernel counts, read from the pinned maps at each scrape.
//!
//! Takes no lock: a scrape never holds up a container that starts. What is read is
//! therefore not of one instant.

use std::{
    fmt::{self, Debug},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use execblock::{
    kernel::{Fill, MapError, Pins},
    record::Record,
    records::Records,
};
use plugin_common::{Flow, Hit, HitKey, Stats};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::Counter},
};

use super::labels::Naming;
use crate::settings::Exposed;

/// What a scrape found in the maps; `None` where that could not be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) stats: Option<Stats>,
    pub(crate) hits: Option<Vec<(HitKey, Hit)>>,
    pub(crate) flows: Option<Vec<(u64, Flow)>>,
    pub(crate) fills: Option<Vec<Fill>>,
    /// Why parts are missing.
    pub(crate) errors: Vec<String>,
}

/// Where a scrape looks.
pub(crate) trait Source: Debug + Send + Sync + 'static {
    fn read(&self) -> Snapshot;
    /// Who is bound. Reads a file for each.
    fn records(&self) -> Vec<Record>;
}

/// The pins and records of this machine.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) pins: Pins,
    pub(crate) run_dir: PathBuf,
}

impl Source for Pinned {
    fn read(&self) -> Snapshot {
        // Anew at each scrape: they may have been replaced.
        let maps = match self.pins.open() {
            Ok(maps) => maps,
            Err(error) => {
                return Snapshot {
                    errors: vec![error.to_string()],
                    ..Snapshot::default()
                };
            }
        };
        let mut errors = Vec::new();
        let stats = kept(maps.stats(), &mut errors);
        let hits = kept(maps.hits(), &mut errors);
        let flows = kept(maps.flows(), &mut errors);
        let fills = kept(maps.fills(), &mut errors);
        Snapshot {
            stats,
            hits,
            flows,
            fills,
            errors,
        }
    }

    fn records(&self) -> Vec<Record> {
        Records::below(&self.run_dir).all()
    }
}

fn kept<T>(result: Result<T, MapError>, errors: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| errors.push(error.to_string())).ok()
}

/// Collects at each scrape.
#[derive(Debug)]
pub(crate) struct Kernel {
    source: Box<dyn Source>,
    container_labels: bool,
    naming: Mutex<Naming>,
    errors: Counter,
    /// Whether the scrape before failed, so that the log has it once.
    failing: AtomicBool,
}

impl Kernel {
    pub(crate) fn new(source: impl Source, exposed: &Exposed) -> Self {
        Self {
            source: Box::new(source),
            container_labels: exposed.container_labels,
            naming: Mutex::new(Naming::new(exposed.container_labels, exposed.rule_labels)),
            errors: Counter::default(),
            failing: AtomicBool::new(false),
        }
    }

    /// Counts failures there.
    pub(super) fn counting(mut self, errors: Counter) -> Self {
        self.errors = errors;
        self
    }

    fn failures(&self, errors: &[String]) {
        self.errors.inc_by(errors.len() as u64);
        let before = self.failing.swap(!errors.is_empty(), Ordering::Relaxed);
        if let (false, [first, ..]) = (before, errors) {
            log::warn!("metrics lack what the kernel counts: {first}");
        }
    }
}

impl Collector for Kernel {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder = Encoder(encoder);
        let snapshot = self.source.read();
        self.failures(&snapshot.errors);
        if let Some(stats) = &snapshot.stats {
            encoder.stats(stats)?;
        }
        let mut naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hits) = &snapshot.hits {
            let denials = naming.denials(hits, || self.source.records());
            encoder.counters(
                "denials",
                "Programs refused, killed or audited, as the rules count them",
                denials,
            )?;
        }
        if self.container_labels
            && let Some(flows) = &snapshot.flows
        {
            let lost = naming.lost(flows, || self.source.records());
            encoder.counters(
                "container_events_lost",
                "Events that a container had too many of, or that did not fit",
                &lost,
            )?;
        }
        if let Some(fills) = &snapshot.fills {
            encoder.fills(fills)?;
        }
        encoder.counter(
            "scrape_errors",
            "Parts of the kernel's maps that a scrape could not read",
            self.errors.get(),
        )
    }
}

/// The few forms that are encoded here.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn stats(&mut self, stats: &Stats) -> fmt::Result {
        for (name, help, value) in [
            (
                "checked",
                "Programs of bound containers looked at",
                stats.checked,
            ),
            (
                "unreadable",
                "Names, paths or layers that could not be read",
                stats.unreadable,
            ),
            (
                "kill_failed",
                "Signals that the kernel did not take: the program ran",
                stats.kill_failed,
            ),
            (
                "untagged",
                "Processes without memory for a tag: they leave their rules with their cgroup",
                stats.untagged,
            ),
            (
                "events_lost",
                "Events of refusals that were not told; verdicts are not affected",
                stats.events_lost,
            ),
            (
                "hits_lost",
                "Refusals that no rule's count has room for",
                stats.hits_lost,
            ),
        ] {
            self.counter(name, help, value)?;
        }
        let verdicts = [
            ([("verdict", "denied")], stats.denied),
            ([("verdict", "killed")], stats.killed),
            ([("verdict", "audited")], stats.audited),
        ];
        self.counters(
            "refusals",
            "Programs refused, by what became of them",
            verdicts.iter().map(|(label, value)| (label, value)),
        )
    }

    fn fills(&mut self, fills: &[Fill]) -> fmt::Result {
        if let Some(bound) = fills.iter().find(|fill| fill.map == "containers") {
            let mut metric = self.gauge("bound_containers", "Containers under rules")?;
            metric.encode_gauge(&bound.entries)?;
        }
        let mut entries = self.gauge("map_entries", "Entries in a map of the kernel")?;
        for fill in fills {
            let labels = [("map", fill.map)];
            entries
                .encode_family(&labels)?
                .encode_gauge(&fill.entries)?;
        }
        let mut capacity = self.gauge("map_capacity", "Most entries that the map can have")?;
        for fill in fills {
            let labels = [("map", fill.map)];
            capacity
                .encode_family(&labels)?
                .encode_gauge(&fill.capacity)?;
        }
        Ok(())
    }

    /// As the registry does, help ends with a full stop.
    fn metric<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.0
            .encode_descriptor(name, &format!("{help}."), None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<'a, L: EncodeLabelSet + 'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (&'a L, &'a u64)>,
    ) -> fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (labels, value) in values {
            metric
                .encode_family(labels)?
                .encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.metric(name, help, MetricType::Gauge)
    }
}
