//! What our maps and programs take of the kernel's memory, as bpftool tells.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// KiB of all pinned maps and of all our programs, and bytes of machine code.
pub(crate) fn memory() -> Result<Value> {
    let pins = "/sys/fs/bpf/execblock";
    let ours = |object: &&Value| {
        let pinned = object["pinned"].as_array().into_iter().flatten();
        pinned
            .filter_map(Value::as_str)
            .any(|path| path.starts_with(pins))
    };
    let (maps, links) = (all("map")?, all("link")?);
    let maps = maps.iter().filter(ours);
    let links: Vec<&Value> = links
        .iter()
        .filter(ours)
        .map(|link| &link["prog_id"])
        .collect();
    let programs = all("prog")?;
    let programs = || programs.iter().filter(|one| links.contains(&&one["id"]));
    let bytes = |field: &'static str| move |object: &Value| object[field].as_u64().unwrap_or(0);
    let (locked, code) = (bytes("bytes_memlock"), bytes("bytes_jited"));
    Ok(json!({
        "maps_kib": maps.map(locked).sum::<u64>() / 1024,
        "programs_kib": programs().map(locked).sum::<u64>() / 1024,
        "code_bytes": programs().map(code).sum::<u64>(),
    }))
}

fn all(kind: &str) -> Result<Vec<Value>> {
    let mut bpftool = Command::new("bpftool");
    let output = bpftool.args(["-j", "-f", kind, "show"]).output();
    let output = output.context("bpftool")?;
    ensure!(output.status.success(), "{bpftool:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
