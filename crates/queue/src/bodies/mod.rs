//! Stored bodies: content that is too large for the queue's own records.
//!
//! Streamed in and out piece by piece, so that memory does not grow with the size. A body is
//! durable before the message that names it is enqueued; it is deleted after the message has
//! ended; what a crash leaves without a message is swept (`sweep`). They lie in a folder, or in
//! a bucket of S3 (`s3`).

pub(crate) mod config;
#[cfg(feature = "s3")]
mod s3;
mod sweep;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use postrider_protocol::Status;
use postrider_protocol::api::{self, BodyStream};
use postrider_protocol::queue_v1::PutBodyResponse;

use crate::metrics;
use config::{BodiesConfig, BodiesKind};

/// Pieces are gathered to this size before they are written to a folder.
const PIECE: usize = 1 << 20;
/// The same for a bucket: S3 takes no parts below 5 MiB, but the last.
#[cfg(feature = "s3")]
const BUCKET_PIECE: usize = 8 << 20;

/// Where stored bodies are.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    objects: Arc<dyn ObjectStore>,
    piece: usize,
    /// The folder, if it is one.
    dir: Option<PathBuf>,
}

impl Bodies {
    /// Bodies where the settings say.
    pub(crate) fn open(config: &BodiesConfig, default_dir: PathBuf) -> anyhow::Result<Self> {
        match config.kind {
            BodiesKind::Folder if config.dir.as_os_str().is_empty() => Self::in_dir(&default_dir),
            BodiesKind::Folder => Self::in_dir(&config.dir),
            #[cfg(feature = "s3")]
            BodiesKind::S3 => Ok(Self {
                objects: s3::open(&config.s3)?,
                piece: BUCKET_PIECE,
                dir: None,
            }),
            #[cfg(not(feature = "s3"))]
            BodiesKind::S3 => anyhow::bail!("this program was built without S3"),
        }
    }

