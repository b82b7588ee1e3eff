//! Tests on this machine's own cgroups.

use std::process::Command;

use super::*;

#[test]
fn within_means_whole_components() {
    assert!(is_within("/a/b", "/a"));
    assert!(is_within("/a", "/a"));
    assert!(!is_within("/ab", "/a"));
}

#[test]
fn the_engines_own_cgroup_is_never_a_containers() {
    // This process stands for a container's on a hybrid machine: its v2
    // path is not the container's.
    let Ok(hierarchy) = Hierarchy::find() else {
        return;
    };
    let pid = i32::try_from(std::process::id()).unwrap();
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert!(matches!(
        hierarchy.of_container(pid.into(), id),
        Err(CgroupError::NotOwn { .. })
    ));
    // Not even where its configuration says so.
    let init = Init {
        pid,
        cgroups_path: Some(hierarchy.own_path()),
        root: None,
    };
    assert!(hierarchy.of_container(init, id).is_err());
    assert!(matches!(
        hierarchy.cgroup("/"),
        Err(CgroupError::Forbidden(_))
    ));
    assert!(matches!(
        hierarchy.cgroup(hierarchy.own_path()),
        Err(CgroupError::Forbidden(_))
    ));
    assert!(matches!(
        hierarchy.cgroup("/../x"),
        Err(CgroupError::Outside(_))
    ));
}

#[test]
fn a_pid_that_is_gone_is_said_to_be() {
    let Ok(hierarchy) = Hierarchy::find() else {
        return;
    };
    let mut child = Command::new("true").spawn().unwrap();
    let gone = i32::try_from(child.id()).unwrap();
    child.wait().unwrap();
    for pid in [gone, -1, 0] {
        assert!(matches!(
            hierarchy.of_container(pid.into(), "x"),
            Err(CgroupError::Gone(_))
        ));
    }
}
