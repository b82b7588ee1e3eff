//! Tests of merging: by table, and against a model of what runs.

use proptest::prelude::*;

use super::*;
use crate::annotation::parse_list;

/// `deny`, `allow`, mode, drift; an empty list is none.
fn layer(deny: &str, allow: &str, mode: Option<Mode>, drift: Option<Drift>) -> Layer {
    let list = |text: &str| {
        if text.is_empty() {
            BTreeSet::new()
        } else {
            parse_list(text).unwrap()
        }
    };
    Layer {
        deny: list(deny),
        allow: list(allow),
        mode,
        drift,
    }
}

fn pod(layer: &Layer) -> Voice {
    Voice::of_pod(layer, &[])
}

fn floor(name: &str, layer: &Layer) -> Floor {
    Floor {
        name: name.to_owned(),
        voice: Voice::of_default(name, layer, &[]),
    }
}

fn texts(rules: &BTreeSet<Rule>) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

const AUDIT: Option<Mode> = Some(Mode::Audit);
const ENFORCE: Option<Mode> = Some(Mode::Enforce);

#[test]
fn a_pod_alone_gets_what_it_asks_for() {
    let merged = merge(
        pod(&layer("whoami", "/bin/", AUDIT, Some(Drift::Deny))),
        &[],
    )
    .unwrap();
    assert_eq!(texts(&merged.spec.deny), ["whoami"]);
    assert_eq!(texts(&merged.spec.allow), ["/bin/"]);
    assert_eq!(
        (merged.spec.mode, merged.spec.drift),
        (Mode::Audit, Drift::Deny)
    );
    assert_eq!(merged.spec.origins, Origins::default());
    assert!(merged.notes.is_empty());
    assert!(merge(Voice::default(), &[]).unwrap().spec.is_empty());
}

#[test]
fn profiles_add_up_and_the_annotations_decide_mode_and_drift() {
    let profiles = [
        (
            "a".to_owned(),
            layer("curl id", "", AUDIT, Some(Drift::Audit)),
        ),
        ("b".to_owned(), layer("wget", "/usr/", None, None)),
    ];
    let own = layer("id", "", None, None);
    let spec = merge(Voice::of_pod(&own, &profiles), &[]).unwrap().spec;
    assert_eq!(texts(&spec.deny), ["curl", "id", "wget"]);
    assert_eq!(texts(&spec.allow), ["/usr/"]);
    // The strictest that any of them stands for.
    assert_eq!((spec.mode, spec.drift), (Mode::Enforce, Drift::Audit));
    let origin = |text: &str| spec.origins.deny.get(&text.parse().unwrap()).cloned();
    assert_eq!(origin("curl"), Some(Origin::Profile("a".into())));
    assert_eq!(origin("wget"), Some(Origin::Profile("b".into())));
    // What the annotations name is theirs.
    assert_eq!(origin("id"), None);

    let own = layer("id", "", AUDIT, Some(Drift::Off));
    let spec = merge(Voice::of_pod(&own, &profiles), &[]).unwrap().spec;
    assert_eq!((spec.mode, spec.drift), (Mode::Audit, Drift::Off));
    let none = Layer::default();
    let spec = merge(Voice::of_pod(&none, &profiles[..1]), &[])
        .unwrap()
        .spec;
    assert_eq!(spec.mode, Mode::Audit);
}

#[test]
fn a_default_holds_for_a_pod_that_says_nothing() {
    let default = layer("curl", "/usr/", AUDIT, Some(Drift::Deny));
    let merged = merge(Voice::default(), &[floor("node", &default)]).unwrap();
    let spec = merged.spec;
    assert_eq!(
        (texts(&spec.deny), texts(&spec.allow)),
        (vec!["curl".to_owned()], vec!["/usr/".to_owned()])
    );
    assert_eq!((spec.mode, spec.drift), (Mode::Audit, Drift::Deny));
    let origins: Vec<&Origin> = spec.origins.deny.values().collect();
    assert_eq!(origins, [&Origin::NodeDefault("node".into())]);
    assert!(spec.bounded, "its allow-list is not to be widened");
    let denies = layer("curl", "", None, None);
    let own = layer("", "/bin/", None, None);
    let merged = merge(pod(&own), &[floor("node", &denies)]).unwrap();
    assert!(!merged.spec.bounded, "the pod's own list may be");
}

