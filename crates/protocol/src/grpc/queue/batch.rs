//! Single messages become batches.
//!
//! A few calls may be under way at once. A message that finds one free goes at once, alone;
//! what arrives while all are under way waits together and leaves together as soon as one
//! returns. No timer holds anything back, and the busier the system is, the larger the batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tonic::Status;

use crate::queue_v1::{EnqueueResult, NewMessage, body};

/// Calls under way at once: one on its way, one in the store, one on its way back.
const CALLS: usize = 3;
/// A batch's bounds. One message goes whatever its size.
const MESSAGES: usize = 256;
const BYTES: usize = 4 << 20;

/// What carries a batch. One result a message.
#[async_trait]
pub(super) trait Carrier: Send + Sync + 'static {
    async fn carry(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>, Status>;
}

/// Gathers what callers hand over while calls are under way.
pub(super) struct Batcher<C> {
    carrier: C,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    calls: usize,
}

struct Waiting {
    messages: Vec<NewMessage>,
    bytes: usize,
    answer: oneshot::Sender<Result<Vec<EnqueueResult>, Status>>,
}

impl<C: Carrier> Batcher<C> {
    pub(super) fn new(carrier: C) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            state: Mutex::default(),
        })
    }

    /// Sends the messages with whatever goes at the same time. If the caller goes away, they are
    /// sent nevertheless: to repeat them later under the same ids does no harm.
    pub(super) async fn enqueue(
        self: &Arc<Self>,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<EnqueueResult>, Status> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, result) = oneshot::channel();
        let bytes = messages.iter().map(weight).sum();
        let starts = {
            let mut state = self.state();
            state.waiting.push_back(Waiting {
                messages,
                bytes,
                answer,
            });
            let starts = state.calls < CALLS;
            state.calls += usize::from(starts);
            starts
        };
        if starts {
            tokio::spawn(self.clone().run());
        }
        result
            .await
            .unwrap_or_else(|_| Err(Status::unavailable("the process stops")))
    }

    /// Sends batches until nothing waits.
    async fn run(self: Arc<Self>) {
        while let Some(batch) = self.take() {
            self.send(batch).await;
        }
    }

    /// What goes next; with nothing left, the call is given back under the same lock, so that
    /// nobody can add something that is never sent.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let (mut count, mut bytes, mut callers) = (0, 0, 0);
        for waiting in &state.waiting {
            count += waiting.messages.len();
            bytes += waiting.bytes;
            if callers > 0 && (count > MESSAGES || bytes > BYTES) {
                break;
            }
            callers += 1;
        }
        if callers == 0 {
            state.calls -= 1;
            return None;
        }
        Some(state.waiting.drain(..callers).collect())
    }

    async fn send(&self, mut batch: Vec<Waiting>) {
        let mut messages = Vec::with_capacity(batch.iter().map(|w| w.messages.len()).sum());
        let mut counts = Vec::with_capacity(batch.len());
        for waiting in &mut batch {
            counts.push(waiting.messages.len());
            messages.append(&mut waiting.messages);
        }
        let sent = messages.len();
        let mut result = self.carrier.carry(messages).await;
        if let Ok(results) = &result
            && results.len() != sent
        {
            result = Err(Status::internal(
                "the queue answered for another number of messages",
            ));
        }
        match result {
            Ok(results) => {
                let mut results = results.into_iter();
                for (waiting, count) in batch.into_iter().zip(counts) {
                    // A caller that has gone away needs no answer.
                    drop(
                        waiting
                            .answer
                            .send(Ok(results.by_ref().take(count).collect())),
                    );
                }
            }
            Err(status) => {
                for waiting in batch {
                    drop(waiting.answer.send(Err(status.clone())));
                }
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a message on the wire, roughly.
fn weight(message: &NewMessage) -> usize {
    let content = match message.body.as_ref().and_then(|body| body.content.as_ref()) {
        Some(body::Content::Inline(content)) => content.len(),
        Some(body::Content::Stored(_)) | None => 0,
    };
    // Envelope, origin, dialogue.
    content + 1024
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::{Mutex as AsyncMutex, Semaphore};

    use super::*;
    use crate::queue_v1::{Body, enqueue_result};

    /// Records batch sizes, and lets a call return only when it is allowed to.
    struct Gate {
        batches: AsyncMutex<Vec<usize>>,
        open: Semaphore,
    }

    #[async_trait]
    impl Carrier for Arc<Gate> {
        async fn carry(&self, messages: Vec<NewMessage>) -> Result<Vec<EnqueueResult>, Status> {
            self.batches.lock().await.push(messages.len());
            self.open.acquire().await.unwrap().forget();
            messages
                .into_iter()
                .map(|message| match message.queue_id.as_str() {
                    "fail" => Err(Status::unavailable("as the test asked")),
                    id => Ok(EnqueueResult {
                        status: enqueue_result::Status::Accepted.into(),
                        detail: id.to_owned(),
                    }),
                })
                .collect()
        }
    }

    fn gate() -> (Arc<Gate>, Arc<Batcher<Arc<Gate>>>) {
        let gate = Arc::new(Gate {
            batches: AsyncMutex::default(),
            open: Semaphore::new(0),
        });
        (gate.clone(), Batcher::new(gate))
    }

    fn message(id: impl ToString, size: usize) -> NewMessage {
        NewMessage {
            queue_id: id.to_string(),
            body: Some(Body {
                size: size as u64,
                content: Some(body::Content::Inline(Bytes::from(vec![b'x'; size]))),
            }),
            ..NewMessage::default()
        }
    }

    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_while_calls_are_under_way_goes_together() {
        let (gate, batcher) = gate();
        let mut callers = Vec::new();
        for number in 0..(CALLS + 100) {
            let batcher = batcher.clone();
            callers.push(tokio::spawn(async move {
                batcher.enqueue(vec![message(number, 100)]).await
            }));
            settle().await;
        }
        // The first ones went alone and at once; the rest waits for them.
        assert_eq!(*gate.batches.lock().await, vec![1; CALLS]);
        gate.open.add_permits(1000);
        for (number, caller) in callers.into_iter().enumerate() {
            let results = caller.await.unwrap().unwrap();
            assert_eq!(results.len(), 1);
            assert_eq!(results[0].detail, number.to_string());
        }
        let batches = gate.batches.lock().await.clone();
        assert_eq!(batches.len(), CALLS + 1, "{batches:?}");
        assert_eq!(batches.last(), Some(&100));
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_bounded_and_each_caller_gets_its_own_results() {
        let (gate, batcher) = gate();
        let mut callers = Vec::new();
        for number in 0..20 {
            let batcher = batcher.clone();
            callers.push(tokio::spawn(async move {
                let messages = (0..2).map(|part| message(format!("{number}.{part}"), 1 << 20));
                batcher.enqueue(messages.collect()).await
            }));
        }
        settle().await;
        gate.open.add_permits(1000);
        for (number, caller) in callers.into_iter().enumerate() {
            let results = caller.await.unwrap().unwrap();
            let details: Vec<_> = results.into_iter().map(|result| result.detail).collect();
            assert_eq!(details, [format!("{number}.0"), format!("{number}.1")]);
        }
        let batches = gate.batches.lock().await.clone();
        assert!(batches.iter().all(|size| *size <= 4), "{batches:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_call_fails_its_callers_and_no_others() {
        let (gate, batcher) = gate();
        gate.open.add_permits(1000);
        let failed = batcher.enqueue(vec![message("fail", 1)]).await;
        assert_eq!(failed.unwrap_err().code(), tonic::Code::Unavailable);
        assert!(batcher.enqueue(vec![message("fine", 1)]).await.is_ok());
        assert!(batcher.enqueue(Vec::new()).await.unwrap().is_empty());
        settle().await;
        assert_eq!(batcher.state().calls, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_holds_nobody_up() {
        let (gate, batcher) = gate();
        for _ in 0..10 {
            let gone = batcher.enqueue(vec![message("gone", 1)]);
            assert!(
                tokio::time::timeout(Duration::from_millis(1), gone)
                    .await
                    .is_err()
            );
        }
        gate.open.add_permits(1000);
        assert!(batcher.enqueue(vec![message("here", 1)]).await.is_ok());
    }
}
