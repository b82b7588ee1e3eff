//! Which directory on the way to a container's process is the container's own.
//! Pure.

/// Ids this long are made by engines and met nowhere else by chance.
const LONG_ID: usize = 32;

/// The part of `path` (that of the container's first process in the v2
/// hierarchy) down to the container's own cgroup; what lies below it is its
/// processes' doing.
///
/// `cgroups_path` is `linux.cgroupsPath` of the OCI configuration. It decides
/// where `path` leads through it. It does not on a machine in a machine, or where
/// engine and runtime disagree on who manages cgroups; then a component that
/// carries the id does: `ID`, `PREFIX-ID.scope`, `PREFIX-ID`,
/// `SLICE:PREFIX:ID`. Of several the outermost, since a process can make more of
/// them below, but not above. A short id can be another thing's name
/// (`/default/default`), so of these the innermost.
pub(super) fn directory<'a>(
    path: &'a str,
    container: &str,
    cgroups_path: Option<&str>,
) -> Option<&'a str> {
    let asked = cgroups_path
        .and_then(expand)
        .and_then(|asked| leads_through(path, &asked));
    asked.or_else(|| carrying(path, container))
}

fn leads_through<'a>(path: &'a str, asked: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(asked)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| &path[..asked.len()])
}

/// The absolute path that `linux.cgroupsPath` means; `None` where that depends
/// on the runtime (a relative one), or where it is the root.
///
/// Source: libcontainer/cgroups/systemd `ExpandSlice` and `getUnitName`.
fn expand(cgroups_path: &str) -> Option<String> {
    if let Some(path) = cgroups_path.strip_prefix('/') {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let plain = !parts.is_empty() && parts.iter().all(|part| !matches!(*part, "." | ".."));
        return plain.then(|| format!("/{}", parts.join("/")));
    }
    let [slice, prefix, name] = cgroups_path.split(':').collect::<Vec<_>>()[..] else {
        return None;
    };
    if name.is_empty() {
        return None;
    }
    let unit = match (name.strip_suffix(".slice"), prefix) {
        (Some(_), _) => name.to_owned(),
        (None, "") => format!("{name}.scope"),
        (None, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(format!("{}/{unit}", expand_slice(slice)?))
}

/// `a-b.slice` is `/a.slice/a-b.slice`.
fn expand_slice(slice: &str) -> Option<String> {
    let name = match slice {
        "" => "system",
        "-.slice" => return Some(String::new()),
        slice => slice.strip_suffix(".slice")?,
    };
    if name.split('-').any(str::is_empty) || name.contains('/') {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at);
    let slices = ends.chain([name.len()]);
    Some(slices.fold(String::new(), |path, end| {
        format!("{path}/{}.slice", &name[..end])
    }))
}

fn carrying<'a>(path: &'a str, container: &str) -> Option<&'a str> {
    if container.is_empty() {
        return None;
    }
    let mut found = None;
    let mut end = 0;
    for component in path.split('/') {
        end += component.len();
        if carries(component, container) {
            found = Some(&path[..end]);
            if container.len() >= LONG_ID {
                break;
            }
        }
        end += 1;
    }
    found
}

fn carries(component: &str, container: &str) -> bool {
    let component = component.strip_suffix(".scope").unwrap_or(component);
    component
        .strip_suffix(container)
        .is_some_and(|before| before.is_empty() || before.ends_with(['-', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_directory_with_the_id_is_the_containers() {
        for (path, own) in [
            (
                "/kubepods/burstable/podU/ID",
                Some("/kubepods/burstable/podU/ID"),
            ),
            (
                "/k.slice/cri-containerd-ID.scope",
                Some("/k.slice/cri-containerd-ID.scope"),
            ),
            (
                "/m.slice/libpod-ID.scope/container",
                Some("/m.slice/libpod-ID.scope"),
            ),
            ("/libpod_parent/libpod-ID", Some("/libpod_parent/libpod-ID")),
            (
                "/x.service/libpod-payload-ID",
                Some("/x.service/libpod-payload-ID"),
            ),
            (
                "/kubepods-podU.slice:cri-containerd:ID",
                Some("/kubepods-podU.slice:cri-containerd:ID"),
            ),
            ("/default/ID/init.scope/deep", Some("/default/ID")),
            // Its own processes made the inner one.
            ("/docker/ID/ID/x", Some("/docker/ID")),
            ("/docker/IDx", None),
            ("/docker/xID", None),
            ("/system.slice/containerd.service", None),
            ("/", None),
        ] {
            let (path, own) = (path.replace("ID", ID), own.map(|own| own.replace("ID", ID)));
            assert_eq!(directory(&path, ID, None), own.as_deref(), "{path}");
        }
        assert_eq!(directory("/a", "", None), None);
    }

    #[test]
    fn a_short_id_is_the_innermost_and_a_whole_word() {
        assert_eq!(
            directory("/default/default", "default", None),
            Some("/default/default")
        );
        // Not crun's sub-cgroup.
        assert_eq!(
            directory("/s/x-con.scope/container", "con", None),
            Some("/s/x-con.scope")
        );
        assert_eq!(directory("/docker/xyza/b", "a", None), None);
    }

    #[test]
    fn the_configuration_decides_where_the_path_leads_through_it() {
        for (path, asked, own) in [
            ("/my/group", "/my/group", Some("/my/group")),
            ("/my/group/x", "/my//group/", Some("/my/group")),
            ("/my/groups", "/my/group", None),
            (
                "/default/default/default",
                "/default/default",
                Some("/default/default"),
            ),
            (
                "/a.slice/a-b.slice/p-n.scope/container",
                "a-b.slice:p:n",
                Some("/a.slice/a-b.slice/p-n.scope"),
            ),
            (
                "/system.slice/n.scope",
                "::n",
                Some("/system.slice/n.scope"),
            ),
            (
                "/x.slice/y.slice",
                "x.slice:p:y.slice",
                Some("/x.slice/y.slice"),
            ),
            ("/p-n.scope", "-.slice:p:n", Some("/p-n.scope")),
            ("/anything", "/", None),
            ("/anything", "", None),
            ("/anything", "relative", None),
            ("/anything", "/../anything", None),
            ("/a/b", "a--b.slice:p:n", None),
        ] {
            assert_eq!(directory(path, "unmet", Some(asked)), own, "{path} {asked}");
        }
        // Elsewhere than asked for (a machine in a machine): the id decides.
        let path = format!("/docker/outer/docker/{ID}");
        assert_eq!(
            directory(&path, ID, Some(&format!("/docker/{ID}"))),
            Some(&*path)
        );
    }
}
