//! The mailboxes as a process of their own: directory and final delivery over gRPC, and POP3.

use std::path::Path;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{ConfigError, Document, ServerConfig};
use postrider_mailbox::{MailboxConfig, MailboxService, Pop3};
use postrider_process::{Changes, ConfigFile, StopSignals, needs_restart};
use postrider_protocol::grpc::{Server, ServicesConfig};
use postrider_telemetry::TelemetryConfig;
use postrider_tls::{ServerCertificate, TlsConfig};
use tokio_util::sync::CancellationToken;
use tracing::info;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps mailboxes: takes mail from delivery, answers for addresses and passwords, serves POP3.
///
/// Reads the sections [server], [tls], [services], [telemetry] and [mailbox] of the configuration.
#[derive(Parser)]
#[command(name = "postrider-mailbox", version)]
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
    let telemetry = postrider_telemetry::start("mailbox", &settings.telemetry)?;
    let changes = Changes::watch(path.as_deref()).context("listening for SIGHUP")?;
    postrider_tls::install_default_provider();
    let server = &settings.server;
    let certificate = ServerCertificate::load(&settings.tls, &server.hostname, &server.data_dir)?;
    let service = MailboxService::open(server, settings.mailbox.clone())?;
    let pop3 = Pop3::bind(
        server,
        settings.mailbox.pop3.clone(),
        service.clone(),
        certificate.clone(),
    )?;
    let services = &settings.services;
    let grpc = Server::new()
        .directory(service.clone())
        .mailbox(service.clone())
        .bind("mailbox_listen", services.mailbox_listen, services)
        .await?;
    let stop = CancellationToken::new();
    tokio::spawn(signals.run(stop.clone()));
    postrider_telemetry::health::global()
        .component("mailbox")
        .ready();
    info!(grpc = %grpc.local_addr(), "mailbox serves");
    let (mailboxes, reloader) = (service.clone(), pop3.reloader());
    let read = move || Settings::read(path.as_deref());
    let take_over = move |new: Settings| {
        let certificate = certificate.reload().err();
        let mut left = Vec::from_iter(certificate.map(|error| format!("tls: {error:#}")));
        left.extend(telemetry.reload(&new.telemetry));
        left.extend(mailboxes.reload(&new.server, &new.mailbox));
        left.extend(reloader.reload(new.mailbox.pop3));
        left.extend(needs_restart("server", &new.server, &settings.server));
        left.extend(needs_restart("tls", &new.tls, &settings.tls));
        left.extend(needs_restart("services", &new.services, &settings.services));
        left
    };
    let reloading = postrider_process::reload(changes, stop.clone(), read, take_over);
    let serving = async {
        let served = grpc.serve(stop.clone()).await;
        stop.cancel();
        served
    };
    let (served, (), (), ()) = tokio::join!(
        serving,
        pop3.serve(stop.clone()),
        service.run(stop.clone()),
        reloading
    );
    served.context("gRPC")
}

/// What this process reads of the configuration.
struct Settings {
    server: ServerConfig,
    tls: TlsConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    mailbox: MailboxConfig,
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
            mailbox: reader.section("mailbox", MailboxConfig::validate),
        };
        reader.finish()?;
        Ok(settings)
    }
}
