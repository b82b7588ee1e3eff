//! What is exactly at a limit is compared whole, and what is one byte off is not.

use std::{fs, path::Path};

use libtest_mimic::Failed;

use super::{Place, Running, execblock, prints, run, text};

const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;
/// Of a name with a `*`.
const GLOB_MAX: usize = 248;
/// Rules of one list.
const RULES_MAX: usize = 1_000;

/// A program that prints `0`, by this path; with the folders above it.
fn program(path: &str) -> Result<(), Failed> {
    if let Some(above) = Path::new(path).parent() {
        fs::create_dir_all(above)?;
    }
    fs::copy("/usr/bin/id", path)?;
    Ok(())
}

/// A path of this length below `dir`, in folders with long names.
fn long_path(dir: &str, len: usize) -> String {
    let mut path = dir.to_owned();
    while path.len() + 1 < len {
        let left = len - path.len() - 1;
        // A last component of its own, and none that is empty.
        let part = if left <= 250 { left } else { left.min(252) - 2 };
        path.push('/');
        path.push_str(&"p".repeat(part));
    }
    path
}

/// A thousand rules, a quarter of each kind, of which the last is at its limit.
pub(super) fn a_thousand_rules_hold() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().to_str().ok_or("a temporary folder")?;
    let name = "n".repeat(NAME_MAX);
    let glob = "g".repeat(GLOB_MAX);
    let path = long_path(dir, PATH_MAX);
    let below = format!("{dir}/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d");
    let mut rules = Vec::new();
    for index in 0..RULES_MAX / 4 - 1 {
        rules.extend([
            format!("name-{index}"),
            format!("glob-{index}-*"),
            format!("{dir}/path/{index}"),
            format!("{dir}/folder/{index}/"),
        ]);
    }
    let refused = [
        "name-123".to_owned(),
        name.clone(),
        "glob-77-x".to_owned(),
        format!("{glob}x"),
        "path/42".to_owned(),
        "folder/99/a/b".to_owned(),
    ]
    .map(|file| format!("{dir}/{file}"));
    let twins = [
        "name-1234".to_owned(),
        name[1..].to_owned(),
        "glob-77".to_owned(),
        glob[1..].to_owned(),
        "path/420".to_owned(),
        "folder/999".to_owned(),
        "d/d/twin".to_owned(),
    ]
    .map(|file| format!("{dir}/{file}"));
    rules.extend([name, format!("{glob}*"), path.clone(), format!("{below}/")]);
    let mut refused: Vec<String> = refused.into();
    refused.extend([path.clone(), format!("{below}/program")]);
    let mut twins: Vec<String> = twins.into();
    twins.push(path[..PATH_MAX - 1].to_owned());
    for file in refused.iter().chain(&twins) {
        program(file)?;
    }
    assert_eq!(rules.len(), RULES_MAX);
    let list = rules.join(",");
    for (files, expected) in [
        (&refused, String::new()),
        (&twins, "0\n".repeat(twins.len())),
    ] {
        let script = files.join(" -u;") + " -u";
        prints(&list, &script, &expected)?;
    }
    Ok(())
}

/// Around the length up to which names have short keys: names, components of paths and folders, each
/// with a twin that differs in its last byte.
pub(super) fn names_of_any_length_compare_whole() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().to_str().ok_or("a temporary folder")?;
    let (mut rules, mut refused, mut twins) = (Vec::new(), Vec::new(), Vec::new());
    for len in [31, 32, 33, 34, 39, 40, 41, 100] {
        let begin = "n".repeat(len - 1);
        let (name, twin) = (format!("{begin}a"), format!("{begin}b"));
        rules.extend([
            name.clone(),
            format!("{dir}/paths/{name}/file"),
            format!("{dir}/folders/{name}/"),
        ]);
        for (files, name) in [(&mut refused, &name), (&mut twins, &twin)] {
            files.extend([
                format!("{dir}/names/{name}"),
                format!("{dir}/paths/{name}/file"),
                format!("{dir}/folders/{name}/file"),
            ]);
        }
    }
    for file in refused.iter().chain(&twins) {
        program(file)?;
    }
    let list = rules.join(",");
    prints(&list, &(refused.join(" -u;") + " -u"), "")?;
    let printed = "0\n".repeat(twins.len());
    prints(&list, &(twins.join(" -u;") + " -u"), &printed)
}

/// Rules with short and long names go over to the programs of the next `load`.
pub(super) fn names_of_any_length_are_taken_over() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    execblock().arg("load").output()?;
    let result = (|| {
        let folder = tempfile::tempdir()?;
        let dir = folder.path().to_str().ok_or("a temporary folder")?;
        let [short, long, other] = ["s", "l", "o"].map(|letter| letter.repeat(33));
        let running = Running::new("lengths")?;
        running.order("deny", &[&short[1..], &long])?;
        let replaced = execblock().args(["load", "--replace"]).output()?;
        ensure!(replaced.status.success(), "{}", text(&replaced.stderr));
        for (name, runs) in [(&short[1..], false), (&long, false), (&other, true)] {
            let file = format!("{dir}/{name}");
            program(&file)?;
            ensure!(running.runs(&file)? == runs, "{name}: expected {runs}");
        }
        Ok(())
    })();
    execblock().arg("unload").output()?;
    result
}

