//! A large body on its way into the queue's body store, while it arrives.
//!
//! Backpressure is a bounded channel: a slow store slows down the reading of the socket, so a
//! message in flight holds a few chunks, whatever its size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use postrider_protocol::Status;
use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::PutBodyResponse;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Chunks that may wait for the store.
const WAITING: usize = 2;

/// A body that is being stored. Dropped before [`Upload::finish`], it is given up: the store
/// sees an error and not a shorter body.
pub(crate) struct Upload {
    chunks: mpsc::Sender<Piece>,
    task: JoinHandle<Result<PutBodyResponse, Status>>,
}

enum Piece {
    Data(Bytes),
    /// Only this ends a body. A channel that closes without it means that the client is gone.
    End,
}

impl Upload {
    /// Begins to store a body.
    pub(crate) fn start(queue: Arc<dyn Queue>) -> Self {
        let (chunks, waiting) = mpsc::channel(WAITING);
        let body = stream::unfold(Some(waiting), async |waiting| {
            let mut waiting = waiting?;
            match waiting.recv().await {
                Some(Piece::Data(data)) => Some((Ok(data), Some(waiting))),
                Some(Piece::End) => None,
                None => Some((Err(Status::cancelled("the client is gone")), None)),
            }
        });
        let task = tokio::spawn(async move { queue.put_body(body.boxed()).await });
        Self { chunks, task }
    }

    /// Hands on one chunk, and waits while the store is behind.
    ///
    /// # Errors
    /// The store has failed or is too slow.
    pub(crate) async fn send(&mut self, data: Bytes, wait: Duration) -> Result<(), Status> {
        self.put(Piece::Data(data), wait).await
    }

    /// Ends the body, and waits until it is stored.
    ///
    /// # Errors
    /// The store has failed or is too slow.
    pub(crate) async fn finish(mut self, wait: Duration) -> Result<PutBodyResponse, Status> {
        self.put(Piece::End, wait).await?;
        match timeout(wait, &mut self.task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Status::internal("storing the body was given up")),
            Err(_) => {
                self.task.abort();
                Err(Status::deadline_exceeded("storing the body took too long"))
            }
        }
    }

    async fn put(&mut self, piece: Piece, wait: Duration) -> Result<(), Status> {
        match timeout(wait, self.chunks.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.why().await),
            Err(_) => {
                self.task.abort();
                Err(Status::deadline_exceeded("the store is too slow"))
            }
        }
    }

    /// Why the store has stopped listening.
    async fn why(&mut self) -> Status {
        match (&mut self.task).await {
            Ok(Err(status)) => status,
            Ok(Ok(_)) => Status::internal("the store ended the body early"),
            Err(_) => Status::internal("storing the body was given up"),
        }
    }
}
