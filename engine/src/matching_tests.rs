//! Tests of the evaluator: by table, and against the compiled entries.

use std::collections::BTreeMap;

use plugin_common::{
    DRIFT_DENY, GlobKey, KIND_ALLOW_DIR, KIND_ALLOW_NAME, KIND_ALLOW_PATH, KIND_ALLOW_PREFIX,
    KIND_ALLOW_SUFFIX, KIND_DIR, KIND_NAME, KIND_PATH, KIND_PREFIX, KIND_REQUESTED, KIND_SUFFIX,
    KINDS_ALLOW, MODE_AUDIT, NAME_MAX, RULE_DRIFT, RULE_UNLISTED,
};
use proptest::prelude::*;

use super::*;
use crate::policy::{Policy, always, rule_id};

/// A rule by its text: what stands at its ends says which kind.
fn rule(text: &str) -> Rule {
    let owned = |text: &str| text.to_owned();
    if let Some(text) = text.strip_suffix('*') {
        Rule::Prefix(owned(text))
    } else if let Some(text) = text.strip_prefix('*') {
        Rule::Suffix(owned(text))
    } else if text.ends_with('/') {
        Rule::Directory(owned(text))
    } else if text.starts_with('/') {
        Rule::Path(owned(text))
    } else {
        Rule::Name(owned(text))
    }
}

fn rules(deny: &[&str], allow: &[&str]) -> Rules {
    let list = |texts: &[&str]| always(&texts.iter().map(|text| rule(text)).collect());
    Rules {
        deny: list(deny),
        allow: list(allow),
    }
}

fn file(path: &str) -> File<'_> {
    File {
        name: last_component(path.as_bytes()),
        path: path.as_bytes(),
        whence: Whence::Image,
    }
}

/// The denying rule and its source for a program at one level.
fn level(rules: &Rules, requested: &str, resolved: &str) -> Option<(String, Source)> {
    let asked = Asked::Level {
        requested: requested.as_bytes(),
        file: file(resolved),
    };
    let denied = find(rules, &asked, 0).denied;
    denied.map(|found| (found.rule.to_string(), found.source))
}

#[test]
fn each_kind_of_rule_denies_by_its_own_facts() {
    use Source::{Requested, Resolved};
    for (rule, requested, resolved, expected) in [
        ("whoami", "/bin/whoami", "/bin/busybox", Some(Requested)),
        ("busybox", "/bin/whoami", "/bin/busybox", Some(Resolved)),
        ("whoami", "whoami", "/bin/x", Some(Requested)),
        ("whoami", "/bin/whoami2", "/bin/x", None),
        ("whoami", "/whoami/x", "/whoami/x", None),
        ("py*", "/bin/python3", "/bin/x", Some(Requested)),
        ("py*", "/bin/x", "/bin/py", Some(Resolved)),
        ("py*", "/py/x", "/py/x", None),
        ("*.sh", "/a.sh", "/bin/x", Some(Requested)),
        ("*.sh", "/a.sh.txt", "/bin/x", None),
        ("/bin/id", "/bin/id", "/bin/busybox", Some(Requested)),
        ("/bin/id", "../bin/id", "/bin/id", Some(Resolved)),
        ("/bin/id", "//bin/id", "/bin/busybox", None),
        ("/bin/id", "/bin/id", "/usr/bin/id", Some(Requested)),
        ("/opt/", "/x", "/opt/a/b", Some(Resolved)),
        ("/opt/", "/opt/x", "/usr/x", None),
        ("/opt/", "/x", "/optional/x", None),
        ("/", "x", "/x", Some(Resolved)),
    ] {
        let found = level(&rules(&[rule], &[]), requested, resolved);
        let found = found.map(|(text, source)| {
            assert_eq!(text, rule);
            source
        });
        assert_eq!(found, expected, "{rule}: {requested} is {resolved}");
    }
}

