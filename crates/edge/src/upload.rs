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
    /// Octets handed on.
    sent: u64,
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
        Self {
            chunks,
            task,
            sent: 0,
        }
    }

    /// Hands on one chunk, and waits while the store is behind.
    ///
    /// # Errors
    /// The store has failed or is too slow.
    pub(crate) async fn send(&mut self, data: Bytes, wait: Duration) -> Result<(), Status> {
        self.sent += data.len() as u64;
        self.put(Piece::Data(data), wait).await
    }

    /// Ends the body, and waits until it is stored.
    ///
    /// # Errors
    /// The store has failed or is too slow.
    pub(crate) async fn finish(mut self, wait: Duration) -> Result<PutBodyResponse, Status> {
        self.put(Piece::End, wait).await?;
        let Ok(ended) = timeout(wait, &mut self.task).await else {
            self.task.abort();
            return Err(Status::deadline_exceeded("storing the body took too long"));
        };
        let stored = ended.map_err(|_| given_up())??;
        if stored.size != self.sent {
            return Err(Status::data_loss(format!(
                "{} octets were sent and {} stored",
                self.sent, stored.size
            )));
        }
        Ok(stored)
    }

    async fn put(&mut self, piece: Piece, wait: Duration) -> Result<(), Status> {
        let handed_on = async {
            match self.chunks.send(piece).await {
                Ok(()) => Ok(()),
                // The store has stopped listening, and the task says why.
                Err(_) => Err(match (&mut self.task).await {
                    Ok(Err(status)) => status,
                    Ok(Ok(_)) => Status::internal("the store ended the body early"),
                    Err(_) => given_up(),
                }),
            }
        };
        match timeout(wait, handed_on).await {
            Ok(result) => result,
            Err(_) => {
                self.task.abort();
                Err(Status::deadline_exceeded("the store is too slow"))
            }
        }
    }
}

fn given_up() -> Status {
    Status::internal("storing the body was given up")
}
