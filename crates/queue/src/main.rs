//! The queue as a process of its own: accepts, keeps and hands out mail over gRPC.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{Document, ServerConfig};
use postrider_protocol::grpc::{Server, ServicesConfig};
use postrider_queue::{QueueConfig, QueueService};
use postrider_telemetry::TelemetryConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the queue: takes mail from the edge, hands it to delivery workers, answers operators.
#[derive(Parser)]
#[command(name = "postrider-queue", version)]
struct Arguments {
    /// The config file; its sections [server], [services], [telemetry] and [queue] are read.
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.config)?;
    let _telemetry = postrider_telemetry::start("queue", &config.telemetry)?; // flushes when dropped
    let service = QueueService::open(&config.server, config.queue)
        .await
        .context("opening the queue's store")?;
    let services = &config.services;
    let grpc = Server::new()
        .queue(service.clone())
        .queue_admin(service.clone())
        .bind("queue_listen", services.queue_listen, services)
        .await?;
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone())?);
    postrider_telemetry::health::global()
        .component("queue")
        .ready();
    info!(grpc = %grpc.local_addr(), "queue serves");
    let (served, closed) = tokio::join!(grpc.serve(shutdown.clone()), service.run(shutdown));
    served.context("gRPC")?;
    closed.context("closing the queue's store")
}

/// What this process reads of the config file.
struct Config {
    server: ServerConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    queue: QueueConfig,
}

impl Config {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let document = Document::load(Some(path))?;
        let config = Self {
            server: document.section("server")?,
            services: document.section("services")?,
            telemetry: document.section("telemetry")?,
            queue: document.section("queue")?,
        };
        let mut problems = config.server.validate();
        problems.extend(config.services.validate());
        problems.extend(config.telemetry.validate());
        problems.extend(config.queue.validate());
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(config)
    }
}

/// Cancels `shutdown` on SIGTERM or SIGINT.
fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: finishing what is under way"),
            _ = interrupt.recv() => info!("SIGINT: finishing what is under way"),
        }
        shutdown.cancel();
    })
}