#[test]
fn each_hook_sees_what_is_its_own() {
    let rules = rules(&["whoami", "/bin/id"], &["busybox"]);
    let denied = |asked: &Asked<'_>| find(&rules, asked, 0).denied.map(|found| found.source);
    let busybox = file("/bin/busybox");
    let syscall = |requested: &'static [u8]| denied(&Asked::Syscall { requested });
    assert_eq!(syscall(b"/a/whoami"), Some(Source::Requested));
    assert_eq!(syscall(b"/bin/id"), Some(Source::Requested));
    assert_eq!(syscall(b"/a/id"), None);
    let mapped = |path| denied(&Asked::Mapped { file: file(path) });
    assert_eq!(mapped("/usr/bin/whoami"), Some(Source::Mapped));
    assert_eq!(mapped("/bin/id"), Some(Source::Mapped));
    let image = |arguments: &[&[u8]], loader| {
        denied(&Asked::Image {
            requested: &[b"/a/x", b"/bin/busybox"],
            file: busybox,
            arguments,
            loader,
        })
    };
    assert_eq!(image(&[b"busybox", b"whoami"], false), Some(Source::Applet));
    assert_eq!(
        image(&[b"busybox", b"/bin/id"], false),
        Some(Source::Applet)
    );
    assert_eq!(image(&[b"/x/whoami"], false), Some(Source::Applet));
    assert_eq!(image(&[b"busybox", b"id"], false), None);
    assert_eq!(image(&[b"/bin/id"], false), None);
    let loader = |loader| {
        denied(&Asked::Image {
            requested: &[b"/lib/ld.so"],
            file: file("/lib/ld.so"),
            arguments: &[b"ld.so", b"/bin/id"],
            loader,
        })
    };
    assert_eq!(loader(true), Some(Source::Loaded));
    assert_eq!(loader(false), None);
    // Libraries are not asked of the allow-list, a string alone neither.
    let unlisted = |asked: &Asked<'_>| find(&rules, asked, 0).unlisted;
    let libc = file("/lib/libc.so.6");
    assert!(!unlisted(&Asked::Mapped { file: libc }));
    assert!(!unlisted(&Asked::Syscall { requested: b"x" }));
    let level = |file| Asked::Level {
        requested: b"busybox",
        file,
    };
    assert!(unlisted(&level(libc)) && !unlisted(&level(busybox)));
}

#[test]
fn a_mount_is_admitted_by_path_or_directory_and_the_upper_layer_never() {
    let drifted = |allow: &[&str], whence| {
        let asked = Asked::Mapped {
            file: File {
                name: b"x",
                path: b"/data/tools/x",
                whence,
            },
        };
        find(&rules(&[], allow), &asked, 0).drifted
    };
    for (allow, admits) in [
        (&[][..], false),
        (&["x", "x*", "*x"], false),
        (&["/data/tools/x"], true),
        (&["/data/"], true),
        (&["/"], true),
        (&["/dat/"], false),
    ] {
        assert_eq!(drifted(allow, Whence::Elsewhere), !admits, "{allow:?}");
        assert!(drifted(allow, Whence::Upper), "{allow:?}");
        assert!(drifted(allow, Whence::Unlinked), "{allow:?}");
        assert!(drifted(allow, Whence::Unknown), "{allow:?}");
        assert!(!drifted(allow, Whence::Image), "{allow:?}");
    }
}

#[test]
fn the_verdict_names_the_users_rule_before_a_reserved_one() {
    let rules = rules(&["whoami"], &["sh"]);
    let verdict = |path, whence, mode, drift| {
        let asked = Asked::Level {
            requested: b"/x",
            file: File {
                name: last_component(path),
                path,
                whence,
            },
        };
        let container = Container {
            mode,
            drift,
            ..Container::default()
        };
        find(&rules, &asked, 0).verdict(&container)
    };
    let id = rule_id(&rule("whoami"));
    let (image, upper) = (Whence::Image, Whence::Upper);
    assert_eq!(verdict(b"/bin/sh", image, 0, DRIFT_DENY), Verdict::Allow);
    assert_eq!(
        verdict(b"/bin/whoami", upper, 0, DRIFT_DENY),
        Verdict::Deny(id)
    );
    assert_eq!(
        verdict(b"/bin/id", image, 0, 0),
        Verdict::Deny(RULE_UNLISTED)
    );
    assert_eq!(
        verdict(b"/bin/sh", upper, 0, DRIFT_DENY),
        Verdict::Deny(RULE_DRIFT)
    );
    assert_eq!(
        verdict(b"/bin/id", image, MODE_AUDIT, 0),
        Verdict::Audit(RULE_UNLISTED)
    );
}

