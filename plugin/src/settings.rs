//! stub
use crate::cli::Failure;
pub(crate) struct Settings {
    pub(crate) journal_bytes: u64,
}
impl Settings {
    pub(crate) fn read() -> Result<Self, Failure> {
        Ok(Self {
            journal_bytes: 8 << 20,
        })
    }
}