/// An argument without a letter can be read as well as any.
pub(super) fn an_empty_argument_is_no_reason() -> Result<(), Failed> {
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loader.iter().find(|path| Path::new(path).exists());
    let loader = loader.ok_or("no dynamic loader")?;
    for (script, expected) in [
        ("exec -a '' id -u", "0\n"),
        ("exec -a '' whoami", ""),
        (&format!("{loader} --argv0 '' /usr/bin/id -u"), "0\n"),
        (&format!("{loader} --argv0 '' /usr/bin/whoami"), ""),
    ] {
        let output = run("whoami", &["bash", "-c", script]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(
            out == expected,
            "{script}: printed {out:?}, expected {expected:?}; stderr {err:?}"
        );
    }
    Ok(())
}

/// A file far below a folder that a rule is for, deeper than anybody looks.
pub(super) fn no_depth_escapes_a_directory() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().to_str().ok_or("a temporary folder")?;
    let deep = format!("{dir}/denied{}/program", "/d".repeat(100));
    let shallow = format!("{dir}/other{}/program", "/d".repeat(20));
    program(&deep)?;
    program(&shallow)?;
    let list = format!("{dir}/denied/");
    prints(&list, &format!("{deep} -u; {shallow} -u"), "0\n")
}

/// A cgroup so deep that it is the last that can be bound, one half as deep, and one that is too
/// deep: that one is refused, and left without rules.
pub(super) fn no_level_is_too_deep_unsaid() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    execblock().arg("load").output()?;
    let result = levels();
    execblock().arg("unload").output()?;
    result
}

fn levels() -> Result<(), Failed> {
    const LEVEL_MAX: usize = 63;
    for levels in [32, LEVEL_MAX] {
        let deep = Deep::new(levels)?;
        let place = deep.place();
        place.order("deny", &["whoami"])?;
        ensure!(!place.runs("whoami")?, "whoami ran {levels} levels deep");
        ensure!(place.runs("id")?, "id was refused {levels} levels deep");
    }
    let deep = Deep::new(LEVEL_MAX + 1)?;
    let place = deep.place();
    let mut deny = execblock();
    let output = deny.args(["deny", &place.query(), "whoami"]).output()?;
    let err = text(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && err.contains("64 levels deep, expected at most 63"),
        "{:?}: {err}",
        output.status
    );
    ensure!(place.runs("whoami")?, "it has rules all the same");
    Ok(())
}

/// A cgroup with a process in it, and those on the way there.
struct Deep {
    running: Option<Running>,
    levels: usize,
}

impl Deep {
    /// The first of them is just below the root.
    fn new(levels: usize) -> Result<Self, Failed> {
        let running = Running::new(&format!("deep{}", "/d".repeat(levels - 1)))?;
        Ok(Self {
            running: Some(running),
            levels,
        })
    }

    fn place(&self) -> &Place {
        self.running.as_ref().expect("until it is dropped")
    }
}

impl Drop for Deep {
    fn drop(&mut self) {
        let mut dir = self.place().dir.clone();
        // Ends its process and removes the last of them.
        drop(self.running.take());
        for _ in 1..self.levels {
            dir.pop();
            fs::remove_dir(&dir).ok();
        }
    }
}

/// The end of a name is compared eight bytes at a time, and what is left over.
pub(super) fn names_of_any_length_compare_from_their_end() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let place = Running::new("ends")?;
    // No byte is the one beside it or eight away.
    let text: String = ('a'..='w').cycle().take(NAME_MAX).collect();
    for len in [
        1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 247, 248, 249, NAME_MAX,
    ] {
        let name = &text[..len];
        // All of it, or as much as a pattern can have; and some bytes fewer.
        for end in [len.min(GLOB_MAX), len.min(GLOB_MAX) / 2 + 1] {
            let begin = len - end;
            place.order("deny", &[&format!("*{}", &name[begin..])])?;
            let runs = |name: &str| {
                let file = folder.path().join(name);
                fs::copy("/usr/bin/true", &file)?;
                let runs = place.runs(&file.to_string_lossy());
                fs::remove_file(&file)?;
                runs
            };
            ensure!(!runs(name)?, "{name} of {len} bytes, {end} of them denied");
            for other in [begin, begin + end / 2, len - 1] {
                let twin = format!("{}X{}", &name[..other], &name[other + 1..]);
                ensure!(
                    runs(&twin)?,
                    "{twin} of {len} bytes, the last {end} of {name} denied"
                );
            }
            place.order("clear", &[])?;
        }
    }
    Ok(())
}
