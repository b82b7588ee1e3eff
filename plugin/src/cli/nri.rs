//! `execblock nri`: the daemon.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
};

use clap::Args as ClapArgs;
use execblock::{
    bind::Binder,
    setup::{Options, Setup},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{FAILED, Failure, setup_failure};
use crate::{
    daemon::{Daemon, Event},
    events,
    nri::Plugin,
    settings::Settings,
};

/// Name and place under which runtimes know the plugin. Late in the order, so
/// that what other plugins refuse is never bound.
const NAME: &str = "execblock";
const INDEX: &str = "90";

/// Bind annotated containers as containerd or CRI-O starts them.
///
/// Runs until it is told to end (SIGTERM, SIGINT). Rules hold without it; what
/// starts while it is gone is bound, late, when it is back.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Args {
    /// The runtime's NRI socket.
    #[arg(long, value_name = "PATH", default_value = nri::DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// Whether a runtime started us as a plugin from its directory: without
/// arguments, by its environment alone.
pub(crate) fn started_as_plugin() -> bool {
    std::env::args_os().len() == 1 && std::env::var_os("NRI_PLUGIN_SOCKET").is_some()
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    // Before any thread and descriptor of ours: the runtime's is a number.
    let options = match nri::Options::pre_installed()? {
        Some(options) => options,
        None => nri::Options::external(NAME, INDEX)?.socket(args.socket),
    };
    // Ends with status 3 where the kernel can't: better no plugin than one that
    // accepts what it can't protect.
    let loaded = Setup::default()
        .load(Options::default())
        .map_err(setup_failure)?;
    log::info!("mechanism {}", loaded.mechanism());
    let binder = Binder::new()?;
    events::start(&binder, Settings::read()?.journal_bytes)?;

    let (sender, receiver) = mpsc::channel();
    // The daemon has a thread of its own: it takes locks and writes files, and
    // a runtime that waits for an answer goes on without one.
    let daemon = std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || Daemon::new(binder).run(&receiver))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = async move {
            tokio::select! {
                _ = terminate.recv() => log::info!("told to end by SIGTERM"),
                _ = interrupt.recv() => log::info!("told to end by SIGINT"),
            }
        };
        let ended = nri::run(Arc::new(Plugin::new(sender.clone())), options, told).await;
        Ok::<_, std::io::Error>(ended)
    })?;
    // The loop ends when all senders have; the runtime's tasks hold some.
    drop(runtime);
    sender.send(Event::Stop).ok();
    if daemon.join().is_err() {
        return Err(Failure::new(
            FAILED,
            "the daemon's thread panicked, see its message above",
        ));
    }
    result?;
    Ok(ExitCode::SUCCESS)
}