#[test]
fn the_stricter_of_mode_and_drift_holds_and_that_is_said() {
    let said = |pod_layer: &Layer, default: &Layer| {
        let merged = merge(pod(pod_layer), &[floor("node", default)]).unwrap();
        let notes: Vec<String> = merged.notes.iter().map(ToString::to_string).collect();
        (merged.spec.mode, merged.spec.drift, notes.join("; "))
    };
    let audit = layer("id", "", AUDIT, Some(Drift::Off));
    for (default, mode, drift, note) in [
        (
            layer("curl", "", None, None),
            Mode::Enforce,
            Drift::Off,
            "mode audit does not hold: node default node enforces",
        ),
        (layer("curl", "", AUDIT, None), Mode::Audit, Drift::Off, ""),
        (
            layer("", "", None, Some(Drift::Audit)),
            Mode::Audit,
            Drift::Audit,
            "drift off does not hold: node default node asks for audit",
        ),
        (
            layer("", "", None, Some(Drift::Deny)),
            Mode::Enforce,
            Drift::Deny,
            "mode audit does not hold: node default node enforces; drift off does not hold: node default node asks for deny",
        ),
    ] {
        assert_eq!(
            said(&audit, &default),
            (mode, drift, note.to_owned()),
            "{default:?}"
        );
    }
    let enforce = layer("id", "", ENFORCE, Some(Drift::Deny));
    let audits = layer("curl", "", AUDIT, Some(Drift::Audit));
    assert_eq!(
        said(&enforce, &audits),
        (Mode::Enforce, Drift::Deny, String::new())
    );
}

#[test]
fn a_pods_allow_list_lies_within_the_defaults() {
    let default = layer("", "/usr/bin/ python3* *.sh /opt/app curl", None, None);
    let ask = |allow: &str| merge(pod(&layer("", allow, None, None)), &[floor("n", &default)]);
    for allow in [
        "/usr/bin/id",
        "/usr/bin/",
        "/usr/bin/x/",
        "python3.12 python3.1*",
        "run.sh *.ba.sh",
        "/opt/app",
        "curl",
    ] {
        let spec = ask(allow).unwrap().spec;
        assert_eq!(spec.allow, parse_list(allow).unwrap(), "{allow}");
    }
    for allow in [
        "/usr/",
        "/usr/binx",
        "/",
        "python*",
        "python3.12 perl",
        "*sh",
        "/opt/app/",
        "/opt/apps",
        // A file keeps its name where it is mounted over another.
        "/srv/curl",
        "id",
    ] {
        let error = ask(allow).unwrap_err();
        assert!(
            matches!(&error, MergeError::NotWithin { default, .. } if default == "n"),
            "{allow}: {error}"
        );
    }
    assert_eq!(
        ask("perl").unwrap_err().to_string(),
        "allow: perl (annotation) is not within the allow-list of node default n; expected an \
         item of that list, or one that lies within one: curl, python3*, *.sh, /opt/app, /usr/bin/"
    );
}

#[test]
fn no_item_of_a_pod_admits_what_the_drift_of_a_default_refuses() {
    let ask = |allow: &str, default: &Layer| {
        merge(pod(&layer("", allow, None, None)), &[floor("n", default)])
    };
    for drift in [Drift::Audit, Drift::Deny] {
        let default = layer("", "", None, Some(drift));
        assert!(ask("nginx python3*", &default).is_ok());
        for allow in ["/data/", "/usr/sbin/nginx", "/"] {
            let error = ask(allow, &default).unwrap_err();
            assert!(
                matches!(error, MergeError::Admits { .. }),
                "{allow}: {error}"
            );
        }
        let default = layer("", "/data/ nginx", None, Some(drift));
        assert!(ask("/data/x nginx", &default).is_ok());
    }
    let default = layer("", "", None, Some(Drift::Off));
    assert!(ask("/data/", &default).is_ok());
}

#[test]
fn several_defaults_all_hold() {
    let one = layer("curl", "/usr/ python3", AUDIT, None);
    let other = layer("wget", "/usr/bin/ /opt/ python*", None, Some(Drift::Audit));
    let floors = [floor("one", &one), floor("other", &other)];
    let spec = merge(Voice::default(), &floors).unwrap().spec;
    assert_eq!(texts(&spec.deny), ["curl", "wget"]);
    assert_eq!(texts(&spec.allow), ["python3", "/usr/bin/"]);
    assert_eq!((spec.mode, spec.drift), (Mode::Enforce, Drift::Audit));
    let third = layer("", "/srv/", None, None);
    let floors = [floors.as_slice(), &[floor("third", &third)]].concat();
    assert_eq!(
        merge(Voice::default(), &floors),
        Err(MergeError::NothingInCommon("third".into()))
    );
}

#[test]
fn lists_that_are_too_long_together_are_refused() {
    let many = |start: &str| {
        let names = (0..600).map(|n| format!("{start}{n}"));
        names.collect::<Vec<_>>().join(" ")
    };
    let error = merge(
        pod(&layer(&many("a"), "", None, None)),
        &[floor("n", &layer(&many("b"), "", None, None))],
    );
    let expected = MergeError::TooMany {
        list: "deny",
        count: 1_200,
    };
    assert_eq!(error, Err(expected));
}

/// A file as the kernel side sees it.
#[derive(Clone, Debug)]
struct File {
    /// Its own name, which is not the path's last one where it is mounted over
    /// another file.
    name: String,
    path: String,
    /// Whether it lies on another file system than the container's root.
    elsewhere: bool,
    /// Whether it lies on the upper layer.
    upper: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Runs,
    Reported,
    Refused,
}

