//! The log: lines for people, lines for the systemd journal, or JSON for programs.
//! Whatever a message holds, it stays one line.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::OnceLock,
    time::SystemTime,
};

use env_logger::fmt::Formatter;
use log::{
    Level, Record,
    kv::{Key, Value, VisitSource},
};
use serde_json::{Map, Value as Json};

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A line for people; the journal's form where stderr is the journal.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// What lines are written in.
static STARTED: OnceLock<Format> = OnceLock::new();

/// Sets the log up, once; `level` holds where EXECBLOCK_LOG says nothing.
pub(crate) fn start(format: Format, level: &str) {
    let mut builder =
        env_logger::Builder::from_env(env_logger::Env::new().filter_or("EXECBLOCK_LOG", level));
    match format {
        Format::Json => builder.format(|line, record| {
            let object = json(record, SystemTime::now());
            writeln!(line, "{}", Json::Object(object))
        }),
        Format::Text
            if is_journal(
                std::env::var("JOURNAL_STREAM").ok().as_deref(),
                io::stderr(),
            ) =>
        {
            builder.format(|line, record| writeln!(line, "{}", journal(record)))
        }
        Format::Text => builder.format(text),
    };
    STARTED.get_or_init(|| format);
    builder.init();
}

/// Says why the process ends, also where the log would not say it.
pub(crate) fn last_words(message: &str) {
    if STARTED.get() == Some(&Format::Json) && log::log_enabled!(Level::Error) {
        log::error!("{message}");
        return;
    }
    #[expect(clippy::print_stderr, reason = "this is where errors go")]
    {
        eprintln!("execblock: {message}");
    }
}

fn text(line: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let style = line.default_level_style(record.level());
    let time = line.timestamp_millis();
    writeln!(
        line,
        "[{time} {style}{:<5}{style:#}] {}",
        record.level(),
        one_line(record)
    )
}

/// A line as the journal wants it: it has the time, and takes the priority from
/// the prefix of sd-daemon(3).
fn journal(record: &Record<'_>) -> String {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{priority}>{}", one_line(record))
}

/// The message with its control characters made visible.
fn one_line(record: &Record<'_>) -> String {
    let mut text = String::new();
    for c in record.args().to_string().chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

fn json(record: &Record<'_>, now: SystemTime) -> Map<String, Json> {
    let mut object = Map::new();
    let time = humantime::format_rfc3339_nanos(now).to_string();
    let level = record.level().as_str().to_ascii_lowercase();
    object.insert("time".to_owned(), time.into());
    object.insert("level".to_owned(), level.into());
    object.insert("message".to_owned(), record.args().to_string().into());
    // Never fails: the visitor does not.
    record.key_values().visit(&mut Fields(&mut object)).ok();
    object
}

/// Key-values as fields. One with the name of a field that every line has gets an
/// underscore in front.
struct Fields<'a>(&'a mut Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let name = match key.as_str() {
            taken @ ("time" | "level" | "message") => format!("_{taken}"),
            name => name.to_owned(),
        };
        let value = serde_json::to_value(&value).unwrap_or_else(|_| value.to_string().into());
        self.0.insert(name, value);
        Ok(())
    }
}

/// Whether a descriptor is the journal that systemd connected us to:
/// `JOURNAL_STREAM` has its device and inode, see systemd.exec(5).
fn is_journal(stream: Option<&str>, stderr: impl AsFd) -> bool {
    let Some((device, inode)) = stream.and_then(|text| text.split_once(':')) else {
        return false;
    };
    // It may have been redirected since.
    rustix::fs::fstat(stderr)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(level: Level, message: std::fmt::Arguments<'_>) -> Record<'_> {
        Record::builder().level(level).args(message).build()
    }

    #[test]
    fn a_line_of_json_has_the_time_the_level_and_all_fields() {
        let fields = [
            ("container", Value::from("c1")),
            ("pid", Value::from(7)),
            ("rules", Value::from_serde(&["a", "b"])),
            ("time", Value::from("mine")),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::new(1, 2);
        let object = json(
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("denied \"id\""))
                .key_values(&&fields[..])
                .build(),
            now,
        );
        assert_eq!(
            Json::Object(object).to_string(),
            r#"{"time":"1970-01-01T00:00:01.000000002Z","level":"warn","message":"denied \"id\"","container":"c1","pid":7,"rules":["a","b"],"_time":"mine"}"#
        );
    }

    #[test]
    fn the_journal_gets_the_priority() {
        for (level, expected) in [
            (Level::Error, "<3>a"),
            (Level::Warn, "<4>a"),
            (Level::Info, "<6>a"),
            (Level::Debug, "<7>a"),
            (Level::Trace, "<7>a"),
        ] {
            assert_eq!(journal(&record(level, format_args!("a"))), expected);
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let evil = "a\n<0>forged\r\u{1b}[2J\u{2028}";
        let message = format_args!("{evil}");
        let said = journal(&record(Level::Info, message));
        assert_eq!(said, "<6>a\\n<0>forged\\r\\u{1b}[2J\\u{2028}");
        let object = json(&record(Level::Info, message), SystemTime::UNIX_EPOCH);
        assert_eq!(object["message"], evil);
        assert_eq!(Json::Object(object).to_string().lines().count(), 1);
    }

    #[test]
    fn the_journal_is_told_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let its = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(Some(&its), &file));
        let other = format!("{}:{}", stat.st_dev, stat.st_ino + 1);
        for stream in [Some(other.as_str()), Some("x"), Some(""), None] {
            assert!(!is_journal(stream, &file));
        }
    }
}
