//! The edge as a process of its own; the queue and the directory are reached over gRPC.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{ConfigError, Document, ServerConfig};
use postrider_edge::{Edge, EdgeConfig};
use postrider_process::{Changes, ConfigFile, StopSignals, needs_restart};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_telemetry::TelemetryConfig;
use postrider_tls::{ServerCertificate, TlsConfig};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes mail over SMTP and hands it to the queue.
///
/// Reads the sections [server], [tls], [services], [telemetry] and [edge] of the configuration.
#[derive(Parser)]
#[command(name = "postrider-edge", version)]
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
    let telemetry = postrider_telemetry::start("edge", &settings.telemetry)?;
    let changes = Changes::watch(path.as_deref()).context("listening for SIGHUP")?;
    postrider_tls::install_default_provider();
    let server = &settings.server;
    let certificate = ServerCertificate::load(&settings.tls, &server.hostname, &server.data_dir)?;
    let edge = Edge::bind(
        server,
        settings.edge.clone(),
        certificate.clone(),
        Arc::new(grpc::queue(&settings.services)?),
        Arc::new(grpc::mailbox(&settings.services)?),
    )?;
    let stop = CancellationToken::new();
    tokio::spawn(signals.run(stop.clone()));
    let reloader = edge.reloader();
    let read = move || Settings::read(path.as_deref());
    let take_over = move |new: Settings| {
        let certificate = certificate.reload().err();
        let mut left = Vec::from_iter(certificate.map(|error| format!("tls: {error:#}")));
        left.extend(telemetry.reload(&new.telemetry));
        left.extend(reloader.reload(new.edge));
        left.extend(needs_restart("server", &new.server, &settings.server));
        left.extend(needs_restart("tls", &new.tls, &settings.tls));
        left.extend(needs_restart("services", &new.services, &settings.services));
        left
    };
    let reloading = postrider_process::reload(changes, stop.clone(), read, take_over);
    tokio::join!(edge.serve(stop), reloading);
    Ok(())
}

/// What this process reads of the configuration.
struct Settings {
    server: ServerConfig,
    tls: TlsConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    edge: EdgeConfig,
}

impl Settings {
    fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let document = Document::load(path)?;
        let mut reader = document.reader();
        let settings = Self {
            server: reader.section("server", ServerConfig::validate),
            tls: reader.section("tls", TlsConfig::validate),
            services: reader.section("services", ServicesConfig::validate),
            telemetry: reader.section("telemetry", TelemetryConfig::validate),
            edge: reader.section("edge", EdgeConfig::validate),
        };
        reader.finish()?;
        Ok(settings)
    }
}
