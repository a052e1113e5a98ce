//! `postrider serve` and the try-out: one process from its start to its end.

use anyhow::{Context, ensure};
use postrider_process::{Changes, StopSignals};
use tokio_util::sync::CancellationToken;

use crate::compose::System;
use crate::out;
use crate::ports;
use crate::settings::Settings;
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
    // Signals are ours from here on, so that one that comes early is not lost.
    let stop_signals = StopSignals::listen().context("listening for signals")?;

    let telemetry = postrider_telemetry::start("postrider", &settings.telemetry)?;
    let changes = Changes::watch(source.path()).context("listening for SIGHUP")?;
    let system = System::bind(&settings).await?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_signals.run(stop.clone()));
    let is_tryout = source.is_tryout();
    let (reloaders, running) = (system.reloaders(), settings.clone());
    // Telemetry goes with it, and it lasts until everything else has ended: what is still to be sent
    // is sent last.
    let take_over = move |new: Settings| reloaders.reload(&new, &running, &telemetry);
    let read = move || source.read();
    let reloading = postrider_process::reload(changes, stop.clone(), read, take_over);
    if is_tryout {
        match tryout::welcome(&settings, &system).await {
            // Whoever read the printout has seen enough; the server serves.
            Err(error) if out::is_closed(&error) => {}
            done => done?,
        }
    }
    let serving = async {
        let ended = system.run(stop.clone()).await;
        stop.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(serving, reloading);
    ended
}
