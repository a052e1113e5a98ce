//! The edge as a process of its own; the queue and the directory are reached over gRPC.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{Document, ServerConfig};
use postrider_edge::{Edge, EdgeConfig, Reloader};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_telemetry::TelemetryConfig;
use postrider_tls::{ServerCertificate, TlsConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes mail over SMTP and hands it to the queue.
#[derive(Parser)]
#[command(name = "postrider-edge", version)]
struct Arguments {
    /// The config file; its sections [server], [tls], [services], [telemetry] and [edge] are read.
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.config)?;
    let _telemetry = postrider_telemetry::start("edge", &config.telemetry)?; // flushes when dropped
    postrider_tls::install_default_provider();
    let server = &config.server;
    let certificate = ServerCertificate::load(&config.tls, &server.hostname, &server.data_dir)?;
    let queue = Arc::new(grpc::queue(&config.services)?);
    let directory = Arc::new(grpc::mailbox(&config.services)?);
    let edge = Edge::bind(
        server,
        config.edge,
        Arc::clone(&certificate),
        queue,
        directory,
    )?;
    let shutdown = CancellationToken::new();
    tokio::spawn(reload_on_hangup(
        arguments.config,
        edge.reloader(),
        certificate,
    ));
    tokio::spawn(stop_on_signal(shutdown.clone()));
    edge.serve(shutdown).await;
    Ok(())
}

/// What this process reads of the config file.
struct Config {
    server: ServerConfig,
    tls: TlsConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    edge: EdgeConfig,
}

impl Config {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let document = Document::load(Some(path))?;
        Ok(Self {
            server: document.section("server")?,
            tls: document.section("tls")?,
            services: document.section("services")?,
            telemetry: document.section("telemetry")?,
            edge: document.section("edge")?,
        })
    }
}

/// Cancels `shutdown` on SIGTERM or SIGINT.
async fn stop_on_signal(shutdown: CancellationToken) {
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok((terminate, interrupt))
    });
    match signals {
        Ok((mut terminate, mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM"),
                _ = interrupt.recv() => info!("SIGINT"),
            }
        }
        Err(error) => error!(%error, "cannot listen to signals"),
    }
    shutdown.cancel();
}

/// Reads the config file and the certificate again at each SIGHUP.
async fn reload_on_hangup(path: PathBuf, edge: Reloader, certificate: Arc<ServerCertificate>) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            error!(%error, "cannot listen to SIGHUP");
            return;
        }
    };
    while hangup.recv().await.is_some() {
        if let Err(error) = certificate.reload() {
            warn!(error = format!("{error:#}"), "certificate not reloaded");
        }
        match Config::load(&path).context("the old settings stay in force") {
            Ok(config) => {
                for problem in edge.reload(config.edge) {
                    warn!(problem, "not reloaded");
                }
            }
            Err(error) => warn!(error = format!("{error:#}"), "settings not reloaded"),
        }
    }
}
