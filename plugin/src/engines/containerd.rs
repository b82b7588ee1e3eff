//! containerd's config.toml: NRI switched on, and a runtime named `execblock`
//! whose binary is the wrapper, for a RuntimeClass and for `ctr --runtime`.
//! Everything else stays as it is, comments too.

use std::path::PathBuf;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::{EditError, is_wrapper};

const NAME: &str = "execblock";
pub(super) const NRI: &str = "io.containerd.nri.v1.nri";
/// Before what we add.
pub(super) const MARK: &str = "\n# Added by execblock setup.\n";
/// What a file begins with that was not there.
const NEW: &str = "# Written by execblock setup.\n";
/// Behind a value that we changed.
const WAS: &str = " # execblock setup: was ";
/// What a key was that was not there.
const UNSET: &str = "unset";
/// Annotations that the runtime class hands to the wrapper.
const KEYS: &str = "execblock/*";

/// The plugin that has the runtimes, by the version of the file.
fn cri(version: i64) -> &'static str {
    match version {
        2 => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.runtime",
    }
}

/// The directory whose `*.toml` a file of version 3 imports, as it is written
/// there. Earlier versions have none for us: containerd 1 takes the whole table of
/// a plugin from the last file that has one, containerd 2 merges key by key
/// (`mergeConfig` in cmd/containerd/server/config).
pub(crate) fn drop_in_dir(text: &str) -> Result<Option<PathBuf>, EditError> {
    let document = parse(text)?;
    if document.is_empty() || version(&document)? < 3 {
        return Ok(None);
    }
    let imports = document.get("imports").and_then(Item::as_array);
    let mut patterns = imports.into_iter().flatten().filter_map(Value::as_str);
    Ok(patterns.find_map(|pattern| pattern.strip_suffix("/*.toml").map(PathBuf::from)))
}

/// A drop-in with the runtime, as the main file configures runc.
pub(crate) fn drop_in(main: &str, wrapper: &str) -> Result<String, EditError> {
    let mut document = parse(main)?;
    let keys = ["plugins", cri(3), "containerd", "runtimes"];
    let runc = path(&mut document, &keys, false)?.and_then(|runtimes| runtimes.get("runc"));
    let runtime = runtime_like(runc, wrapper);
    let mut new = parse(&format!("{NEW}version = 3\n"))?;
    if let Some(runtimes) = path(&mut new, &keys, true)? {
        runtimes.insert(NAME, Item::Table(runtime));
    }
    Ok(new.to_string())
}

/// Adds to a file, or makes one of `version` where there is none. Without a
/// `wrapper` no runtime is added: that stands in a drop-in.
pub(crate) fn add(
    text: Option<&str>,
    version_of_new: i64,
    wrapper: Option<&str>,
) -> Result<String, EditError> {
    let new = format!("{NEW}version = {version_of_new}\n");
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or(&new);
    let mut document = parse(text)?;
    let version = version(&document)?;
    switch_nri_on(&mut document, version)?;
    if let Some(wrapper) = wrapper {
        add_runtime(&mut document, version, wrapper)?;
    }
    Ok(print(&document, text))
}

/// The edited text.
pub(super) fn print(document: &DocumentMut, before: &str) -> String {
    let mut edited = document.to_string();
    if !before.ends_with('\n') && edited.len() != before.len() {
        // So that it can be told from ours again.
        edited.truncate(edited.trim_end().len());
    }
    edited
}

/// Takes out what [`add`] puts in, and [`super::required::add`]. `None`: nothing is
/// left of the file.
pub(crate) fn remove(text: Option<&str>) -> Result<Option<String>, EditError> {
    take_out(text, |plugins, version| {
        remove_runtime(plugins, version);
        super::required::take_out(plugins);
        switch_nri_back(plugins);
    })
}

/// Has something taken out of the table of plugins.
pub(super) fn take_out(
    text: Option<&str>,
    ours: impl FnOnce(&mut dyn TableLike, i64),
) -> Result<Option<String>, EditError> {
    let Some(text) = text else { return Ok(None) };
    let mut document = parse(text)?;
    if document.is_empty() {
        return Ok(Some(text.to_owned()));
    }
    let version = version(&document)?;
    let plugins = path(&mut document, &["plugins"], false)?;
    if let Some(plugins) = plugins {
        ours(plugins, version);
        if plugins.is_empty() {
            document.remove("plugins");
        }
    }
    let left = print(&document, text);
    let nothing = left.trim_end() == format!("{NEW}version = {version}");
    Ok((!nothing).then_some(left))
}

pub(super) fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.to_string()))
}

