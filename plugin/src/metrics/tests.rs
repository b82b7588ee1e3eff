//! The registry's text against what is promised of it: docs/metrics.md, promtool,
//! and totals that never fall.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
};

use execblock::{
    annotation::{Rule, Spec},
    cgroup::Cgroup,
    kernel::Fill,
    order::Orders,
    policy::rule_id,
    record::{Owner, Record},
};
use plugin_common::{Flow, Hit, HitKey, RULE_UNLISTED, Stats};

use super::{
    kernel::{Snapshot, Source},
    labels::SERIES_MAX,
    *,
};
use crate::settings::Exposed;

/// Maps and records that a test writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake(Arc<Mutex<(Snapshot, Vec<Record>)>>);

impl Fake {
    fn set(&self, snapshot: Snapshot) {
        self.0.lock().unwrap().0 = snapshot;
    }
}

impl Source for Fake {
    fn read(&self) -> Snapshot {
        self.0.lock().unwrap().0.clone()
    }
    fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().1.clone()
    }
}

fn rule(text: &str) -> Rule {
    text.parse().unwrap()
}

fn hit(cgroup: u64, rule: u32, count: u64) -> (HitKey, Hit) {
    let key = HitKey {
        cgroup,
        rule,
        ..HitKey::default()
    };
    (key, Hit { count, last: 1 })
}

fn full() -> Snapshot {
    let fill = |map, entries| Fill {
        map,
        entries,
        capacity: 16_384,
    };
    Snapshot {
        stats: Some(Stats {
            checked: 10,
            denied: 3,
            killed: 2,
            audited: 1,
            ..Stats::default()
        }),
        hits: Some(vec![
            hit(7, rule_id(&rule("whoami")), 4),
            hit(7, RULE_UNLISTED, 2),
            hit(8, 1 << 20, 1),
        ]),
        flows: Some(vec![(
            7,
            Flow {
                lost: 5,
                ..Flow::default()
            },
        )]),
        fills: Some(vec![fill("containers", 2), fill("rules", 9)]),
        errors: Vec::new(),
    }
}

fn record() -> Record {
    let owner = Owner {
        container: "c0ffee".to_owned(),
        name: "a\"b\n".to_owned(),
        engine: "containerd".to_owned(),
        pod: "web".to_owned(),
        namespace: "shop".to_owned(),
        ..Owner::default()
    };
    let cgroup = Cgroup {
        id: 7,
        level: Some(2),
        path: "/a".to_owned(),
    };
    let spec = Spec {
        deny: BTreeSet::from([rule("whoami")]),
        ..Spec::default()
    };
    Record::new(&owner, &cgroup, Some(&spec), &Orders::default())
}

/// A registry over maps that a test writes, and those maps.
pub(super) fn registry(container_labels: bool, rule_labels: bool) -> (Registry, Fake) {
    let fake = Fake::default();
    fake.0.lock().unwrap().1 = vec![record()];
    fake.set(full());
    let exposed = Exposed {
        listen: None,
        container_labels,
        rule_labels,
    };
    let loaded = Loaded::New(Mechanism::FmodRet, execblock::canary::Seen::Eperm);
    let kernel = Kernel::new(fake.clone(), &exposed);
    (Metrics::default().registry(loaded, kernel), fake)
}

pub(super) fn encoded(registry: &Registry) -> String {
    Exposition::OpenMetrics.encode(registry).unwrap()
}

/// Names of all samples, as queries name them.
pub(super) fn samples() -> BTreeSet<String> {
    let text = encoded(&registry(true, true).0);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let of_it = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.lines().filter(of_it).collect()
}

#[test]
fn all_is_encoded() {
    let text = encoded(&registry(false, false).0);
    for line in [
        concat!(
            "execblock_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\""
        ),
        "execblock_mechanism{mechanism=\"fmod_ret\"} 1",
        "execblock_mechanism_works{mechanism=\"fmod_ret\"} 1",
        "execblock_mechanism_works{mechanism=\"lsm\"} 0",
        "execblock_checked_total 10",
        "execblock_refusals_total{verdict=\"denied\"} 3",
        "execblock_refusals_total{verdict=\"killed\"} 2",
        "execblock_refusals_total{verdict=\"audited\"} 1",
        "execblock_denials_total 7",
        "execblock_bound_containers 2",
        "execblock_map_entries{map=\"rules\"} 9",
        "execblock_map_capacity{map=\"rules\"} 16384",
        "execblock_bind_seconds_bucket{le=\"0.0005\"} 0",
        "execblock_nri_requests_total{request=\"start_container\"} 0",
        "execblock_nri_errors_total{request=\"synchronize\"} 0",
        "execblock_kubernetes_events_total{result=\"dropped\"} 0",
        "execblock_scrape_errors_total 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert!(
        !text.contains("whoami") && !text.contains("c0ffee"),
        "{text}"
    );
}

#[test]
fn labels_are_those_that_were_asked_for() {
    let container = "container=\"c0ffee\",name=\"a\\\"b\u{fffd}\",namespace=\"shop\",pod=\"web\"";
    let text = encoded(&registry(true, false).0);
    assert_eq!(
        lines(&text, "execblock_denials_total"),
        [
            "execblock_denials_total{container=\"(unknown)\",name=\"\",namespace=\"\",pod=\"\"} 1",
            &format!("execblock_denials_total{{{container}}} 6"),
        ]
    );
    assert_eq!(
        lines(&text, "execblock_container_events_lost_total"),
        [format!(
            "execblock_container_events_lost_total{{{container}}} 5"
        )]
    );
    let text = encoded(&registry(false, true).0);
    assert_eq!(
        lines(&text, "execblock_denials_total"),
        [
            "execblock_denials_total{rule=\"(unknown)\"} 1",
            "execblock_denials_total{rule=\"not in the allow-list\"} 2",
            "execblock_denials_total{rule=\"whoami\"} 4",
        ]
    );
}

