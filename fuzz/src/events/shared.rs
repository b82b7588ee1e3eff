//! The command's own files, of which a part is of use here.

#[path = "../../../plugin/src/events/journal.rs"]
pub(crate) mod journal;
#[path = "../../../plugin/src/events/names.rs"]
pub(crate) mod names;
#[path = "../../../plugin/src/events/report.rs"]
pub(crate) mod report;
#[path = "../../../plugin/src/events/text.rs"]
pub(crate) mod text;

pub(crate) use report::Report;
