//! `execblock nri`: the daemon.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, mpsc},
};

use clap::Args as ClapArgs;
use execblock::{
    bind::Binder,
    node::Node,
    setup::{Loaded, Options, Replace, Setup},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{FAILED, Failure, setup_failure};
use crate::{
    daemon::{Daemon, Event},
    events,
    logging::{self, Format},
    memory,
    metrics::{Answers, Kernel, Metrics, Pinned, Server},
    nri::Plugin,
    service,
    settings::{Exposed, Listen, Settings, SettingsError},
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
#[command(after_help = "\
Examples:
  execblock nri
  execblock nri --metrics 127.0.0.1:9643 --log-format json")]
pub(crate) struct Args {
    /// The runtime's NRI socket.
    #[arg(long, value_name = "PATH", default_value = nri::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Form of the log; text, unless config.toml says otherwise.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Serve metrics there; nowhere, unless config.toml says otherwise.
    #[arg(long, value_name = "ADDRESS|unix:PATH")]
    metrics: Option<Listen>,
}

/// Whether a runtime started us as a plugin from its directory: without
/// arguments, by its environment alone.
pub(crate) fn started_as_plugin() -> bool {
    std::env::args_os().len() == 1 && std::env::var_os("NRI_PLUGIN_SOCKET").is_some()
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // Before any thread and descriptor of ours: the runtime's is a number.
    let options = match nri::Options::pre_installed()? {
        Some(options) => options,
        None => nri::Options::external(NAME, INDEX)?.socket(args.socket.clone()),
    };
    let settings = settings(args)?;
    // Ends with status 3 where the kernel can't: better no plugin than one that
    // accepts what it can't protect.
    let loaded = Setup::default()
        .load(&Options {
            replace: Replace::Outdated,
            retiring: &events::keep_those_of,
            ..Options::default()
        })
        .map_err(setup_failure)?;
    memory::give_back();
    log::info!("mechanism {}", loaded.mechanism());
    if let Loaded::Replaced { containers, .. } = loaded {
        log::info!("replaced what an older version had loaded, {containers} containers bound");
    }
    let binder = Binder::new()?;
    let metrics = Arc::new(Metrics::default());
    let hear = listener(&settings, &metrics);
    if let Err(error) = events::start(&binder, settings.journal_bytes, hear) {
        log::error!("refusals are not logged: {error}");
    }
    let pinned = Pinned {
        pins: binder.pins().clone(),
        run_dir: binder.run_dir().to_owned(),
    };

    let (sender, receiver) = mpsc::channel();
    // The daemon has a thread of its own: it takes locks and writes files, and
    // a runtime that waits for an answer goes on without one.
    let counted = Arc::clone(&metrics);
    let daemon = std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || Daemon::new(binder, counted).run(&receiver))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match settings.injection.hook() {
        Ok(None) => {}
        Ok(Some(hook)) => log::info!("containers with rules are given the hook {hook}"),
        // Closed; it is looked for again for each.
        Err(error) => log::error!("containers with rules will be refused: {error}"),
    }
    let result = runtime.block_on(async {
        serve(&settings.metrics, &metrics, loaded, pinned, &sender);
        tokio::spawn(watched(sender.clone()));
        let plugin = Arc::new(Plugin::new(sender.clone(), settings.injection, metrics));
        let ended = nri::run(plugin, options, told()?).await;
        service::stopping();
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

/// What config.toml says and the command line has the last word on; sets up the
/// log with it.
fn settings(args: &Args) -> Result<Settings, Failure> {
    let read = Settings::read(&Node::default());
    let (mut settings, problem) = match read {
        Ok(settings) => (settings, None),
        Err(error @ SettingsError::File(_)) => (Settings::default(), Some(error)),
        Err(error @ SettingsError::Table(_)) => return Err(error.into()),
    };
    settings.format = args.log_format.unwrap_or(settings.format);
    if let Some(listen) = &args.metrics {
        settings.metrics.listen = Some(listen.clone());
    }
    logging::start(settings.format, "info");
    if let Some(problem) = problem {
        // Closed: whoever asks for rules is refused by a daemon that runs, and
        // would start without them if none did.
        log::error!("annotated containers will be refused, settings are the usual: {problem}");
    }
    Ok(settings)
}

/// Who else hears of each refusal, where that is asked for. Containers are
/// protected also where that fails.
#[cfg(feature = "kubernetes")]
fn listener(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> impl Fn(&events::Report) + Send + use<> {
    let started = settings
        .kubernetes_events
        .then(|| crate::kubernetes::start(metrics));
    let listener = started.and_then(|started| {
        started
            .inspect_err(|error| log::error!("no Kubernetes Events: {error}"))
            .ok()
    });
    move |report| {
        if let Some(listener) = &listener {
            listener.hear(report);
        }
    }
}

/// Nobody else hears of refusals.
#[cfg(not(feature = "kubernetes"))]
fn listener(
    _settings: &Settings,
    _metrics: &Arc<Metrics>,
) -> impl Fn(&events::Report) + Send + use<> {
    |_report| {}
}

/// Starts to serve metrics, where that is asked for. Containers are protected
/// also where that fails.
fn serve(
    exposed: &Exposed,
    metrics: &Metrics,
    loaded: Loaded,
    pinned: Pinned,
    daemon: &mpsc::Sender<Event>,
) {
    let Some(listen) = &exposed.listen else {
        return;
    };
    match Server::bind(listen) {
        Ok(server) => {
            log::info!("metrics on {listen}");
            let registry = metrics.registry(loaded, Kernel::new(pinned, exposed));
            tokio::spawn(server.run(Answers::new(registry, daemon.clone())));
        }
        Err(error) => log::error!("{error}"),
    }
}

/// Tells the service manager that the loop runs, and then that it still does.
async fn watched(daemon: mpsc::Sender<Event>) {
    if service::answers(&daemon).await {
        service::ready();
        service::watchdog(daemon).await;
    }
}

/// Comes to an end when the process is told to.
fn told() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => log::info!("told to end by SIGTERM"),
            _ = interrupt.recv() => log::info!("told to end by SIGINT"),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let line = ["nri"].iter().chain(words);
        let parsed = Line::try_parse_from(line);
        parsed
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_names_a_log_and_a_place_for_metrics() {
        let args = parse(&["--log-format", "json", "--metrics", "unix:/run/m.sock"]).unwrap();
        assert_eq!(args.log_format, Some(Format::Json));
        assert_eq!(args.metrics, Some(Listen::Unix("/run/m.sock".into())));
        let args = parse(&[]).unwrap();
        assert_eq!((args.log_format, args.metrics), (None, None));
    }

    #[test]
    fn what_it_names_wrongly_is_said_with_what_was_expected() {
        let said = parse(&["--metrics", "9643"]).unwrap_err();
        assert!(said.contains("expected ADDRESS:PORT"), "{said}");
        let said = parse(&["--log-format", "xml"]).unwrap_err();
        assert!(said.contains("[possible values: text, json]"), "{said}");
    }
}
