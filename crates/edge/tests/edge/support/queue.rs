//! A fake of the queue: it keeps messages in memory, and fails on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use postrider_protocol::Status;
use postrider_protocol::api::{BodyStream, Queue, Result};
use postrider_protocol::queue_v1::body::Content;
use postrider_protocol::queue_v1::{
    EnqueueResult, NewMessage, PutBodyResponse, QueueFrame, WorkerFrame, enqueue_result,
};
use tokio::sync::Semaphore;

/// What goes wrong with one call of `enqueue`.
pub(crate) enum Trouble {
    /// It fails, and nothing is stored.
    Fails(Status),
    /// It is stored, and the answer is lost.
    StoredButLost(Status),
    /// It is stored, and the queue says that it does not know.
    StoredUnconfirmed,
    /// The queue says so in its result.
    Says(enqueue_result::Status),
    /// It is stored after this long.
    Late(Duration),
    /// It never answers.
    Hangs,
}

/// Keeps what it accepts.
#[derive(Default)]
pub(crate) struct FakeQueue {
    messages: Mutex<Vec<NewMessage>>,
    bodies: Mutex<HashMap<String, Vec<u8>>>,
    troubles: Mutex<VecDeque<Trouble>>,
    /// Calls of `enqueue`.
    pub(crate) calls: AtomicUsize,
    /// Bodies are counted and not kept.
    counts_only: AtomicBool,
    /// Octets of bodies that were taken from streams.
    pub(crate) streamed: AtomicU64,
    /// Bodies whose stream ended in an error.
    pub(crate) broken_bodies: AtomicUsize,
    /// Where it is set, each chunk of a body waits for a permit.
    gate: Mutex<Option<std::sync::Arc<Semaphore>>>,
}

impl FakeQueue {
    /// The next call of `enqueue` that meets no earlier trouble meets this.
    pub(crate) fn will(&self, trouble: Trouble) {
        self.troubles.lock().unwrap().push_back(trouble);
    }

    /// Bodies are taken only as permits are given.
    pub(crate) fn close_gate(&self) -> std::sync::Arc<Semaphore> {
        let gate = std::sync::Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub(crate) fn messages(&self) -> Vec<NewMessage> {
        self.messages.lock().unwrap().clone()
    }

    /// From now on bodies are counted and not kept.
    pub(crate) fn only_count(&self) {
        self.counts_only.store(true, Ordering::SeqCst);
    }

    /// Lets go of everything.
    pub(crate) fn forget(&self) {
        self.messages.lock().unwrap().clear();
        self.bodies.lock().unwrap().clear();
    }

    /// The only message.
    pub(crate) fn message(&self) -> NewMessage {
        let messages = self.messages();
        assert_eq!(messages.len(), 1, "messages in the queue");
        messages.into_iter().next().unwrap()
    }

    /// The content of a message, wherever its body is.
    pub(crate) fn content(&self, message: &NewMessage) -> Vec<u8> {
        match message.body.as_ref().unwrap().content.as_ref().unwrap() {
            Content::Inline(content) => content.to_vec(),
            Content::Stored(name) => self.bodies.lock().unwrap()[name].clone(),
        }
    }

    fn store(&self, messages: Vec<NewMessage>) {
        let mut stored = self.messages.lock().unwrap();
        for message in messages {
            if !stored
                .iter()
                .any(|known| known.queue_id == message.queue_id)
            {
                stored.push(message);
            }
        }
    }
}

fn results(count: usize, status: enqueue_result::Status) -> Vec<EnqueueResult> {
    let result = EnqueueResult {
        status: status.into(),
        detail: String::new(),
    };
    vec![result; count]
}

#[async_trait]
impl Queue for FakeQueue {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let count = messages.len();
        let trouble = self.troubles.lock().unwrap().pop_front();
        match trouble {
            Some(Trouble::Fails(status)) => return Err(status),
            Some(Trouble::StoredButLost(status)) => {
                self.store(messages);
                return Err(status);
            }
            Some(Trouble::StoredUnconfirmed) => {
                self.store(messages);
                return Ok(results(count, enqueue_result::Status::Unconfirmed));
            }
            Some(Trouble::Says(status)) => return Ok(results(count, status)),
            Some(Trouble::Late(wait)) => tokio::time::sleep(wait).await,
            Some(Trouble::Hangs) => tokio::time::sleep(Duration::from_secs(3_600)).await,
            None => {}
        }
        self.store(messages);
        Ok(results(count, enqueue_result::Status::Accepted))
    }

    async fn put_body(&self, mut body: BodyStream) -> Result<PutBodyResponse> {
        let mut stored = Vec::new();
        let mut size = 0;
        loop {
            let gate = self.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            match body.next().await {
                None => break,
                Some(Ok(chunk)) => {
                    self.streamed
                        .fetch_add(chunk.len() as u64, Ordering::SeqCst);
                    size += chunk.len() as u64;
                    if !self.counts_only.load(Ordering::SeqCst) {
                        stored.extend_from_slice(&chunk);
                    }
                }
                Some(Err(status)) => {
                    self.broken_bodies.fetch_add(1, Ordering::SeqCst);
                    return Err(status);
                }
            }
        }
        let mut bodies = self.bodies.lock().unwrap();
        let name = format!("body-{}", bodies.len());
        bodies.insert(name.clone(), stored);
        Ok(PutBodyResponse { name, size })
    }

    async fn get_body(&self, name: String) -> Result<BodyStream> {
        let body = self.bodies.lock().unwrap().get(&name).cloned();
        let body = body.ok_or_else(|| Status::not_found("no such body"))?;
        Ok(futures_util::stream::iter([Ok(Bytes::from(body))]).boxed())
    }

    async fn work(
        &self,
        _from_worker: BoxStream<'static, WorkerFrame>,
    ) -> Result<BoxStream<'static, Result<QueueFrame>>> {
        Err(Status::unimplemented("the edge is no worker"))
    }
}
