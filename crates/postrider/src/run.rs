//! From the command line to what does it.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::grpc;
use tokio::net::TcpStream;

use crate::cli::{Cli, Command, Server};
use crate::commands::{self, OK};
use crate::settings::Settings;
use crate::source::Source;
use crate::{demo, serve};

/// Does what the command line asks for. The exit status is 0 if it was done, 1 if what was asked
/// for is not there or the answer is no; an error becomes 2.
///
/// # Errors
/// It could not be done.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let source = Source::of(cli.file.config);
    match cli.command {
        None => {
            serve::serve(source.or_tryout()).await?;
            Ok(OK)
        }
        Some(Command::Serve) => {
            serve::serve(source).await?;
            Ok(OK)
        }
        Some(Command::Demo(args)) => demo::run(args).await,
        Some(Command::Config(command)) => commands::config::run(&source, &command),
        Some(Command::Queue(command)) => {
            let queue = connect(command.server(), &source).await?;
            commands::queue::run(queue, *command).await
        }
        Some(Command::Store(command)) => commands::store::run(&source.read()?, command).await,
        Some(Command::Journey(args)) => {
            let queue = connect(&args.server, &source).await?;
            commands::journey::run(queue, args).await
        }
        Some(Command::Account(command)) => commands::account::run(&source.read()?, command),
        Some(Command::Certificates(args)) => commands::certificates::run(&args),
        Some(Command::Health(args)) => {
            commands::health::run(&health_address(args.place, &source)?).await
        }
    }
}

/// A client of a running server's queue.
async fn connect(server: &Server, source: &Source) -> anyhow::Result<Arc<dyn QueueAdmin>> {
    let mut services = source.read()?.services;
    if let Some(address) = &server.server {
        let scheme = if services.certificate.is_some() {
            "https://"
        } else {
            "http://"
        };
        services.queue = if address.contains("://") {
            address.clone()
        } else {
            format!("{scheme}{address}")
        };
    }
    // Services wait for a neighbour that restarts; a person wants to know at once.
    let authority = services.queue.split("://").last().unwrap_or_default();
    TcpStream::connect(authority.trim_end_matches('/'))
        .await
        .with_context(|| {
            format!(
                "no server answers at {} (is it running? --server names another)",
                services.queue
            )
        })?;
    Ok(Arc::new(grpc::queue(&services)?))
}

fn health_address(place: Option<String>, source: &Source) -> anyhow::Result<String> {
    if let Some(place) = place {
        let place = place.strip_prefix("http://").unwrap_or(&place);
        return Ok(place.trim_end_matches('/').to_owned());
    }
    let Settings { telemetry, .. } = source.read()?;
    let first = telemetry.listen.first();
    first
        .map(ToString::to_string)
        .context("telemetry.listen is empty, so nobody answers; name another place")
}
