//! From a store into a file.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use postrider_config::ServerConfig;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{ExportedMessage, body};
use tokio::fs::File;
use tokio::io::BufWriter;

use super::RECORD_KINDS;
use super::file::{Begin, BodyBegin, Frame, Kept, Totals, Writer};
use crate::bodies::Bodies;
use crate::config::QueueConfig;
use crate::open;
use crate::store::Store;
use crate::store::clock::{Clock as _, SystemClock};

/// Messages that are asked of the store at a time.
const PAGE: usize = 32;

/// What an export has written.
#[derive(Debug, Clone)]
pub struct Exported {
    /// What is in the file.
    pub totals: Totals,
    /// Messages whose stored body is missing; they are in the file, without it.
    pub without_body: Vec<QueueId>,
    /// Queued deliveries that could not be read, and are not in the file.
    pub left_out: u64,
}

/// Writes the configured queue into a new file. With an embedded store no server may run; Redis is
/// read while others use it, so they should be stopped as well.
///
/// # Errors
/// The store cannot be opened or read, mail is leased and `force` is not given, or the file is
/// there already or cannot be written. No half file is left under its name.
pub async fn export(
    server: &ServerConfig,
    config: &QueueConfig,
    path: &Path,
    force: bool,
    mut progress: impl FnMut(&Totals),
) -> anyhow::Result<Exported> {
    anyhow::ensure!(
        !path.exists(),
        "{}: there is a file already",
        path.display()
    );
    let store = open::store(server, config).await?;
    let bodies = open::bodies(server, config)?;
    let stats = store.stats().await?;
    anyhow::ensure!(
        stats.leased == 0 || force,
        "{} deliveries are being attempted now; stop the workers and the queue first (--force \
         exports these too, as waiting, and they may then be delivered twice)",
        stats.leased
    );
    let unfinished = path.with_file_name(format!(
        "{}.unfinished",
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    let file = File::create(&unfinished)
        .await
        .with_context(|| unfinished.display().to_string())?;
    let begin = Begin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_us: SystemClock::new().now_us(),
        store: format!("{:?}", config.store).to_ascii_lowercase(),
    };
    let writer = Writer::begin(BufWriter::new(file), begin).await?;
    let written = write(&*store, &bodies, writer, &mut progress).await;
    // Not messages: where a store has several partitions, it counts one in each that it is in. And
    // afterwards, since what was left on its way to a partition counts once it is there.
    let stats = store.stats().await?;
    let queued = stats.waiting + stats.leased + stats.held;
    store.close().await?;
    let (file, totals, without_body) = match written {
        Ok(written) => written,
        Err(error) => {
            tokio::fs::remove_file(&unfinished).await.ok();
            return Err(error);
        }
    };
    file.sync_all().await?;
    tokio::fs::rename(&unfinished, path).await?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder).await?.sync_all().await?;
    }
    Ok(Exported {
        left_out: queued.saturating_sub(totals.deliveries),
        totals,
        without_body,
    })
}

type Written = (File, Totals, Vec<QueueId>);

async fn write(
    store: &dyn Store,
    bodies: &Bodies,
    mut writer: Writer<BufWriter<File>>,
    progress: &mut impl FnMut(&Totals),
) -> anyhow::Result<Written> {
    // First, so that what they stop does not leave while the rest is still taken in.
    for suspension in store.suspensions().await? {
        writer.write(&Frame::Suspension(suspension)).await?;
    }
    for kind in RECORD_KINDS {
        for record in store.records(kind).await? {
            let kept = Kept {
                kind: record.kind,
                key: record.key,
                value: record.value,
            };
            writer.write(&Frame::Kept(kept)).await?;
        }
    }
    let mut without_body = Vec::new();
    let mut done: HashSet<String> = HashSet::new();
    let mut after = None;
    loop {
        let page = store.export(after, PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(queue_id(last)?);
        for message in page {
            if let Some(body) = message.message.as_ref().and_then(|new| new.body.as_ref())
                && let Some(body::Content::Stored(name)) = &body.content
                && !done.contains(name)
            {
                match write_body(bodies, &mut writer, name, body.size).await? {
                    true => drop(done.insert(name.clone())),
                    false => without_body.push(queue_id(&message)?),
                }
            }
            writer.write(&Frame::Message(Box::new(message))).await?;
        }
        progress(&writer.totals);
    }
    let (out, totals) = writer.end().await?;
    Ok((out.into_inner(), totals, without_body))
}

fn queue_id(message: &ExportedMessage) -> anyhow::Result<QueueId> {
    let id = message.message.as_ref().map(|new| new.queue_id.as_str());
    id.unwrap_or_default()
        .parse()
        .context("the store gave a message without an id")
}

/// Writes a stored body in pieces. `false` if it is not there.
async fn write_body(
    bodies: &Bodies,
    writer: &mut Writer<BufWriter<File>>,
    name: &str,
    size: u64,
) -> anyhow::Result<bool> {
    let mut pieces = match bodies.read(name).await {
        Ok(pieces) => pieces,
        Err(error) if error.code() == postrider_protocol::Code::NotFound => return Ok(false),
        Err(error) => return Err(anyhow::anyhow!("stored body {name}: {}", error.message())),
    };
    let begin = BodyBegin {
        name: name.to_owned(),
        size,
    };
    writer.write(&Frame::BodyBegin(begin)).await?;
    let unreadable = |error: postrider_protocol::Status| {
        anyhow::anyhow!("stored body {name}: {}", error.message())
    };
    while let Some(piece) = pieces.try_next().await.map_err(unreadable)? {
        let piece: Bytes = piece;
        writer.write(&Frame::BodyPiece(piece)).await?;
    }
    writer.write(&Frame::BodyEnd).await?;
    Ok(true)
}