fn matches(rule: &Rule, file: &File) -> bool {
    match rule {
        Rule::Name(text) => *text == file.name,
        Rule::Prefix(text) => file.name.starts_with(text.as_str()),
        Rule::Suffix(text) => file.name.ends_with(text.as_str()),
        Rule::Path(text) => *text == file.path,
        Rule::Directory(text) => file.path.starts_with(text.as_str()),
    }
}

/// What DESIGN says becomes of it.
fn outcome(spec: &Spec, file: &File) -> Outcome {
    let any = |rules: &BTreeSet<Rule>| rules.iter().any(|rule| matches(rule, file));
    let admitted = spec
        .allow
        .iter()
        .any(|rule| admits(rule) && matches(rule, file));
    let drifted = file.upper || (file.elsewhere && !admitted);
    let refused = any(&spec.deny)
        || (!spec.allow.is_empty() && !any(&spec.allow))
        || (drifted && spec.drift == Drift::Deny);
    match (refused, spec.mode) {
        (true, Mode::Enforce) => Outcome::Refused,
        (true, Mode::Audit) => Outcome::Reported,
        (false, _) if drifted && spec.drift == Drift::Audit => Outcome::Reported,
        (false, _) => Outcome::Runs,
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let name = "[ab]{1,2}";
    let directory = "(/[ab]){0,2}/".prop_map(Rule::Directory);
    prop_oneof![
        name.prop_map(Rule::Name),
        name.prop_map(Rule::Prefix),
        name.prop_map(Rule::Suffix),
        "(/[ab]){1,3}".prop_map(Rule::Path),
        directory,
    ]
}

fn some_layer() -> impl Strategy<Value = Layer> {
    let rules = || prop::collection::btree_set(rule(), 0..3);
    let mode = prop::option::of(prop::sample::select(&Mode::ALL[..]));
    let drift = prop::option::of(prop::sample::select(&Drift::ALL[..]));
    (rules(), rules(), mode, drift).prop_map(|(deny, allow, mode, drift)| Layer {
        deny,
        allow,
        mode,
        drift,
    })
}

fn file() -> impl Strategy<Value = File> {
    let name = prop::option::of("[ab]{1,2}");
    ("(/[ab]{1,2}){1,3}", name, any::<bool>(), any::<bool>()).prop_map(
        |(path, name, elsewhere, upper)| File {
            name: name.unwrap_or_else(|| path.rsplit('/').next().unwrap().to_owned()),
            path,
            elsewhere,
            upper: upper && !elsewhere,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the pod asks for, nothing fares better than under the default.
    #[test]
    fn never_looser_than_the_default(
        own in some_layer(),
        profile in some_layer(),
        default in some_layer(),
        other in some_layer(),
        files in prop::collection::vec(file(), 20),
    ) {
        let voice = Voice::of_pod(&own, &[("p".to_owned(), profile)]);
        let floors = [floor("n", &default), floor("o", &other)];
        if let Ok(merged) = merge(voice, &floors) {
            for floor in &floors {
                let alone = merge(Voice::default(), std::slice::from_ref(floor)).unwrap().spec;
                for file in &files {
                    prop_assert!(
                        outcome(&merged.spec, file) >= outcome(&alone, file),
                        "{file:?} fares better under {:?} than under {alone:?}",
                        merged.spec
                    );
                }
            }
        }
    }

    /// Nor than the pod itself asks for.
    #[test]
    fn never_looser_than_the_pod(
        own in some_layer(),
        default in some_layer(),
        files in prop::collection::vec(file(), 20),
    ) {
        let alone = merge(pod(&own), &[]).unwrap().spec;
        if let Ok(merged) = merge(pod(&own), &[floor("n", &default)]) {
            // The default's list holds where the pod has none: it admits files
            // that the default's author names.
            let admits_more = own.allow.is_empty() && !merged.spec.allow.is_empty();
            for file in files.iter().filter(|file| !(admits_more && file.elsewhere)) {
                prop_assert!(outcome(&merged.spec, file) >= outcome(&alone, file), "{file:?}");
            }
        }
    }

    /// What covers matches whatever the covered one does.
    #[test]
    fn covering_is_about_what_matches(wide in rule(), narrow in rule(), file in file()) {
        if covers(&wide, &narrow) && matches(&narrow, &file) {
            prop_assert!(matches(&wide, &file), "{wide} {narrow} {file:?}");
        }
    }

    /// Every rule has exactly one origin, and nothing else has one.
    #[test]
    fn origins_are_of_rules_that_hold(own in some_layer(), default in some_layer()) {
        if let Ok(merged) = merge(pod(&own), &[floor("n", &default)]) {
            let spec = merged.spec;
            for rule in &spec.deny {
                prop_assert_eq!(spec.origins.deny.contains_key(rule), !own.deny.contains(rule));
            }
            prop_assert!(spec.origins.deny.keys().all(|rule| spec.deny.contains(rule)));
            prop_assert!(spec.origins.allow.keys().all(|rule| spec.allow.contains(rule)));
        }
    }
}
