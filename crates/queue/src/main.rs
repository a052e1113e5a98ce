//! The queue as a process of its own: accepts, keeps and hands out mail over gRPC.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{ConfigError, Document, ServerConfig};
use postrider_process::{Changes, ConfigFile, StopSignals, needs_restart};
use postrider_protocol::grpc::{Server, ServicesConfig};
use postrider_queue::{QueueConfig, QueueService};
use postrider_telemetry::TelemetryConfig;
use tokio_util::sync::CancellationToken;
use tracing::info;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the queue: takes mail from the edge, hands it to delivery workers, answers operators.
///
/// Reads the sections [server], [services], [telemetry] and [queue] of the configuration.
#[derive(Parser)]
#[command(name = "postrider-queue", version)]
struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

/// What the last answers of conversations may take after their time is over.
const AFTER_DRAIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = Arguments::parse().file.config;
    let settings = Settings::read(path.as_deref())?;
    // Signals are ours from here on, so that one that comes early is not lost.
    let signals = StopSignals::listen().context("listening for signals")?;
    let telemetry = postrider_telemetry::start("queue", &settings.telemetry)?;
    let changes = Changes::watch(path.as_deref()).context("listening for SIGHUP")?;
    postrider_process::raise_open_files();
    let service = QueueService::open(&settings.server, settings.queue.clone())
        .await
        .context("opening the queue's store")?;
    let services = &settings.services;
    let grpc = Server::new()
        // Conversations end by themselves within their own time.
        .drain(settings.queue.drain.0 + AFTER_DRAIN)
        .queue(service.clone())
        .queue_admin(service.clone())
        .bind("queue_listen", services.queue_listen, services)
        .await?;
    let stop = CancellationToken::new();
    tokio::spawn(signals.run(stop.clone()));
    postrider_telemetry::health::global()
        .component("queue")
        .ready();
    info!(grpc = %grpc.local_addr(), "queue serves");
    let read = move || Settings::read(path.as_deref());
    let take_over = move |new: Settings| {
        let mut left = telemetry.reload(&new.telemetry);
        left.extend(needs_restart("server", &new.server, &settings.server));
        left.extend(needs_restart("services", &new.services, &settings.services));
        left.extend(needs_restart("queue", &new.queue, &settings.queue));
        left
    };
    let reloading = postrider_process::reload(changes, stop.clone(), read, take_over);
    let serving = async {
        let served = grpc.serve(stop.clone()).await;
        stop.cancel();
        served
    };
    let (served, closed, ()) = tokio::join!(serving, service.run(stop.clone()), reloading);
    served.context("gRPC")?;
    closed.context("closing the queue's store")
}

/// What this process reads of the configuration.
struct Settings {
    server: ServerConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    queue: QueueConfig,
}

impl Settings {
    fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let document = Document::load(path)?;
        let mut reader = document.reader();
        let settings = Self {
            server: reader.section("server", ServerConfig::validate),
            services: reader.section("services", ServicesConfig::validate),
            telemetry: reader.section("telemetry", TelemetryConfig::validate),
            queue: reader.section("queue", QueueConfig::validate),
        };
        reader.finish()?;
        Ok(settings)
    }
}