    /// Bodies in a local folder.
    pub(crate) fn in_dir(dir: &FilePath) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("making the folder of bodies {}", dir.display()))?;
        let objects = LocalFileSystem::new_with_prefix(dir)
            .with_context(|| format!("opening the folder of bodies {}", dir.display()))?
            .with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
            piece: PIECE,
            dir: Some(dir.to_owned()),
        })
    }

    /// Stores a body under a new name, durable when this returns. Nothing is left of a body
    /// that breaks off.
    pub(crate) async fn put(&self, body: BodyStream) -> api::Result<PutBodyResponse> {
        let name = new_name();
        let size = self.put_as(&name, body).await?;
        Ok(PutBodyResponse { name, size })
    }

    /// Stores a body under a name that is known already; returns its size.
    pub(crate) async fn put_as(&self, name: &str, mut body: BodyStream) -> api::Result<u64> {
        let path = checked(name)?;
        let (first, first_len) = self.gather(&mut body).await?;
        if first_len < self.piece {
            // All of it: one request.
            let payload = PutPayload::from_iter(first);
            self.objects.put(&path, payload).await.map_err(status)?;
            return Ok(first_len as u64);
        }
        let mut upload = self.objects.put_multipart(&path).await.map_err(status)?;
        let mut size = 0;
        let written = async {
            let (mut pieces, mut len) = (first, first_len);
            while len > 0 {
                size += len as u64;
                let part = PutPayload::from_iter(pieces);
                upload.put_part(part).await.map_err(status)?;
                (pieces, len) = self.gather(&mut body).await?;
            }
            upload.complete().await.map_err(status)
        };
        if let Err(error) = written.await {
            // Dropping the upload removes it as well, should this fail.
            upload.abort().await.ok();
            return Err(error);
        }
        Ok(size)
    }

    /// Takes at least a piece's size from the stream, unless it ends before.
    async fn gather(&self, body: &mut BodyStream) -> api::Result<(Vec<Bytes>, usize)> {
        let (mut gathered, mut len) = (Vec::new(), 0);
        while len < self.piece
            && let Some(piece) = body.next().await
        {
            let piece = piece?;
            len += piece.len();
            gathered.push(piece);
        }
        Ok((gathered, len))
    }

    /// Stores content that is in memory.
    pub(crate) async fn put_content(&self, content: Bytes) -> api::Result<String> {
        let piece = futures_util::stream::once(async move { Ok(content) });
        Ok(self.put(piece.boxed()).await?.name)
    }

    /// Streams a stored body to who delivers it. One that is not there is an alarm: somebody was
    /// told that its message was accepted.
    pub(crate) async fn get(&self, name: &str) -> api::Result<BodyStream> {
        let found = self.read(name).await;
        if let Err(error) = &found
            && error.code() == postrider_protocol::Code::NotFound
        {
            tracing::error!(
                body = name,
                "a stored body is missing: its message is deferred, put the body back"
            );
            metrics::missing_body();
        }
        found
    }

    /// Streams a stored body.
    pub(crate) async fn read(&self, name: &str) -> api::Result<BodyStream> {
        let path = checked(name)?;
        let found = self.objects.get(&path).await.map_err(status)?;
        Ok(found.into_stream().map_err(status).boxed())
    }

    /// The size of a body, if it is there.
    pub(crate) async fn size(&self, name: &str) -> api::Result<Option<u64>> {
        match self.objects.head(&checked(name)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(status(error)),
        }
    }

    /// Whether a body is there.
    pub(crate) async fn exists(&self, name: &str) -> api::Result<bool> {
        Ok(self.size(name).await?.is_some())
    }

    /// Deletes a body; one that is gone already is fine.
    async fn delete(&self, name: &str) -> object_store::Result<()> {
        match self.objects.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// 128 random bits: unguessable, and not the queue id, so that a repeated upload is another body.
fn new_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Only names that were given out: they come back from other services.
fn checked(name: &str) -> api::Result<Path> {
    match is_ours(name) {
        true => Ok(Path::from(name)),
        false => Err(Status::invalid_argument("this is not the name of a body")),
    }
}

fn is_ours(name: &str) -> bool {
    name.len() == 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn status(error: object_store::Error) -> Status {
    match error {
        object_store::Error::NotFound { .. } => Status::not_found("there is no such body"),
        error => Status::unavailable(format!("stored bodies: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn content(stream: BodyStream) -> Vec<u8> {
        let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
        pieces.concat()
    }

    #[tokio::test]
    async fn bodies_stream_in_and_out() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::in_dir(dir.path()).unwrap();
        let pieces: Vec<api::Result<Bytes>> = (0..300_u32)
            .map(|n| Ok(Bytes::from(vec![n as u8; 10_000])))
            .collect();
        let stored = bodies
            .put(futures_util::stream::iter(pieces).boxed())
            .await
            .unwrap();
        assert_eq!(stored.size, 3_000_000);
        let back = content(bodies.get(&stored.name).await.unwrap()).await;
        assert_eq!(back.len(), 3_000_000);
        assert!(
            back.iter()
                .enumerate()
                .all(|(n, b)| *b == (n / 10_000) as u8)
        );
        assert!(bodies.exists(&stored.name).await.unwrap());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::in_dir(dir.path()).unwrap();
        let broken = futures_util::stream::iter([
            Ok(Bytes::from_static(b"half")),
            Err(Status::cancelled("gone")),
        ]);
        assert!(bodies.put(broken.boxed()).await.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn names_from_outside_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let bodies = Bodies::in_dir(dir.path()).unwrap();
        for name in ["", "../secret", "/etc/passwd", &"A".repeat(32)] {
            let error = bodies.get(name).await.err().unwrap();
            assert_eq!(error.code(), postrider_protocol::Code::InvalidArgument);
        }
        let error = bodies.get(&"0".repeat(32)).await.err().unwrap();
        assert_eq!(error.code(), postrider_protocol::Code::NotFound);
    }
}