#[test]
fn arguments_ask_multi_call_binaries_and_loaders_for_a_program() {
    use Source::{Applet, Loaded};
    for (name, arguments, expected) in [
        ("whoami", "whoami x", None),
        ("busybox", "/bin/cat whoami", None),
        ("busybox", "sh ./whoami", None),
        (
            "busybox.static",
            "busybox.static /a/id",
            Some(("/a/id", Applet)),
        ),
        ("renamed", "-/x/busybox id", Some(("id", Applet))),
        ("renamed", "/x/busybox id", Some(("id", Applet))),
        (
            "busybox",
            "busybox busybox /x/toybox id",
            Some(("id", Applet)),
        ),
        ("busybox", "busybox", None),
        ("busybox", "busybox --help id", Some(("--help", Applet))),
        ("coreutils", "x --coreutils-prog=id", Some(("id", Applet))),
        (
            "ld-linux-x86-64.so.2",
            "ld /bin/id x",
            Some(("/bin/id", Loaded)),
        ),
        (
            "ld-musl-x86_64.so.1",
            "ld --library-path /l id",
            Some(("id", Loaded)),
        ),
        ("ld.so", "ld --list -- id", Some(("id", Loaded))),
        ("ld.so", "ld --argv0 x ./id", Some(("./id", Loaded))),
        ("ld.so", "ld --list", None),
        ("ld", "ld a.o", None),
    ] {
        let arguments: Vec<&[u8]> = arguments.split(' ').map(str::as_bytes).collect();
        let expected = expected.map(|(text, source)| (text.as_bytes(), source));
        assert_eq!(program(name.as_bytes(), &arguments), expected, "{name}");
    }
    assert_eq!(program(b"busybox", &[]), None);
    assert_eq!(applet(b"-whoami"), b"whoami");
    assert_eq!(applet(b"/x/-whoami"), b"-whoami");
}

/// The entries of a policy, looked up as the kernel looks them up.
struct Maps {
    edges: BTreeMap<(u32, u32, Vec<u8>), RuleValue>,
    globs: Vec<(GlobKey, RuleValue)>,
    now: u64,
}

/// Kinds of one list.
struct Kinds {
    name: u32,
    prefix: u32,
    suffix: u32,
    path: u32,
    dir: u32,
}

const DENY: Kinds = Kinds {
    name: KIND_NAME,
    prefix: KIND_PREFIX,
    suffix: KIND_SUFFIX,
    path: KIND_PATH,
    dir: KIND_DIR,
};

const ALLOW: Kinds = Kinds {
    name: KIND_ALLOW_NAME,
    prefix: KIND_ALLOW_PREFIX,
    suffix: KIND_ALLOW_SUFFIX,
    path: KIND_ALLOW_PATH,
    dir: KIND_ALLOW_DIR,
};

impl Maps {
    fn new(policy: &Policy, now: u64) -> Self {
        let edges = policy.entries(1).map(|(key, value)| {
            let len = usize::try_from(key.len).unwrap();
            ((key.kind, key.node, key.name[..len].to_vec()), value)
        });
        Self {
            edges: edges.collect(),
            globs: policy.glob_entries(1).collect(),
            now,
        }
    }

    fn edge(&self, kind: u32, node: u32, name: &[u8]) -> RuleValue {
        let key = (kind, node, name.to_vec());
        self.edges.get(&key).copied().unwrap_or(RuleValue::NONE)
    }

    fn in_force(&self, value: &RuleValue) -> u32 {
        if value.holds(self.now) { value.rule } else { 0 }
    }

    /// The longest entry that the key begins with, as kernel/bpf/lpm_trie.c.
    fn glob(&self, kind: u32, text: &[u8]) -> u32 {
        let matching = self.globs.iter().filter(|(key, _)| {
            let len = usize::try_from((key.bits - GlobKey::BITS_BEFORE_NAME) / 8).unwrap();
            key.kind == kind && text.starts_with(&key.name[..len])
        });
        let longest = matching.max_by_key(|(key, _)| key.bits);
        longest.map_or(0, |(_, value)| self.in_force(value))
    }

    fn name(&self, kinds: &Kinds, name: &[u8]) -> u32 {
        let reverse: Vec<u8> = name.iter().rev().copied().collect();
        first([
            self.in_force(&self.edge(kinds.name, 0, name)),
            self.glob(kinds.prefix, name),
            self.glob(kinds.suffix, &reverse),
        ])
    }

    /// From the last component to the root.
    fn path(&self, kinds: &Kinds, path: &[u8]) -> u32 {
        let mut found = RuleValue::NONE;
        for (index, name) in path[1..].rsplit(|byte| *byte == b'/').enumerate() {
            if index != 0 && found.next == 0 {
                return 0;
            }
            found = self.edge(kinds.path, found.next, name);
        }
        self.in_force(&found)
    }

    /// From the root to the directory that the file is in.
    fn dir(&self, kinds: &Kinds, path: &[u8]) -> u32 {
        let root = self.in_force(&self.edge(kinds.dir, 0, b""));
        if root != 0 {
            return root;
        }
        let mut node = 0;
        let names: Vec<&[u8]> = path[1..].split(|byte| *byte == b'/').collect();
        for name in &names[..names.len() - 1] {
            let found = self.edge(kinds.dir, node, name);
            let rule = self.in_force(&found);
            if rule != 0 || found.next == 0 {
                return rule;
            }
            node = found.next;
        }
        0
    }

