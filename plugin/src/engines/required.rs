//! containerd's default validator (NRI 0.10, containerd 2.2): no container is created
//! while the plugin is not registered, unless its pod says that it may be.

use toml_edit::{Array, Item, Table, TableLike, Value, value};

use super::{
    EditError,
    containerd::{self, MARK, NRI, change, is_marked, parse, path, restore, unset_before},
};

/// The annotation of pods that may start without the plugin: those without which
/// the plugin would not come back. None of ours begins with this.
pub(crate) const TOLERATION: &str = "execblock.dev/tolerate-missing";
/// The plugin by the name under which it registers, and with its place in the order.
const NAMES: [&str; 2] = ["execblock", "90-execblock"];
const TABLE: &str = "default_validator";
const ENABLE: &str = "enable";
const REQUIRED: &str = "required_plugins";
const TOLERATE: &str = "tolerate_missing_plugins_annotation";
/// Behind a list that we are an item of.
const ADDED: &str = " # execblock setup: added \"execblock\"";

/// Whether a list of required plugins names ours.
pub(crate) fn names_us<'a>(mut plugins: impl Iterator<Item = &'a str>) -> bool {
    plugins.any(|plugin| NAMES.contains(&plugin))
}

/// Adds to a file that [`containerd::add`] has been at.
pub(crate) fn add(text: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    containerd::version(&document)?;
    if let Some(nri) = path(&mut document, &["plugins", NRI], true)? {
        match nri.get_mut(TABLE) {
            None => {
                nri.insert(TABLE, Item::Table(new()));
            }
            Some(there) => merge(there)?,
        }
    }
    Ok(containerd::print(&document, text))
}

fn new() -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix(MARK);
    table.insert(ENABLE, value(true));
    table.insert(REQUIRED, value(Array::from_iter([NAMES[0]])));
    table.insert(TOLERATE, value(TOLERATION));
    table
}

fn merge(there: &mut Item) -> Result<(), EditError> {
    let wrong = |key: &str, found: &Item, expected| EditError::Shape {
        at: format!("[plugins][{NRI}][{TABLE}] {key}"),
        found: found.to_string().trim().to_owned(),
        expected,
    };
    // One on a line of its own has no place for our marks.
    let Some(table) = there.as_table_mut() else {
        return Err(wrong("", there, "a table under a heading of its own"));
    };
    match table.get_mut(ENABLE) {
        None => drop(table.insert(ENABLE, unset_before(true))),
        Some(item) if item.as_bool() == Some(true) => {}
        Some(item) if item.as_bool() == Some(false) => change(item, true),
        Some(item) => return Err(wrong(ENABLE, item, "true or false")),
    }
    match table.get_mut(REQUIRED) {
        None => {
            let ours = unset_before(Array::from_iter([NAMES[0]]));
            table.insert(REQUIRED, ours);
        }
        Some(Item::Value(Value::Array(plugins))) => {
            if !names_us(plugins.iter().filter_map(Value::as_str)) {
                plugins.push(NAMES[0]);
                let suffix = suffix(plugins) + ADDED;
                plugins.decor_mut().set_suffix(suffix);
            }
        }
        Some(item) => return Err(wrong(REQUIRED, item, "a list of plugins")),
    }
    match table.get_mut(TOLERATE) {
        None => drop(table.insert(TOLERATE, unset_before(TOLERATION))),
        Some(item) if item.as_str() == Some("") => change(item, TOLERATION),
        // Another key, which its pods carry already.
        Some(item) if item.is_str() => {}
        Some(item) => return Err(wrong(TOLERATE, item, "the key of an annotation")),
    }
    Ok(())
}

fn suffix(list: &Array) -> String {
    let suffix = list.decor().suffix().and_then(|suffix| suffix.as_str());
    suffix.unwrap_or_default().to_owned()
}

/// Takes out what [`add`] puts in, and nothing else of ours. `None`: nothing is left
/// of the file.
pub(crate) fn remove(text: Option<&str>) -> Result<Option<String>, EditError> {
    containerd::take_out(text, |plugins, _version| take_out(plugins))
}

/// The same, of the table of plugins.
pub(super) fn take_out(plugins: &mut dyn TableLike) {
    let Some(nri) = plugins.get_mut(NRI) else {
        return;
    };
    let implicit = nri.as_table().is_some_and(Table::is_implicit);
    let Some(table) = nri.as_table_like_mut() else {
        return;
    };
    if table.get(TABLE).is_some_and(is_marked) {
        table.remove(TABLE);
    } else if let Some(validator) = table.get_mut(TABLE).and_then(Item::as_table_mut) {
        for key in [ENABLE, REQUIRED, TOLERATE] {
            restore(validator, key);
        }
        if let Some(plugins) = validator.get_mut(REQUIRED).and_then(Item::as_array_mut)
            && let Some(before) = suffix(plugins).strip_suffix(ADDED)
        {
            plugins.retain(|plugin| plugin.as_str() != Some(NAMES[0]));
            plugins.decor_mut().set_suffix(before);
        }
    }
    if implicit && table.is_empty() {
        plugins.remove(NRI);
    }
}

