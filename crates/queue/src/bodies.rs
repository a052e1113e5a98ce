//! Stored bodies: content that is too large for the queue's own records.
//!
//! Streamed in and out piece by piece, so that memory does not grow with the size. A body is
//! durable before the message that names it is enqueued; it is deleted after the message has
//! ended; what a crash leaves without a message is swept.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use postrider_protocol::Status;
use postrider_protocol::api::{self, BodyStream};
use postrider_protocol::queue_v1::PutBodyResponse;

use crate::store::{Store, StoreError};

/// Pieces are gathered to this size before they are written.
const PIECE: usize = 1 << 20;
/// A body that no message names may be younger than this: its enqueue may be on its way.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// Bodies that are looked at together.
const BATCH: usize = 500;

/// Where stored bodies are.
#[derive(Debug, Clone)]
pub(crate) struct Bodies {
    objects: Arc<dyn ObjectStore>,
}

impl Bodies {
    /// Bodies in a local folder.
    pub(crate) fn in_dir(dir: &FilePath) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("making the folder of bodies {}", dir.display()))?;
        let objects = LocalFileSystem::new_with_prefix(dir)
            .with_context(|| format!("opening the folder of bodies {}", dir.display()))?
            .with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
        })
    }

    /// Stores a body under a new name, durable when this returns. Nothing is left of a body
    /// that breaks off.
    pub(crate) async fn put(&self, mut body: BodyStream) -> api::Result<PutBodyResponse> {
        let name = new_name();
        let path = Path::from(name.as_str());
        let mut upload = self.objects.put_multipart(&path).await.map_err(status)?;
        let mut gathered: Vec<Bytes> = Vec::new();
        let mut gathered_len = 0;
        let mut size = 0;
        let written = async {
            while let Some(piece) = body.next().await {
                let piece = piece?;
                size += piece.len() as u64;
                gathered_len += piece.len();
                gathered.push(piece);
                if gathered_len >= PIECE {
                    let part = PutPayload::from_iter(std::mem::take(&mut gathered));
                    gathered_len = 0;
                    upload.put_part(part).await.map_err(status)?;
                }
            }
            if gathered_len > 0 {
                let part = PutPayload::from_iter(std::mem::take(&mut gathered));
                upload.put_part(part).await.map_err(status)?;
            }
            upload.complete().await.map_err(status)
        };
        if let Err(error) = written.await {
            // Dropping the upload removes it as well, should this fail.
            upload.abort().await.ok();
            return Err(error);
        }
        Ok(PutBodyResponse { name, size })
    }

    /// Stores content that is in memory.
    pub(crate) async fn put_content(&self, content: Bytes) -> api::Result<String> {
        let piece = futures_util::stream::once(async move { Ok(content) });
        Ok(self.put(piece.boxed()).await?.name)
    }

    /// Streams a stored body.
    pub(crate) async fn get(&self, name: &str) -> api::Result<BodyStream> {
        let path = checked(name)?;
        let found = self.objects.get(&path).await.map_err(status)?;
        Ok(found.into_stream().map_err(status).boxed())
    }

    /// Whether a body is there.
    pub(crate) async fn exists(&self, name: &str) -> api::Result<bool> {
        match self.objects.head(&checked(name)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(status(error)),
        }
    }

    /// Deletes a body; one that is gone already is fine.
    async fn delete(&self, name: &str) -> object_store::Result<()> {
        match self.objects.delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the bodies of messages that have ended. Returns how many there were.
    pub(crate) async fn delete_ended(&self, store: &dyn Store) -> Result<usize, StoreError> {
        let names = store.ended_bodies(BATCH).await?;
        let mut deleted = Vec::with_capacity(names.len());
        for name in names {
            match self.delete(&name).await {
                Ok(()) => deleted.push(name),
                Err(error) => tracing::warn!(body = name, %error, "an ended body stays for now"),
            }
        }
        let count = deleted.len();
        if count > 0 {
            store.forget_bodies(deleted).await?;
        }
        Ok(count)
    }

    /// Deletes bodies that are old and that no message names.
    pub(crate) async fn sweep(&self, store: &dyn Store) -> anyhow::Result<usize> {
        let mut listing = self.objects.list(None);
        let mut old = Vec::new();
        let mut swept = 0;
        loop {
            let next = listing.try_next().await?;
            let at_end = next.is_none();
            if let Some(found) = next {
                let age = SystemTime::now()
                    .duration_since(SystemTime::from(found.last_modified))
                    .unwrap_or_default();
                if age > ORPHAN_AGE {
                    old.push(found.location.to_string());
                }
            }
            if old.len() >= BATCH || at_end && !old.is_empty() {
                let named = store.bodies_in_use(old.clone()).await?;
                for name in old.drain(..).filter(|name| !named.contains(name)) {
                    tracing::info!(body = name, "a body that no message names is deleted");
                    self.delete(&name).await?;
                    swept += 1;
                }
            }
            if at_end {
                return Ok(swept);
            }
        }
    }
}

/// 128 random bits: unguessable, and not the queue id, so that a repeated upload is another body.
fn new_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Only names that were given out: they come back from other services.
fn checked(name: &str) -> api::Result<Path> {
    let is_ours = name.len() == 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match is_ours {
        true => Ok(Path::from(name)),
        false => Err(Status::invalid_argument("this is not the name of a body")),
    }
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
