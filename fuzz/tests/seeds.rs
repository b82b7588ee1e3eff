//! The inputs that are kept, through their targets: what was found once is not found
//! again, and a target whose own code is wrong is seen without fuzzing.

use std::{fs, panic, path::Path, process, sync::Once};

use execblock_fuzz::TARGETS;

/// As under the fuzzer: a panic that somebody catches is one all the same.
fn abort_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            usual(info);
            process::abort();
        }));
    });
}

#[test]
fn all_seeds_hold() {
    abort_on_panic();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut folders: Vec<_> = fs::read_dir(&seeds)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    folders.sort_by_key(fs::DirEntry::file_name);
    let folders: Vec<_> = folders.iter().map(fs::DirEntry::file_name).collect();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(folders, names, "a folder of seeds for each target");
    for (name, target) in TARGETS {
        let mut count = 0;
        for seed in fs::read_dir(seeds.join(name)).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            count += 1;
        }
        assert_ne!(count, 0, "{name} has no seeds");
        // What is nothing, too.
        target(b"");
    }
}
