//! Tests of the module `annotation`.

use super::*;

const KEY: &str = "example.org/level";
const SCOPED: &str = "example.org/level.container.web";

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn from_strongest_to_weakest() {
    let mut pod = map(&[(KEY, "4"), (SCOPED, "3")]);
    let mut container = map(&[(KEY, "2"), (SCOPED, "1")]);
    let mut expect = |value, source, scoped, written, of_container: bool| {
        {
            let found = Annotations::new(&pod, &container, "web")
                .effective(KEY)
                .unwrap();
            assert_eq!(
                found,
                Annotation {
                    key: KEY,
                    written,
                    value,
                    source,
                    scoped
                }
            );
        }
        let map = if of_container {
            &mut container
        } else {
            &mut pod
        };
        map.remove(written).unwrap();
    };
    expect("1", Source::Container, true, SCOPED, true);
    expect("2", Source::Container, false, KEY, true);
    expect("3", Source::Pod, true, SCOPED, false);
    expect("4", Source::Pod, false, KEY, false);
    assert_eq!(
        Annotations::new(&pod, &container, "web").effective(KEY),
        None
    );
}

#[test]
fn other_containers_and_other_keys_do_not_count() {
    let pod = map(&[
        ("example.org/level.container.db", "db"),
        ("example.org/level.container.web2", "web2"),
        ("example.org/levels", "other"),
    ]);
    let container = map(&[]);
    assert_eq!(
        Annotations::new(&pod, &container, "web").effective(KEY),
        None
    );
    assert_eq!(Annotations::new(&pod, &container, "").effective(KEY), None);
}

#[test]
fn all_with_a_prefix() {
    let pod = map(&[
        ("example.org/b", "1"),
        ("example.org/b.container.web", "2"),
        ("example.org/b.container.db", "3"),
        ("example.org/a.container.web", "4"),
        ("example.orgs/a", "5"),
    ]);
    let container = map(&[("example.org/b", "6"), ("other", "7")]);
    let web = Annotations::new(&pod, &container, "web");
    let values = |found: Vec<Annotation<'_>>| -> Vec<_> {
        found
            .iter()
            .map(|a| format!("{}={}", a.key, a.value))
            .collect()
    };
    assert_eq!(
        values(web.with_prefix("example.org/")),
        [
            "example.org/a=4",
            "example.org/b=6",
            "example.org/b=2",
            "example.org/b=1"
        ]
    );
    assert_eq!(
        values(web.effective_with_prefix("example.org/")),
        ["example.org/a=4", "example.org/b=6"]
    );
}

#[test]
fn scopes() {
    assert_eq!(split("a/b"), ("a/b", None));
    assert_eq!(split("a/b.container.c"), ("a/b", Some("c")));
    assert_eq!(
        split("a/b.container.c.container.d"),
        ("a/b.container.c", Some("d"))
    );
    assert_eq!(split("a/b.container."), ("a/b.container.", None));
    assert_eq!(split("a/b.container"), ("a/b.container", None));
}

#[test]
fn a_missing_name_is_taken_from_the_label() {
    let pod = PodSandbox {
        annotations: map(&[(SCOPED, "1")]),
        ..PodSandbox::default()
    };
    let mut container = Container {
        labels: map(&[(NAME_LABEL, "web")]),
        ..Container::default()
    };
    assert_eq!(
        Annotations::of(&pod, &container)
            .effective(KEY)
            .unwrap()
            .value,
        "1"
    );
    container.name = "db".to_owned();
    assert_eq!(Annotations::of(&pod, &container).effective(KEY), None);
}
