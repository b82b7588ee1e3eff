//! A plugin that does nothing with what it is asked: what any plugin costs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use nri::{Events, Options, Plugin};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug)]
struct Bare;

impl Plugin for Bare {
    fn events(&self) -> Events {
        Events::START_CONTAINER | Events::REMOVE_CONTAINER
    }
}

pub(crate) fn run(socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut ended = signal(SignalKind::terminate())?;
        let options = Options::external("bare", "50")?.socket(socket);
        let shutdown = async move { ended.recv().await.unwrap_or_default() };
        Ok(nri::run(Arc::new(Bare), options, shutdown).await?)
    })
}
