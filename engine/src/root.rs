//! A container's root file system, for one question: which directory does a
//! path rule's directory stand for? `/bin/whoami` is `/usr/bin/whoami` where
//! `/bin` is a link, and the kernel side sees the latter.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use plugin_common::{PATH_COMPONENTS_MAX, PATH_MAX};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    annotation::Rule,
    policy::{List, Rules},
};

/// What the directories of path rules stand for: by each rule as it is written the
/// same path without links, which is often the same.
pub type Links = BTreeMap<String, String>;

/// Finds what the directories of `rules` stand for below `root`, a directory such as
/// `/proc/PID/root`. What is `known` stays: a container's processes may have made
/// other links by now.
///
/// The program itself is not followed: where it is a link to BusyBox, BusyBox is not
/// meant. A directory that doesn't exist stands for itself.
///
/// # Errors
///
/// Where something is there and can't be looked at: the rule would hold for less than
/// it says.
pub fn links(rules: &Rules, known: &Links, root: &Path) -> io::Result<Links> {
    let mut links = Links::new();
    let mut opened = None;
    for rule in rules.deny.keys().chain(rules.allow.keys()) {
        let (Rule::Path(path) | Rule::Directory(path)) = rule else {
            continue;
        };
        let real = if let Some(known) = known.get(path) {
            Some(known.clone())
        } else {
            let root = match &opened {
                Some(root) => root,
                None => opened.insert(open_root(root)?),
            };
            match root {
                Some(root) => real_path(root, path)?,
                None => None,
            }
        };
        links.insert(path.clone(), real.unwrap_or_else(|| path.clone()));
    }
    Ok(links)
}

/// `None` where nothing is there any more.
fn open_root(root: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    there(rustix::fs::open(root, flags, Mode::empty()))
}

fn there(found: Result<OwnedFd, Errno>) -> io::Result<Option<OwnedFd>> {
    match found {
        Ok(fd) => Ok(Some(fd)),
        // A link that leads nowhere, or to itself, leads to no program either.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Rules as they hold in a container: each path with what it stands for. An
/// allow-list that is `bounded` (see [`Spec`](crate::annotation::Spec)) stays as it
/// is written, which fails closed: whoever makes the image must not widen a
/// default's list by a link in it.
#[must_use]
pub fn rules_in(rules: Rules, bounded: bool, links: &Links) -> Rules {
    Rules {
        deny: with_real_directories(&rules.deny, links),
        allow: if bounded {
            rules.allow
        } else {
            with_real_directories(&rules.allow, links)
        },
    }
}

fn with_real_directories(rules: &List, links: &Links) -> List {
    let mut all = rules.clone();
    for (rule, held) in rules {
        let real = match rule {
            Rule::Path(path) => links.get(path).cloned().map(Rule::Path),
            Rule::Directory(path) => links.get(path).cloned().map(Rule::Directory),
            Rule::Name(_) | Rule::Prefix(_) | Rule::Suffix(_) => None,
        };
        if let Some(real) = real.filter(|real| real != rule) {
            all.entry(real)
                .and_modify(|there| there.window = there.window.or(held.window))
                .or_insert(*held);
        }
    }
    all
}

fn real_path(root: &OwnedFd, path: &str) -> io::Result<Option<String>> {
    let Some((directory, name)) = path.rsplit_once('/') else {
        return Ok(None);
    };
    if directory.is_empty() {
        return Ok(None);
    }
    let directory = there(rustix::fs::openat2(
        root,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ))?;
    let Some(directory) = directory else {
        return Ok(None);
    };
    let shown = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let (real, root) = (shown(&directory)?, shown(root)?);
    Ok(below(&real, &root, name).filter(|real| real != path))
}

/// A program's path as the container sees it; both directories are given as this
/// process does. `None` where no rule can name it.
fn below(directory: &Path, root: &Path, name: &str) -> Option<String> {
    let below = directory.strip_prefix(root).ok()?;
    let below = std::str::from_utf8(below.as_os_str().as_bytes()).ok()?;
    let real = if below.is_empty() {
        format!("/{name}")
    } else {
        format!("/{below}/{name}")
    };
    let fits = real.len() <= PATH_MAX && real.split('/').skip(1).count() <= PATH_COMPONENTS_MAX;
    fits.then_some(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{
        annotation::parse_list,
        policy::{Window, always, rule_id},
    };

    #[test]
    fn a_linked_directory_is_followed_within_the_root_and_the_program_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        symlink("/usr/bin", root.join("bin")).unwrap();
        symlink("busybox", root.join("usr/bin/whoami")).unwrap();
        symlink("/../../..", root.join("up")).unwrap();
        let list = "whoami /bin/whoami /up/id /none/x /usr/bin/ls /bin/ls";
        let mut rules = parse_list(list).unwrap();
        rules.extend(["/bin/", "/up/", "/", "/none/"].map(|path| Rule::Directory(path.into())));
        let mut rules = always(&rules);
        let written = Rule::Path("/usr/bin/ls".into());
        let window = Window { from: 5, until: 0 };
        rules.get_mut(&written).unwrap().window = window;
        let both = Rules {
            deny: rules.clone(),
            allow: rules.clone(),
        };
        let found = links(&both, &Links::new(), root).unwrap();
        let all = with_real_directories(&rules, &found);
        let added: Vec<String> = all
            .keys()
            .filter(|rule| !rules.contains_key(*rule))
            .map(ToString::to_string)
            .collect();
        assert_eq!(added, ["/id", "/usr/bin/whoami", "/usr/bin/"]);
        // No link widens an allow-list that a default bounds.
        let bounded = rules_in(both.clone(), true, &found);
        assert_eq!((&bounded.deny, &bounded.allow), (&all, &rules));
        let free = rules_in(both.clone(), false, &found);
        assert_eq!((&free.deny, &free.allow), (&all, &all));
        // A link that is made later changes nothing, and none that is gone does.
        fs::remove_file(root.join("bin")).unwrap();
        symlink("/opt", root.join("none")).unwrap();
        fs::create_dir(root.join("opt")).unwrap();
        assert_eq!(links(&both, &found, root).unwrap(), found);
        assert_ne!(links(&both, &Links::new(), root).unwrap(), found);
        // What is gone has no links, and what can't be looked at is an error.
        let gone = links(&both, &Links::new(), &root.join("gone")).unwrap();
        assert!(gone.iter().all(|(path, real)| path == real));
        let refused = links(&both, &Links::new(), Path::new("/proc/self/fd/nul\0"));
        assert!(refused.is_err());
        // Counted under what the user wrote.
        let id = rule_id(&Rule::Path("/bin/whoami".into()));
        assert_eq!(all[&Rule::Path("/usr/bin/whoami".into())].id, id);
        // /bin/ls is the same file, and always denied.
        assert_eq!(all[&written].window, Window::ALWAYS);
    }
}
