//! Cgroup paths as they are seen from a cgroup namespace: a pod that has the
//! machine's /sys/fs/cgroup mounted sees all of it, but /proc tells paths from
//! where its own namespace begins (`/../../NAME`).

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// How many levels a mount begins above the namespace: of its root in
/// /proc/self/mountinfo, `/..` for each. `None` where it begins elsewhere.
pub(super) fn levels_above(root: &str) -> Option<usize> {
    let parts = root.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| (part == "..").then_some(()))
        .collect::<Option<Vec<()>>>()
        .map(|parts| parts.len())
}

/// The path below `mount` at which the namespace begins: the directory so many
/// `levels` down below which, at `own`, this process is. Empty for the mount itself.
///
/// Closed: where none is found, all paths lead out of the mount, and are refused.
pub(super) fn begins_at(mount: &Path, levels: usize, own: &str) -> String {
    if levels == 0 {
        return String::new();
    }
    let pid = std::process::id().to_string();
    let own = own.trim_matches('/');
    let holds_us = |dir: &Path| {
        let procs = fs::read_to_string(dir.join(own).join("cgroup.procs"));
        procs.is_ok_and(|procs| procs.lines().any(|line| line == pid))
    };
    let found = find(mount, levels, &holds_us);
    let below = found.and_then(|dir| Some(dir.strip_prefix(mount).ok()?.to_owned()));
    match below {
        Some(below) => format!("/{}", below.display()),
        None => "/..".to_owned(),
    }
}

fn find(dir: &Path, levels: usize, fits: &impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let Some(levels) = levels.checked_sub(1) else {
        return fits(dir).then(|| dir.to_owned());
    };
    // One that goes meanwhile is not ours.
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(&entry.path(), levels, fits))
}

/// A path that is told from `begins`, told from the mount. One that leads further up
/// keeps its `..`.
pub(super) fn resolve(begins: &str, path: &str) -> String {
    let mut parts = Vec::new();
    for part in Path::new(begins)
        .components()
        .chain(Path::new(path).components())
    {
        match part {
            Component::ParentDir if matches!(parts.last(), None | Some(&"..")) => parts.push(".."),
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_str().unwrap_or_default()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_above_says_how_far() {
        for (root, levels) in [
            ("/", Some(0)),
            ("/..", Some(1)),
            ("/../../..", Some(3)),
            ("/kubepods", None),
            ("/../other", None),
        ] {
            assert_eq!(levels_above(root), levels, "{root}");
        }
    }

    #[test]
    fn the_namespace_begins_where_this_process_is() {
        let mount = tempfile::tempdir().unwrap();
        let dir = mount.path().join("pods/a/own/below");
        for dir in [
            &dir,
            &mount.path().join("pods/b/own"),
            &mount.path().join("x"),
        ] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("cgroup.procs"), "1\n").unwrap();
        }
        assert_eq!(begins_at(mount.path(), 3, "/below"), "/..");
        let pids = format!("1\n{}\n", std::process::id());
        fs::write(dir.join("cgroup.procs"), pids).unwrap();
        assert_eq!(begins_at(mount.path(), 3, "/below"), "/pods/a/own");
        assert_eq!(begins_at(mount.path(), 4, "/"), "/pods/a/own/below");
        assert_eq!(begins_at(mount.path(), 2, "/"), "/..");
        assert_eq!(begins_at(&dir, 0, "/"), "");
    }

    #[test]
    fn paths_are_told_from_the_mount() {
        for (begins, path, expected) in [
            ("", "/a/b", "/a/b"),
            ("", "/", "/"),
            ("/pods/a/own", "/", "/pods/a/own"),
            ("/pods/a/own", "/below", "/pods/a/own/below"),
            ("/pods/a/own", "/../../b/c", "/pods/b/c"),
            ("/pods/a/own", "/../../../x", "/x"),
            // Outside of what is mounted.
            ("/pods", "/../../x", "/../x"),
            ("", "/../x", "/../x"),
            ("/..", "/x", "/../x"),
        ] {
            assert_eq!(resolve(begins, path), expected, "{begins} {path}");
        }
    }
}
