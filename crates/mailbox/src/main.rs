//! The mailboxes as a process of their own: directory and final delivery over gRPC, and POP3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use postrider_config::{Document, ServerConfig};
use postrider_mailbox::{MailboxConfig, MailboxService, Pop3, Pop3Reloader};
use postrider_protocol::grpc::{Server, ServicesConfig};
use postrider_telemetry::TelemetryConfig;
use postrider_tls::{ServerCertificate, TlsConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps mailboxes: takes mail from delivery, answers for addresses and passwords, serves POP3.
#[derive(Parser)]
#[command(name = "postrider-mailbox", version)]
struct Arguments {
    /// The config file; its sections [server], [tls], [services], [telemetry] and [mailbox] are read.
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::load(&arguments.config)?;
    let _telemetry = postrider_telemetry::start("mailbox", &config.telemetry)?; // flushes when dropped
    postrider_tls::install_default_provider();
    let server = &config.server;
    let certificate = ServerCertificate::load(&config.tls, &server.hostname, &server.data_dir)?;
    let service = MailboxService::open(server, config.mailbox.clone())?;
    let pop3 = Pop3::bind(
        server,
        config.mailbox.pop3,
        service.clone(),
        certificate.clone(),
    )?;
    let grpc = Server::new()
        .directory(service.clone())
        .mailbox(service.clone())
        .bind(
            "mailbox_listen",
            config.services.mailbox_listen,
            &config.services,
        )
        .await?;
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone())?);
    let reload = Reload {
        path: arguments.config,
        service: service.clone(),
        pop3: pop3.reloader(),
        certificate,
    };
    tokio::spawn(reload.on_hangup()?);
    let ready = postrider_telemetry::health::global().component("mailbox");
    ready.ready();
    info!(grpc = %grpc.local_addr(), "mailbox serves");
    let (served, (), ()) = tokio::join!(
        grpc.serve(shutdown.clone()),
        pop3.serve(shutdown.clone()),
        service.run(shutdown)
    );
    served.context("gRPC")
}

/// What this process reads of the config file.
struct Config {
    server: ServerConfig,
    tls: TlsConfig,
    services: ServicesConfig,
    telemetry: TelemetryConfig,
    mailbox: MailboxConfig,
}

impl Config {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let document = Document::load(Some(path))?;
        let config = Self {
            server: document.section("server")?,
            tls: document.section("tls")?,
            services: document.section("services")?,
            telemetry: document.section("telemetry")?,
            mailbox: document.section("mailbox")?,
        };
        let mut problems = config.tls.validate();
        problems.extend(config.services.validate());
        problems.extend(config.mailbox.validate());
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

/// What SIGHUP reads again.
struct Reload {
    path: PathBuf,
    service: Arc<MailboxService>,
    pop3: Pop3Reloader,
    certificate: Arc<ServerCertificate>,
}

impl Reload {
    fn on_hangup(self) -> anyhow::Result<impl Future<Output = ()>> {
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(async move {
            while hangup.recv().await.is_some() {
                self.reload();
            }
        })
    }

    fn reload(&self) {
        if let Err(error) = self.certificate.reload() {
            warn!(error = format!("{error:#}"), "certificate not reloaded");
        }
        match Config::load(&self.path) {
            Ok(config) => {
                let mut problems = self.service.reload(&config.server, &config.mailbox);
                problems.extend(self.pop3.reload(config.mailbox.pop3));
                for problem in problems {
                    warn!(problem, "not reloaded");
                }
                info!("settings read again");
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "the old settings stay in force"
                );
            }
        }
    }
}
