//! `postrider-delivery`: the delivery worker as a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{Document, ServerConfig};
use postrider_delivery::{Delivery, DeliveryConfig, METRICS, Reloader};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_telemetry::{TelemetryConfig, metric};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hands queued mail to other mail servers and to the mailboxes of this system.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The config file; without one, defaults and the environment count.
    #[arg(short, long, env = "POSTRIDER_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = Arguments::parse().config;
    let document = Document::load(path.as_deref()).context("reading the configuration")?;
    let server: ServerConfig = document.section("server")?;
    let services: ServicesConfig = document.section("services")?;
    let telemetry: TelemetryConfig = document.section("telemetry")?;
    let config: DeliveryConfig = document.section("delivery")?;

    let _telemetry = postrider_telemetry::start("delivery", &telemetry)?; // flushes when dropped
    metric::describe(METRICS);
    let queue = Arc::new(grpc::queue(&services).context("the queue service")?);
    let mailbox = Arc::new(grpc::mailbox(&services).context("the mailbox service")?);
    let delivery = Delivery::new(&server, config, queue, mailbox)?;

    let shutdown = CancellationToken::new();
    tokio::spawn(on_signals(delivery.reloader(), path, shutdown.clone()));
    delivery.run(shutdown).await;
    Ok(())
}

/// SIGHUP reloads; SIGTERM and SIGINT stop.
async fn on_signals(reloader: Reloader, path: Option<PathBuf>, shutdown: CancellationToken) {
    let signals = || -> std::io::Result<_> {
        Ok((
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    };
    let (mut hangup, mut terminate, mut interrupt) = match signals() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            shutdown.cancel();
            return;
        }
    };
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&reloader, path.as_deref()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    shutdown.cancel();
}

fn reload(reloader: &Reloader, path: Option<&std::path::Path>) {
    let section = Document::load(path).and_then(|document| document.section("delivery"));
    match section {
        Ok(config) => {
            for problem in reloader.reload(config) {
                tracing::warn!("{problem}");
            }
            tracing::info!("configuration reloaded");
        }
        Err(error) => tracing::error!(%error, "the configuration stays as it was"),
    }
}