    /// The whole string, in pieces.
    fn requested(&self, text: &[u8]) -> u32 {
        let mut node = 0;
        let mut rest = text;
        loop {
            let (piece, behind) = rest.split_at(rest.len().min(NAME_MAX));
            let found = self.edge(KIND_REQUESTED, node, piece);
            if piece.len() < NAME_MAX {
                return self.in_force(&found);
            }
            if found.next == 0 {
                return 0;
            }
            (node, rest) = (found.next, behind);
        }
    }

    fn denied(&self, requested: &[u8], name: &[u8], resolved: &[u8]) -> u32 {
        first([
            self.name(&DENY, last_component(requested)),
            self.requested(requested),
            self.name(&DENY, name),
            self.path(&DENY, resolved),
            self.dir(&DENY, resolved),
        ])
    }

    fn listed(&self, name: &[u8], resolved: &[u8]) -> u32 {
        first([
            self.name(&ALLOW, name),
            self.path(&ALLOW, resolved),
            self.dir(&ALLOW, resolved),
        ])
    }

    fn admitted(&self, resolved: &[u8]) -> bool {
        self.path(&ALLOW, resolved) != 0 || self.dir(&ALLOW, resolved) != 0
    }
}

fn first<const N: usize>(rules: [u32; N]) -> u32 {
    rules.into_iter().find(|rule| *rule != 0).unwrap_or(0)
}

/// Few letters, so that rules and programs meet often; some paths that fill
/// pieces of the requested string.
fn a_path() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => "(/[ab]{1,3}){1,4}",
        1 => (0_usize..3, "[ab]").prop_map(|(over, end)| {
            format!("/{}/{}", "a".repeat(252), end.repeat(over + 1))
        }),
    ]
}

fn a_rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        "[ab]{1,3}".prop_map(Rule::Name),
        "[ab]{1,3}".prop_map(Rule::Prefix),
        "[ab]{1,3}".prop_map(Rule::Suffix),
        a_path().prop_map(Rule::Path),
        "(/[ab]{1,3}){0,3}/".prop_map(Rule::Directory),
    ]
}

fn a_list() -> impl Strategy<Value = List> {
    let window = (0_u64..4, prop_oneof![Just(0), 2_u64..9]);
    let held = (a_rule(), window).prop_map(|(rule, (from, until))| {
        let id = rule_id(&rule);
        let window = Window { from, until };
        (rule, Held { id, window })
    });
    prop::collection::vec(held, 0..12).prop_map(|list| list.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The evaluator and the compiled entries always say the same, by the same
    /// rule.
    #[test]
    fn rules_and_entries_agree(
        (deny, allow) in (a_list(), a_list()),
        requested in a_path(),
        relative in any::<bool>(),
        resolved in a_path(),
        name in "[ab]{1,3}",
        now in 0_u64..10,
    ) {
        let rules = Rules { deny, allow };
        let policy = Policy::compile(&rules);
        let maps = Maps::new(&policy, now);
        let (requested, resolved) = (requested.as_bytes(), resolved.as_bytes());
        let name = name.as_bytes();
        let requested = &requested[usize::from(relative)..];
        let file = File { name, path: resolved, whence: Whence::Elsewhere };
        let found = find(&rules, &Asked::Level { requested, file }, now);
        let id = |found: Option<Match<'_>>| found.map_or(0, |found| found.id);
        prop_assert_eq!(id(found.denied), maps.denied(requested, name, resolved));
        prop_assert_eq!(id(found.listed), maps.listed(name, resolved));
        let asks = policy.kinds & KINDS_ALLOW != 0;
        prop_assert_eq!(found.unlisted, asks && maps.listed(name, resolved) == 0);
        prop_assert_eq!(found.drifted, !maps.admitted(resolved));
        let mapped = find(&rules, &Asked::Mapped { file }, now);
        let expected = first([
            maps.name(&DENY, name),
            maps.path(&DENY, resolved),
            maps.dir(&DENY, resolved),
        ]);
        prop_assert_eq!(id(mapped.denied), expected);
        let syscall = find(&rules, &Asked::Syscall { requested }, now);
        let expected = first([
            maps.name(&DENY, last_component(requested)),
            maps.requested(requested),
        ]);
        prop_assert_eq!(id(syscall.denied), expected);
    }
}
