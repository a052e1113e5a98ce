//! From a file into a store.

use std::path::Path;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use postrider_config::ServerConfig;
use postrider_protocol::Status;
use postrider_protocol::queue_v1::ExportedMessage;
use tokio::fs::File;
use tokio::io::BufReader;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::file::{BodyBegin, Frame, Reader, Totals};
use crate::bodies::Bodies;
use crate::config::QueueConfig;
use crate::open;
use crate::store::{Enqueued, Record, Store, StoreError};

/// Messages, and bytes of them, that are given to the store at a time.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 4 << 20;

/// What an import has done.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// What is in the file.
    pub totals: Totals,
    /// Messages that were taken in.
    pub taken: u64,
    /// Messages that the store had already, from an earlier try.
    pub known: u64,
}

type FileReader = Reader<BufReader<File>>;

/// Takes a file's messages into the configured queue. The file is read to its end first, so that
/// one that is damaged or cut short changes nothing. What the store has already is passed over:
/// an import that broke off is simply run again.
///
/// # Errors
/// The file is not whole, the store cannot be opened, or it refuses something. What was taken in
/// until then stays.
pub async fn import(
    server: &ServerConfig,
    config: &QueueConfig,
    path: &Path,
    mut progress: impl FnMut(&Imported),
) -> anyhow::Result<Imported> {
    let in_file = || path.display().to_string();
    let totals = verify(path).await.with_context(in_file)?;
    let store = open::store(server, config).await?;
    let bodies = open::bodies(server, config)?;
    let mut done = Imported {
        totals,
        ..Imported::default()
    };
    let taken = take(&*store, &bodies, path, &mut done, &mut progress).await;
    store.close().await?;
    taken.with_context(|| {
        format!(
            "{}: {} of {} messages are taken in; run the import again",
            path.display(),
            done.taken + done.known,
            totals.messages
        )
    })?;
    Ok(done)
}

async fn open_file(path: &Path) -> anyhow::Result<FileReader> {
    let file = BufReader::with_capacity(256 << 10, File::open(path).await?);
    Ok(Reader::begin(file).await?.0)
}

/// Reads all of it, and compares what is in it with its totals.
async fn verify(path: &Path) -> anyhow::Result<Totals> {
    let mut reader = open_file(path).await?;
    loop {
        if let Frame::End(totals) = reader.next().await? {
            anyhow::ensure!(
                totals == reader.totals,
                "its totals do not fit: they say {totals:?}, and there is {:?}",
                reader.totals
            );
            return Ok(totals);
        }
    }
}

async fn take(
    store: &dyn Store,
    bodies: &Bodies,
    path: &Path,
    done: &mut Imported,
    progress: &mut impl FnMut(&Imported),
) -> anyhow::Result<()> {
    let mut reader = open_file(path).await?;
    let mut batch = Batch::default();
    loop {
        match reader.next().await? {
            Frame::Message(message) => {
                batch.push(*message);
                if batch.is_full() {
                    batch.give(store, done).await?;
                    progress(done);
                }
            }
            Frame::BodyBegin(begin) => take_body(bodies, &mut reader, begin).await?,
            Frame::Suspension(suspension) => store.suspend(suspension).await?,
            Frame::Kept(kept) => {
                let record = Record {
                    kind: kept.kind,
                    key: kept.key,
                    version: 1,
                    value: kept.value,
                };
                // One that is there is newer.
                store.put_record(record).await?;
            }
            Frame::End(_) => {
                batch.give(store, done).await?;
                return Ok(());
            }
            Frame::Begin(_) | Frame::BodyPiece(_) | Frame::BodyEnd => {
                anyhow::bail!("a frame is where it does not belong")
            }
        }
    }
}

#[derive(Default)]
struct Batch {
    messages: Vec<ExportedMessage>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, message: ExportedMessage) {
        self.bytes += prost::Message::encoded_len(&message);
        self.messages.push(message);
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    async fn give(&mut self, store: &dyn Store, done: &mut Imported) -> anyhow::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let messages = std::mem::take(&mut self.messages);
        let ids: Vec<String> = messages
            .iter()
            .filter_map(|message| Some(message.message.as_ref()?.queue_id.clone()))
            .collect();
        let results = store.import(messages).await;
        let mut problem: Option<(String, StoreError)> = None;
        for (at, result) in results.into_iter().enumerate() {
            match result {
                Ok(Enqueued::Accepted) => done.taken += 1,
                Ok(Enqueued::AlreadyAccepted) => done.known += 1,
                Err(error) => {
                    let id = ids.get(at).cloned().unwrap_or_default();
                    problem.get_or_insert((id, error));
                }
            }
        }
        match problem {
            None => Ok(()),
            Some((id, error)) => Err(anyhow::Error::new(error).context(format!("message {id}"))),
        }
    }
}

/// Stores a body under the name that it has, unless it is there.
async fn take_body(
    bodies: &Bodies,
    reader: &mut FileReader,
    begin: BodyBegin,
) -> anyhow::Result<()> {
    let failed = |error: Status| anyhow::anyhow!("stored body {}: {}", begin.name, error.message());
    let is_there = bodies.size(&begin.name).await.map_err(failed)? == Some(begin.size);
    let (pieces, stream) = mpsc::channel(2);
    let stored = async {
        match is_there {
            true => {
                drop(stream);
                Ok(begin.size)
            }
            false => bodies
                .put_as(&begin.name, ReceiverStream::new(stream).boxed())
                .await
                .map_err(failed),
        }
    };
    let fed = async {
        loop {
            match reader.next().await? {
                // Nobody takes them if the body is there; if storing has failed, that is told.
                Frame::BodyPiece(piece) => drop(pieces.send(Ok(piece)).await),
                Frame::BodyEnd => break,
                _ => {
                    // What was stored of it must not pass for all of it.
                    let broken = Status::aborted("the file breaks off");
                    pieces.send(Err(broken)).await.ok();
                    anyhow::bail!("stored body {} breaks off", begin.name);
                }
            }
        }
        drop(pieces);
        anyhow::Ok(())
    };
    let (stored, fed) = tokio::join!(stored, fed);
    fed?;
    let size = stored?;
    anyhow::ensure!(
        size == begin.size,
        "stored body {} has {size} bytes, and should have {}",
        begin.name,
        begin.size
    );
    Ok(())
}
