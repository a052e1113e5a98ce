//! `postrider-delivery`: the delivery worker as a process of its own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{ConfigError, Document, ServerConfig};
use postrider_delivery::{Delivery, DeliveryConfig, METRICS};
use postrider_process::{Changes, ConfigFile, StopSignals, needs_restart};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_telemetry::{TelemetryConfig, metric};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hands queued mail to other mail servers and to the mailboxes of this system.
///
/// Reads the sections [server], [services], [telemetry] and [delivery] of the configuration.
#[derive(Parser)]
#[command(name = "postrider-delivery", version)]
struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = Arguments::parse().file.config;
    let settings = Settings::read(path.as_deref())?;
    // Signals are ours from here on, so that one that comes early is not lost.
    let signals = StopSignals::listen().context("listening for signals")?;
    let telemetry = postrider_telemetry::start("delivery", &settings.telemetry)?;
    let changes = Changes::watch(path.as_deref()).context("listening for SIGHUP")?;
    postrider_process::raise_open_files();
    metric::describe(METRICS);
    let services = &settings.services;
    let queue = Arc::new(grpc::queue(services).context("the queue service")?);
    let mailbox = Arc::new(grpc::mailbox(services).context("the mailbox service")?);
    let delivery = Delivery::new(&settings.server, settings.delivery.clone(), queue, mailbox)?;

    let stop = CancellationToken::new();
    tokio::spawn(signals.run(stop.clone()));
    let reloader = delivery.reloader();
    let read = move || Settings::read(path.as_deref());
    let take_over = move |new: Settings| {
        let mut left = telemetry.reload(&new.telemetry);
        left.extend(reloader.reload(new.delivery));
        left.extend(needs_restart("server", &new.server, &settings.server));
        left.extend(needs_restart("services", &new.services, &settings.services));
        left
    };
    let reloading = postrider_process::reload(changes, stop.clone(), read, take_over);
    tokio::join!(delivery.run(stop), reloading);
    Ok(())
}

/// What this process reads of the configuration.
struct Settings {
    server: ServerConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    delivery: DeliveryConfig,
}

impl Settings {
    fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let document = Document::load(path)?;
        let mut reader = document.reader();
        let settings = Self {
            server: reader.section("server", ServerConfig::validate),
            services: reader.section("services", ServicesConfig::validate),
            telemetry: reader.section("telemetry", TelemetryConfig::validate),
            delivery: reader.section("delivery", DeliveryConfig::validate),
        };
        reader.finish()?;
        Ok(settings)
    }
}