pub(super) fn version(document: &DocumentMut) -> Result<i64, EditError> {
    let expected = "version = 2 or version = 3 (containerd config migrate prints the file so)";
    let shape = |found: String| EditError::Shape {
        at: "version".into(),
        found,
        expected,
    };
    match document.get("version") {
        None => Err(shape("none, which containerd reads as 1".into())),
        Some(item) => match item.as_integer() {
            Some(version @ (2 | 3)) => Ok(version),
            _ => Err(shape(item.to_string().trim().to_owned())),
        },
    }
}

/// The table at a path of keys; made where it is not and `make` says so.
pub(super) fn path<'a>(
    document: &'a mut DocumentMut,
    keys: &[&str],
    make: bool,
) -> Result<Option<&'a mut dyn TableLike>, EditError> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut at = String::new();
    for key in keys {
        at = format!("{at}[{key}]");
        if !table.contains_key(key) {
            if !make {
                return Ok(None);
            }
            let mut new = Table::new();
            // Written only as a part of the names below it.
            new.set_implicit(true);
            table.insert(key, Item::Table(new));
        }
        let item = table.get_mut(key).filter(|item| item.is_table_like());
        table = match item.and_then(Item::as_table_like_mut) {
            Some(table) => table,
            None => {
                return Err(EditError::Shape {
                    at,
                    found: "another value".into(),
                    expected: "a table",
                });
            }
        };
    }
    Ok(Some(table))
}

/// A table in braces has no place for our notes, and none for a table with a header.
fn refuse_braces(document: &DocumentMut, keys: &[&str]) -> Result<(), EditError> {
    let mut item = document.as_item();
    let mut at = String::new();
    for key in keys {
        let Some(below) = item.get(key) else { break };
        item = below;
        at = format!("{at}[{key}]");
        if item.is_inline_table() {
            return Err(EditError::Shape {
                at,
                found: "a table in braces".into(),
                expected: "one with a header of its own, in brackets",
            });
        }
    }
    Ok(())
}

/// containerd 1.7 has NRI off unless told otherwise, 2 has it on.
fn switch_nri_on(document: &mut DocumentMut, version: i64) -> Result<(), EditError> {
    let keys = ["plugins", NRI];
    refuse_braces(document, &keys)?;
    if let Some(nri) = path(document, &keys, false)? {
        for key in ["disable", "disable_connections"] {
            match nri.get_mut(key) {
                None if key == "disable" && version == 2 => {
                    nri.insert(key, unset_before(false));
                }
                Some(item) if item.as_bool() == Some(true) => change(item, false),
                Some(item) if item.as_bool().is_none() => {
                    return Err(EditError::Shape {
                        at: format!("[plugins][{NRI}] {key}"),
                        found: item.to_string().trim().to_owned(),
                        expected: "true or false",
                    });
                }
                _ => {}
            }
        }
        return Ok(());
    }
    if version == 2
        && let Some(plugins) = path(document, &keys[..1], true)?
    {
        let mut nri = Table::new();
        nri.decor_mut().set_prefix(MARK);
        nri.insert("disable", value(false));
        plugins.insert(NRI, Item::Table(nri));
    }
    Ok(())
}

/// A value for a key that was not there.
pub(super) fn unset_before(new: impl Into<Value>) -> Item {
    Item::Value(new.into().decorated(" ", format!("{WAS}{UNSET}")))
}

/// Gives a key another value, and keeps the one that it has behind it, with the
/// comment that follows it.
pub(super) fn change(item: &mut Item, new: impl Into<Value>) {
    let was = item.to_string();
    let prefix = item
        .as_value()
        .and_then(|old| old.decor().prefix())
        .cloned();
    let mut new = new.into();
    new.decor_mut().set_suffix(format!("{WAS}{}", was.trim()));
    new.decor_mut()
        .set_prefix(prefix.unwrap_or_else(|| " ".into()));
    *item = Item::Value(new);
}

/// Takes back [`unset_before`] and [`change`].
pub(super) fn restore(table: &mut dyn TableLike, key: &str) {
    let Some(value) = table.get_mut(key).and_then(Item::as_value_mut) else {
        return;
    };
    let suffix = value.decor().suffix().and_then(|suffix| suffix.as_str());
    let Some(was) = suffix.and_then(|suffix| suffix.strip_prefix(WAS)) else {
        return;
    };
    // As a line, for the comment behind it.
    let was = parse(&format!("was = {was}\n")).ok();
    let was = was.as_ref().and_then(|line| line.get("was")?.as_value());
    match was.cloned() {
        Some(mut was) => {
            let prefix = value.decor().prefix().cloned();
            was.decor_mut()
                .set_prefix(prefix.unwrap_or_else(|| " ".into()));
            *value = was;
        }
        // Unset, or edited by hand since.
        None => drop(table.remove(key)),
    }
}

