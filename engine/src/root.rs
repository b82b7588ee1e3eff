//! A container's root file system, for one question: which directory does a
//! path rule's directory stand for? `/bin/whoami` is `/usr/bin/whoami` where
//! `/bin` is a link, and the kernel side sees the latter.

use std::{
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use plugin_common::{PATH_COMPONENTS_MAX, PATH_MAX};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{
    annotation::Rule,
    policy::{List, Rules},
};

/// Rules as they hold in a container with this root: see
/// [`with_real_directories`]. An allow-list that is `bounded` (see
/// [`Spec`](crate::annotation::Spec)) stays as it is written, which fails closed:
/// whoever makes the image must not widen a default's list by a link in it.
#[must_use]
pub fn rules_in(rules: Rules, bounded: bool, root: &Path) -> Rules {
    Rules {
        deny: with_real_directories(&rules.deny, root),
        allow: if bounded {
            rules.allow
        } else {
            with_real_directories(&rules.allow, root)
        },
    }
}

/// The rules, and for each path whose directory is reached by a link, and each
/// directory that is, the same path without links. The program itself is not
/// followed: where it is a link to BusyBox, BusyBox is not meant.
///
/// A directory that doesn't exist gives nothing: the rule stands as it is
/// written. `root` is a directory such as `/proc/PID/root`.
#[must_use]
pub fn with_real_directories(rules: &List, root: &Path) -> List {
    let mut all = rules.clone();
    let paths = rules.iter().filter_map(|(rule, held)| match rule {
        Rule::Path(path) | Rule::Directory(path) => Some((rule, path, *held)),
        Rule::Name(_) | Rule::Prefix(_) | Rule::Suffix(_) => None,
    });
    let mut paths = paths.peekable();
    if paths.peek().is_none() {
        return all;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(root, flags, Mode::empty()) else {
        return all;
    };
    for (rule, path, held) in paths {
        if let Some(real) = real_path(&root, path) {
            let real = match rule {
                Rule::Directory(_) => Rule::Directory(real),
                _ => Rule::Path(real),
            };
            all.entry(real)
                .and_modify(|there| there.window = there.window.or(held.window))
                .or_insert(held);
        }
    }
    all
}

fn real_path(root: &OwnedFd, path: &str) -> Option<String> {
    let (directory, name) = path.rsplit_once('/')?;
    if directory.is_empty() {
        return None;
    }
    let directory = rustix::fs::openat2(
        root,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
    let shown = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
    // Both as this process sees them: below the same root the rest is what the
    // container sees.
    let real = shown(&directory)?;
    let below = real.strip_prefix(shown(root)?).ok()?;
    let below = std::str::from_utf8(below.as_os_str().as_bytes()).ok()?;
    let real = if below.is_empty() {
        format!("/{name}")
    } else {
        format!("/{below}/{name}")
    };
    let fits = real.len() <= PATH_MAX && real.split('/').skip(1).count() <= PATH_COMPONENTS_MAX;
    (fits && real != path).then_some(real)
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
        let all = with_real_directories(&rules, root);
        let added: Vec<String> = all
            .keys()
            .filter(|rule| !rules.contains_key(*rule))
            .map(ToString::to_string)
            .collect();
        assert_eq!(added, ["/id", "/usr/bin/whoami", "/usr/bin/"]);
        // No link widens an allow-list that a default bounds.
        let both = Rules {
            deny: rules.clone(),
            allow: rules.clone(),
        };
        let bounded = rules_in(both.clone(), true, root);
        assert_eq!((&bounded.deny, &bounded.allow), (&all, &rules));
        let free = rules_in(both, false, root);
        assert_eq!((&free.deny, &free.allow), (&all, &all));
        // Counted under what the user wrote.
        let id = rule_id(&Rule::Path("/bin/whoami".into()));
        assert_eq!(all[&Rule::Path("/usr/bin/whoami".into())].id, id);
        // /bin/ls is the same file, and always denied.
        assert_eq!(all[&written].window, Window::ALWAYS);
    }
}
