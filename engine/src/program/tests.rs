//! Tests of look-ups in a root of our own.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// A root with some programs, and the view of it from `/home`.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let root = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["bin", "usr/bin", "lib", "home/sub"] {
            fs::create_dir_all(root.at(dir)).unwrap();
        }
        fs::copy(std::env::current_exe().unwrap(), root.at("usr/bin/elf")).unwrap();
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, content: &str, mode: u32) {
        fs::write(self.at(path), content).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.at(path)).unwrap();
    }

    fn view(&self, path: &str) -> View {
        let mounts = Process::myself().unwrap().mountinfo().unwrap().0;
        let path = Some(path.into());
        View::new(self.dir.path(), &self.at("home"), path, mounts, Vec::new()).unwrap()
    }

    /// Where a file lies as this process sees it.
    fn shown(&self, path: &str) -> String {
        let root = self.dir.path().canonicalize().unwrap();
        format!("{}{path}", root.display())
    }
}

fn program(view: &View, words: &str) -> Program {
    let mut words = words.split(' ').map(OsString::from);
    let word = words.next().unwrap();
    view.program(&word, &words.collect::<Vec<_>>())
}

/// What was asked for at each level, and the file behind it below the root.
fn levels(root: &Root, program: &Program) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| lossy(bytes).into_owned();
    let levels = program.levels.iter();
    levels
        .map(|level| {
            let path = text(&level.file.path);
            let below = path.strip_prefix(&root.shown("")).unwrap();
            (text(&level.requested), below.to_owned())
        })
        .collect()
}

fn arguments(program: &Program) -> Vec<String> {
    let words = program.arguments.iter();
    words.map(|word| lossy(word).into_owned()).collect()
}

fn pair(requested: &str, path: &str) -> (String, String) {
    (requested.to_owned(), path.to_owned())
}

#[test]
fn links_stay_in_the_root() {
    let root = Root::new();
    root.file("bin/tool", "#!/bin/sh\n", 0o755);
    root.link("bin/sh", "/usr/bin/elf");
    root.link("bin/out", "../../../../bin/tool");
    let view = root.view("/bin");
    let found = program(&view, "/bin/out x");
    assert_eq!(
        levels(&root, &found),
        [
            pair("/bin/out", "/bin/tool"),
            pair("/bin/sh", "/usr/bin/elf")
        ]
    );
    assert_eq!(arguments(&found), ["/bin/sh", "/bin/out", "x"]);
}

#[test]
fn a_bare_name_is_looked_up_as_execvp_does() {
    let root = Root::new();
    // Not executable: execvp goes on.
    root.file("bin/tool", "#!/usr/bin/elf\n", 0o644);
    root.file("home/tool", "#!/usr/bin/elf\n", 0o755);
    root.file("usr/bin/tool", "#!/usr/bin/elf\n", 0o755);
    root.file("bin/plain", "", 0o644);
    let requested = |path: &str, name: &str| {
        let found = program(&root.view(path), name);
        (lossy(&found.requested).into_owned(), found.fails)
    };
    assert_eq!(requested("/none:/bin:/usr/bin", "tool").0, "/usr/bin/tool");
    assert_eq!(requested("/bin::/usr/bin", "tool").0, "tool");
    assert_eq!(requested("sub:.", "tool").0, "./tool");
    let (name, fails) = requested("/bin:/usr/bin", "plain");
    assert_eq!(name, "/bin/plain");
    assert!(fails.unwrap().contains("EACCES"));
    let (name, fails) = requested("/bin:/usr/bin", "none");
    assert_eq!(name, "/bin/none");
    assert!(fails.unwrap().contains("PATH, /bin:/usr/bin"));
}

