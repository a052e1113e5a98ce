//! `postrider serve` and the try-out: one process from its start to its end.

use std::sync::Arc;

use anyhow::{Context, ensure};
use postrider_config::watch::Changes;
use tokio_util::sync::CancellationToken;

use crate::compose::System;
use crate::out;
use crate::ports;
use crate::reload;
use crate::signals::StopSignals;
use crate::source::Source;
use crate::tryout;

/// Runs all services until a signal stops them.
///
/// # Errors
/// A port is taken, a store cannot be opened, or a service has failed.
pub async fn serve(source: Source) -> anyhow::Result<()> {
    let settings = source.read()?;
    let taken = ports::problems(&ports::wanted(&settings));
    ensure!(taken.is_empty(), "{}", taken.join("\n"));
    raise_open_files();
    // Signals are ours from here on, so that one that comes early is not lost.
    let stop_signals = StopSignals::listen().context("listening for signals")?;

    let telemetry = Arc::new(postrider_telemetry::start(
        "postrider",
        &settings.telemetry,
    )?);
    let changes = Changes::watch(source.path()).context("listening for SIGHUP")?;
    let system = System::bind(&settings).await?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_signals.run(stop.clone()));
    let is_tryout = source.is_tryout();
    let watch = reload::Watch {
        source,
        running: settings.clone(),
        reloaders: system.reloaders(),
        telemetry,
    };
    let watching = tokio::spawn(watch.run(changes, stop.clone()));
    if is_tryout {
        match tryout::welcome(&settings, &system).await {
            // Whoever read the printout has seen enough; the server serves.
            Err(error) if out::is_closed(&error) => {}
            done => done?,
        }
    }
    let ended = system.run(stop).await;
    watching.await?;
    ended
}

/// Every connection is an open file, and the usual soft limit of 1,024 is none that anybody chose.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        // Nothing depends on it yet; a server that runs out of files says so.
        eprintln!("postrider: the limit of open files stays as it is: {error}");
    }
}