/// What stands in a text, which may be what containerd makes of all its files: the
/// annotation that tolerates a missing plugin, where ours is required.
pub(crate) fn toleration(text: &str) -> Option<String> {
    let document = parse(text).ok()?;
    let validator = document.get("plugins")?.get(NRI)?.get(TABLE)?;
    let plugins = validator.get(REQUIRED)?.as_array()?;
    let required =
        validator.get(ENABLE)?.as_bool()? && names_us(plugins.iter().filter_map(Value::as_str));
    let toleration = validator.get(TOLERATE).and_then(Item::as_str);
    required.then(|| toleration.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `containerd config default` of 2.2 has it.
    const DEFAULT: &str = r"version = 3

[plugins]
  [plugins.'io.containerd.nri.v1.nri']
    disable = false
    socket_path = '/var/run/nri/nri.sock'

    [plugins.'io.containerd.nri.v1.nri'.default_validator]
      enable = false
      reject_oci_hook_adjustment = false
      required_plugins = []
      tolerate_missing_plugins_annotation = ''

  [plugins.'io.containerd.runtime.v2.task']
    platforms = ['linux/amd64']
";

    /// Others are required already.
    const OTHERS: &str = r#"version = 3
[plugins."io.containerd.nri.v1.nri".default_validator]
enable=false # not yet
required_plugins = [ "a", "b" ] # ask ops
tolerate_missing_plugins_annotation = "ops/bootstrap"
"#;

    const ALL: [&str; 6] = [
        DEFAULT,
        OTHERS,
        "version = 3\n",
        "version = 2\n[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = false\n",
        "version = 3\n[plugins.\"io.containerd.nri.v1.nri\".default_validator]\n\
         required_plugins = [\n  \"a\", # one\n]\n",
        "version = 3\n[debug]\nlevel = \"info\"",
    ];

    #[test]
    fn it_is_required_once_and_taken_out_as_it_was() {
        for text in ALL {
            let with = add(text).unwrap();
            assert_ne!(with, text);
            assert!(toleration(&with).is_some(), "{with}");
            assert_eq!(add(&with).unwrap(), with, "idempotent");
            let without = remove(Some(&with)).unwrap();
            assert_eq!(without.as_deref(), Some(text), "{with}");
            let same = remove(Some(text)).unwrap();
            assert_eq!(same.as_deref(), Some(text), "nothing to do");
        }
    }

    #[test]
    fn all_that_setup_adds_goes_together() {
        for text in ALL {
            let runtime = containerd::add(Some(text), 3, Some("/usr/bin/execblock-runc")).unwrap();
            let both = add(&runtime).unwrap();
            let again = containerd::add(Some(&both), 3, Some("/usr/bin/execblock-runc"));
            assert_eq!(again.unwrap(), both, "idempotent");
            assert_eq!(
                remove(Some(&both)).unwrap().as_deref(),
                Some(runtime.as_str()),
                "the runtime stays"
            );
            let none = containerd::remove(Some(&both)).unwrap();
            assert_eq!(none.as_deref(), Some(text), "{both}");
        }
        let made = add(&containerd::add(None, 3, None).unwrap()).unwrap();
        assert_eq!(containerd::remove(Some(&made)).unwrap(), None, "{made}");
    }

    #[test]
    fn others_stay_required_and_keep_their_toleration() {
        let with = add(OTHERS).unwrap();
        assert!(with.contains("\"a\", \"b\" , \"execblock\"]"), "{with}");
        assert_eq!(toleration(&with).as_deref(), Some("ops/bootstrap"));
        assert_eq!(toleration(OTHERS), None);
        let with = add(DEFAULT).unwrap();
        assert_eq!(toleration(&with).as_deref(), Some(TOLERATION));
        // By its full name too.
        let ours = OTHERS.replace("\"a\"", "\"90-execblock\"");
        assert!(!add(&ours).unwrap().contains("added"));
    }

    #[test]
    fn what_was_changed_by_hand_since_is_left() {
        let with = add(DEFAULT).unwrap();
        let changed = with.replace("[\"execblock\"]", "[\"execblock\", \"mine\"]");
        let left = remove(Some(&changed)).unwrap().unwrap();
        assert!(left.contains("required_plugins = [ \"mine\"]"), "{left}");
    }

    #[test]
    fn our_parser_never_sees_the_toleration() {
        assert!(!TOLERATION.starts_with(execblock::annotation::PREFIX));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let table = "[plugins.\"io.containerd.nri.v1.nri\".default_validator]";
        for (text, part) in [
            ("version = 1\n".to_owned(), "version: found 1"),
            (
                format!("version = 3\n{table}\nenable = 1\n"),
                "true or false",
            ),
            (
                format!("version = 3\n{table}\nrequired_plugins = \"a\"\n"),
                "a list of plugins",
            ),
            (
                format!("version = 3\n{table}\ntolerate_missing_plugins_annotation = 1\n"),
                "the key of an annotation",
            ),
            (
                "version = 3\n[plugins.\"io.containerd.nri.v1.nri\"]\n\
                 default_validator = { enable = true }\n"
                    .to_owned(),
                "a heading of its own",
            ),
        ] {
            let error = add(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