#[test]
fn a_total_does_not_fall_when_a_container_goes() {
    let (registry, fake) = registry(false, false);
    let total = |hits: Vec<(HitKey, Hit)>| {
        fake.set(Snapshot {
            hits: Some(hits),
            ..full()
        });
        let text = encoded(&registry);
        let lines = lines(&text, "execblock_denials_total");
        lines[0].rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(total(vec![hit(1, 100, 5), hit(2, 100, 3)]), 8);
    assert_eq!(total(vec![hit(1, 100, 6)]), 9);
    assert_eq!(total(vec![hit(1, 100, 6), hit(3, 100, 1)]), 10);
    // Counted anew.
    assert_eq!(total(vec![hit(1, 100, 2)]), 12);
}

#[test]
fn a_containers_series_ends_with_it() {
    let (registry, fake) = registry(true, false);
    assert!(encoded(&registry).contains("c0ffee"));
    fake.set(Snapshot {
        hits: Some(Vec::new()),
        flows: Some(Vec::new()),
        ..full()
    });
    assert!(!encoded(&registry).contains("c0ffee"));
}

#[test]
fn series_are_bounded() {
    let (registry, fake) = registry(true, true);
    // All of them under names of their own: rules of one record.
    let rules: Vec<Rule> = (0..SERIES_MAX + 50)
        .map(|n| rule(&format!("p{n}")))
        .collect();
    let mut record = record();
    record.deny = rules.iter().map(ToString::to_string).collect();
    fake.0.lock().unwrap().1 = vec![record];
    let hits = rules.iter().map(|rule| hit(7, rule_id(rule), 1)).collect();
    fake.set(Snapshot {
        hits: Some(hits),
        ..full()
    });
    let text = encoded(&registry);
    let lines = lines(&text, "execblock_denials_total");
    assert_eq!(lines.len(), SERIES_MAX + 1);
    let rest = lines.iter().find(|line| line.contains("(other)")).unwrap();
    assert!(rest.ends_with("rule=\"(other)\"} 50"), "{rest}");
}

#[test]
fn what_can_not_be_read_is_counted_and_the_rest_is_served() {
    let (registry, fake) = registry(false, false);
    fake.set(Snapshot {
        fills: None,
        errors: vec!["the map rules: gone".to_owned()],
        ..full()
    });
    let text = encoded(&registry);
    assert!(text.contains("execblock_scrape_errors_total 1"), "{text}");
    assert!(text.contains("execblock_checked_total 10"), "{text}");
    assert!(!text.contains("execblock_map_entries"), "{text}");
    fake.set(Snapshot {
        errors: vec!["nothing is loaded".to_owned()],
        ..Snapshot::default()
    });
    let text = encoded(&registry);
    assert!(text.contains("execblock_scrape_errors_total 2"), "{text}");
    assert!(text.contains("execblock_nri_connected 0"), "{text}");
}

#[test]
fn requests_are_counted_with_their_errors() {
    let metrics = Metrics::default();
    let kernel = Kernel::new(Fake::default(), &Exposed::default());
    let registry = metrics.registry(Loaded::Already(Mechanism::Lsm), kernel);
    assert_eq!(metrics.begin(Request::Start).end(Ok::<_, ()>(1)), Ok(1));
    let failed = metrics.begin(Request::Start).end(Err::<(), _>(2));
    assert_eq!(failed, Err(2));
    // Out of time.
    drop(metrics.begin(Request::Start));
    metrics.connects(false);
    metrics.connects(true);
    metrics.connected(true);
    let text = encoded(&registry);
    for line in [
        "execblock_nri_requests_total{request=\"start_container\"} 3",
        "execblock_nri_errors_total{request=\"start_container\"} 2",
        "execblock_nri_requests_total{request=\"configure\"} 0",
        "execblock_nri_reconnects_total 1",
        "execblock_nri_connected 1",
        "execblock_mechanism_works{mechanism=\"lsm\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_form_is_chosen_by_what_is_accepted() {
    for (accept, expected) in [
        ("", Exposition::OpenMetrics),
        ("*/*", Exposition::OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5",
            Exposition::OpenMetrics,
        ),
        ("text/plain;version=0.0.4", Exposition::Prometheus),
    ] {
        assert_eq!(Exposition::accepted(accept), expected, "{accept}");
    }
}

/// Rows of the table of docs/metrics.md: name without the prefix, type, labels.
fn documented() -> BTreeMap<String, (String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `execblock_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 8, "{row}");
        let plain = |cell: &str| cell.replace('`', "");
        (plain(cells[1]), (plain(cells[2]), plain(cells[4])))
    })
    .collect()
}

#[test]
fn the_page_tells_of_each_metric() {
    let text = encoded(&registry(true, true).0);
    let mut told = BTreeMap::new();
    for line in text.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // As queries name it.
        let end = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let sample = lines(&text, &format!("{name}{end}"));
        let labels = sample.first().and_then(|line| {
            let (_, rest) = line.split_once('{')?;
            let (labels, _) = rest.rsplit_once('}')?;
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split('=').next());
            Some(labels.collect::<Vec<_>>().join(", "))
        });
        let labels = labels.unwrap_or_default();
        told.insert(format!("{name}{end}"), (kind.to_owned(), labels));
    }
    assert_eq!(documented(), told);
}