fn switch_nri_back(plugins: &mut dyn TableLike) {
    let Some(nri) = plugins.get_mut(NRI) else {
        return;
    };
    if is_marked(nri) {
        plugins.remove(NRI);
        return;
    }
    let Some(nri) = nri.as_table_like_mut() else {
        return;
    };
    for key in ["disable", "disable_connections"] {
        restore(nri, key);
    }
}

pub(super) fn is_marked(item: &Item) -> bool {
    let prefix = item.as_table().and_then(|table| table.decor().prefix());
    prefix.and_then(|prefix| prefix.as_str()) == Some(MARK)
}

fn add_runtime(document: &mut DocumentMut, version: i64, wrapper: &str) -> Result<(), EditError> {
    let keys = ["plugins", cri(version), "containerd", "runtimes"];
    refuse_braces(document, &keys)?;
    let Some(runtimes) = path(document, &keys, true)? else {
        return Ok(());
    };
    let at = || format!("[{}] {NAME}", keys.join("]["));
    if let Some(there) = runtimes.get(NAME) {
        let binary = there
            .get("options")
            .and_then(|options| options.get("BinaryName"))
            .and_then(Item::as_str);
        match binary {
            Some(binary) if binary == wrapper => return Ok(()),
            Some(binary) if is_wrapper(binary) => {}
            binary => {
                return Err(EditError::Shape {
                    at: at(),
                    found: format!("BinaryName {binary:?}"),
                    expected: "no runtime of this name, or one whose BinaryName is execblock-runc",
                });
            }
        }
    }
    let runtime = runtime_like(runtimes.get("runc"), wrapper);
    runtimes.insert(NAME, Item::Table(runtime));
    Ok(())
}

/// A runtime as runc is configured, with the wrapper as its binary.
fn runtime_like(runc: Option<&Item>, wrapper: &str) -> Table {
    let mut runtime = Table::new();
    let mut options = Table::new();
    for (key, item) in entries(runc) {
        match item {
            Item::Value(of_runc) => {
                runtime.insert(key, value(of_runc.clone().decorated(" ", "")));
            }
            item if key == "options" => {
                for (key, item) in entries(Some(item)) {
                    if let Item::Value(of_runc) = item {
                        options.insert(key, value(of_runc.clone().decorated(" ", "")));
                    }
                }
            }
            // A table of another plugin's is no part of a runtime.
            _ => {}
        }
    }
    if !runtime.contains_key("runtime_type") {
        runtime.insert("runtime_type", value("io.containerd.runc.v2"));
    }
    for key in ["pod_annotations", "container_annotations"] {
        let known = runtime.get(key).and_then(Item::as_array);
        let mut patterns = known.cloned().unwrap_or_default();
        if !patterns
            .iter()
            .any(|pattern| pattern.as_str() == Some(KEYS))
        {
            patterns.push(KEYS);
        }
        runtime.insert(key, value(Array::from_iter(patterns)));
    }
    options.insert("BinaryName", value(wrapper));
    runtime.insert("options", Item::Table(options));
    runtime.decor_mut().set_prefix(MARK);
    runtime
}

fn entries(item: Option<&Item>) -> impl Iterator<Item = (&str, &Item)> {
    let table = item.and_then(Item::as_table_like);
    table.into_iter().flat_map(|table| table.iter())
}

fn remove_runtime(plugins: &mut dyn TableLike, version: i64) {
    let keys = [cri(version), "containerd", "runtimes"];
    remove_below(plugins, &keys);
}

/// Removes our runtime, and the tables above it that only led to it.
fn remove_below(table: &mut dyn TableLike, keys: &[&str]) {
    let Some((first, rest)) = keys.split_first() else {
        let binary = table
            .get(NAME)
            .and_then(|runtime| runtime.get("options")?.get("BinaryName")?.as_str());
        if binary.is_some_and(is_wrapper) {
            table.remove(NAME);
        }
        return;
    };
    let Some(item) = table.get_mut(first) else {
        return;
    };
    let implicit = item.as_table().is_some_and(Table::is_implicit);
    let Some(below) = item.as_table_like_mut() else {
        return;
    };
    remove_below(below, rest);
    if implicit && below.is_empty() {
        table.remove(first);
    }
}

#[cfg(test)]
#[path = "containerd_tests.rs"]
mod tests;
