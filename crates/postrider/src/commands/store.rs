//! `postrider store …`: the queue's files, beside a server.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postrider_queue::{check, transfer};

use super::{OK, nothing, store_check};
use crate::cli::StoreCommand;
use crate::out;
use crate::settings::Settings;

/// Carries out a command on the configured store.
///
/// # Errors
/// The store is in use, or cannot be read at all.
pub async fn run(settings: &Settings, command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Check { json } => {
            let report = check::check(&settings.server, &settings.queue).await?;
            match json {
                true => out::line(store_check::json(&report))?,
                false => out::lines(&store_check::text(&report))?,
            }
            Ok(if report.is_clean() { OK } else { nothing() })
        }
        StoreCommand::Export { file, force } => export(settings, &file, force).await,
        StoreCommand::Import { file } => import(settings, &file).await,
    }
}

async fn export(settings: &Settings, file: &Path, force: bool) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::default();
    let (server, queue) = (&settings.server, &settings.queue);
    let exported = transfer::export(server, queue, file, force, |totals| {
        progress.say(totals.messages);
    })
    .await?;
    progress.end();
    out::line(format_args!(
        "{} holds {}.",
        file.display(),
        contents(&exported.totals)
    ))?;
    for id in &exported.without_body {
        anstream::eprintln!("The stored body of message {id} is missing, and not in the file.");
    }
    if exported.left_out > 0 {
        anstream::eprintln!(
            "{} queued deliveries could not be read and are not in the file; postrider store check \
             tells more.",
            exported.left_out
        );
    }
    let is_whole = exported.left_out == 0 && exported.without_body.is_empty();
    Ok(if is_whole { OK } else { nothing() })
}

async fn import(settings: &Settings, file: &Path) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::default();
    let (server, queue) = (&settings.server, &settings.queue);
    let imported = transfer::import(server, queue, file, |done| {
        progress.say(done.taken + done.known);
    })
    .await?;
    progress.end();
    out::line(format_args!(
        "{} held {}. {} messages were taken in; {} were there already.",
        file.display(),
        contents(&imported.totals),
        imported.taken,
        imported.known
    ))?;
    Ok(OK)
}

fn contents(totals: &transfer::Totals) -> String {
    format!(
        "{} messages with {} deliveries to {} recipients, {} stored bodies of {} bytes, {} \
         suspensions, {} other records",
        totals.messages,
        totals.deliveries,
        totals.recipients,
        totals.bodies,
        totals.body_bytes,
        totals.suspensions,
        totals.records
    )
}

/// How far it is, on a terminal's last line.
#[derive(Default)]
struct Progress {
    said: Option<Instant>,
}

impl Progress {
    fn say(&mut self, messages: u64) {
        let is_due = self
            .said
            .is_none_or(|said| said.elapsed() > Duration::from_millis(200));
        if is_due && std::io::stderr().is_terminal() {
            self.said = Some(Instant::now());
            anstream::eprint!("\r{messages} messages");
            // If it is not seen, it is not missed.
            std::io::stderr().flush().ok();
        }
    }

    fn end(&mut self) {
        if self.said.take().is_some() {
            anstream::eprintln!();
        }
    }
}