#[test]
fn relative_names_are_the_working_directorys_and_so_are_relative_interpreters() {
    let root = Root::new();
    root.file("home/sub/run", "#!./sub/inner -x  y \n", 0o755);
    root.file("home/sub/inner", "#!/usr/bin/elf\n", 0o755);
    let found = program(&root.view("/bin"), "sub/../sub/run a");
    assert_eq!(
        levels(&root, &found),
        [
            pair("sub/../sub/run", "/home/sub/run"),
            pair("./sub/inner", "/home/sub/inner"),
            pair("/usr/bin/elf", "/usr/bin/elf"),
        ]
    );
    assert_eq!(
        arguments(&found),
        [
            "/usr/bin/elf",
            "./sub/inner",
            "-x  y",
            "sub/../sub/run",
            "a"
        ]
    );
}

#[test]
fn what_the_kernel_does_not_run_says_why() {
    let root = Root::new();
    root.file("bin/text", "echo\n", 0o755);
    root.file("bin/empty", "", 0o755);
    root.file("bin/none", "#!\n", 0o755);
    root.file("bin/orphan", "#!/bin/missing\n", 0o755);
    root.file("bin/broken", "\u{7f}ELF", 0o755);
    root.link("bin/loop", "loop");
    let view = root.view("/bin");
    for (word, files, why) in [
        ("/bin/text", 1, "neither a script nor ELF"),
        ("/bin/empty", 1, "neither a script nor ELF"),
        ("/bin/none", 1, "without an interpreter"),
        ("/bin/orphan", 1, "/bin/missing: No such file"),
        ("/bin/broken", 1, "ENOEXEC"),
        ("/bin/loop", 0, "symbolic links"),
        ("/bin", 0, "no regular file"),
        ("/bin/text/x", 0, "Not a directory"),
        ("/none", 0, "/none: No such file"),
    ] {
        let found = program(&view, word);
        let fails = found.fails.unwrap();
        assert!(fails.contains(why), "{word}: {fails}");
        assert_eq!(found.levels.len(), files, "{word}");
    }
}

#[test]
fn five_scripts_are_followed_and_not_six() {
    let root = Root::new();
    root.file("bin/s6", "#!/usr/bin/elf\n", 0o755);
    for index in 1..6 {
        let script = format!("#!/bin/s{}\n", index + 1);
        root.file(&format!("bin/s{index}"), &script, 0o755);
    }
    let view = root.view("/bin");
    let found = program(&view, "/bin/s1");
    assert!(found.fails.unwrap().contains("ELOOP"));
    assert_eq!(found.levels.len(), 6);
    let found = program(&view, "/bin/s2");
    assert_eq!(found.levels.len(), 6);
    // Its loader is not in this root.
    let loader = found.fails.unwrap_or_default();
    assert!(!loader.contains("ELOOP"), "{loader}");
}

#[test]
fn a_loader_is_named_and_what_it_is_handed_too() {
    let root = Root::new();
    let name = {
        let elf = fs::File::open(root.at("usr/bin/elf")).unwrap();
        interpreter::<FileHeader64<Endianness>>(&ReadCache::new(elf)).unwrap()
    };
    let view = root.view("/bin");
    let Some(name) = name else {
        // Statically linked, as on musl: it has none.
        assert_eq!(program(&view, "/usr/bin/elf").loader, None);
        return;
    };
    let missing = program(&view, "/usr/bin/elf").fails.unwrap();
    assert!(missing.contains("No such file"), "{missing}");
    let loader = lossy(&name).into_owned();
    let place = root.at(loader.trim_start_matches('/'));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    // A loader has none of its own; a static stand-in is not at hand.
    fs::copy(&loader, &place).unwrap();
    let found = program(&view, "/usr/bin/elf");
    assert_eq!((found.loader.unwrap().requested, found.fails), (name, None));
    let found = program(&view, &format!("{loader} --argv0 x /usr/bin/elf"));
    assert_eq!((found.loader, found.fails), (None, None));
    assert_eq!(found.handed.unwrap().requested, b"/usr/bin/elf");
}

#[test]
fn a_file_without_a_link_has_none() {
    let root = Root::new();
    let view = root.view("/bin");
    let opened = view.open(b"/usr/bin/elf").unwrap();
    assert_ne!(view.describe(&opened).whence, Whence::Unlinked);
    fs::remove_file(root.at("usr/bin/elf")).unwrap();
    assert_eq!(view.describe(&opened).whence, Whence::Unlinked);
}
