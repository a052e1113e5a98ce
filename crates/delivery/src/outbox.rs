//! What the worker tells the queue, and what the queue has not confirmed yet.
//!
//! The outbox outlives a conversation: what was not acknowledged when a stream broke is told
//! again in the next one, under the token that it had, and the store decides whether that
//! token still counts. Frames form by themselves: whatever is ready when the stream is polled
//! travels together, and a lone completion waits for nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use postrider_protocol::queue_v1::{
    Completion, CompletionBatch, Drain, Heartbeat, Hello, LeaseList, WorkerFrame, worker_frame,
};
use tokio::sync::Notify;

/// Completions in one frame; with their dialogues some hundred KiB.
const BATCH: usize = 256;
/// DSNs in one frame, in bytes: a frame stays well below gRPC's usual limit of 4 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// Frames on their way to the queue.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// In order: a lease is given back after its completions.
    ready: VecDeque<Item>,
    /// Sent, and not confirmed.
    unconfirmed: HashMap<Key, Completion>,
    /// Which conversation may take from `ready`; an older one's stream ends.
    conversation: u64,
    ended: bool,
}

/// Delivery id and token.
type Key = (String, u64);

enum Item {
    Hello(Hello),
    Completion(Box<Completion>),
    GiveBack(u64),
    Heartbeat,
    Drain,
}

impl Outbox {
    /// Begins a conversation: its frames, `hello` first, then what the last one left open.
    pub(crate) fn converse(self: &Arc<Self>, hello: Hello) -> BoxStream<'static, WorkerFrame> {
        let conversation = {
            let mut state = self.lock();
            state.conversation += 1;
            // Tokens of a lost conversation lapse by themselves, but are free earlier this way.
            state
                .ready
                .retain(|item| matches!(item, Item::Completion(_) | Item::GiveBack(_)));
            let unconfirmed = std::mem::take(&mut state.unconfirmed);
            for completion in unconfirmed.into_values() {
                state
                    .ready
                    .push_front(Item::Completion(Box::new(completion)));
            }
            state.ready.push_front(Item::Hello(hello));
            state.conversation
        };
        self.wake.notify_waiters();
        stream::unfold(self.clone(), move |outbox| async move {
            let frame = outbox.next(conversation).await?;
            Some((WorkerFrame { frame: Some(frame) }, outbox))
        })
        .boxed()
    }

    /// Ends the streams of all conversations after what is ready.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.wake.notify_waiters();
    }

    pub(crate) fn complete(&self, completion: Completion) {
        self.push(Item::Completion(Box::new(completion)));
    }

    pub(crate) fn give_back(&self, token: u64) {
        self.push(Item::GiveBack(token));
    }

    pub(crate) fn heartbeat(&self) {
        self.push(Item::Heartbeat);
    }

    pub(crate) fn drain(&self) {
        self.push(Item::Drain);
    }

    /// The queue has the completion, or will never take it. False if it was not known.
    pub(crate) fn confirmed(&self, delivery_id: String, token: u64) -> bool {
        self.lock()
            .unconfirmed
            .remove(&(delivery_id, token))
            .is_some()
    }

    /// The queue could not take the completion now.
    pub(crate) fn send_again(&self, delivery_id: String, token: u64) {
        let again = self.lock().unconfirmed.remove(&(delivery_id, token));
        if let Some(completion) = again {
            self.complete(completion);
        }
    }

    /// Whether the queue has confirmed every completion.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.lock();
        let waits = |item: &Item| matches!(item, Item::Completion(_));
        state.unconfirmed.is_empty() && !state.ready.iter().any(waits)
    }

    fn push(&self, item: Item) {
        self.lock().ready.push_back(item);
        self.wake.notify_one();
    }

    async fn next(&self, conversation: u64) -> Option<worker_frame::Frame> {
        let wake = self.wake.notified();
        tokio::pin!(wake);
        loop {
            wake.as_mut().enable();
            {
                let mut state = self.lock();
                if state.conversation != conversation {
                    drop(state);
                    // The wake-up may have been meant for the stream that came after this one.
                    self.wake.notify_one();
                    return None;
                }
                if let Some(frame) = state.take() {
                    return Some(frame);
                }
                if state.ended {
                    return None;
                }
            }
            wake.as_mut().await;
            wake.set(self.wake.notified());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next frame, with as much in it as is ready and of one kind.
    fn take(&mut self) -> Option<worker_frame::Frame> {
        Some(match self.ready.pop_front()? {
            Item::Hello(hello) => worker_frame::Frame::Hello(hello),
            Item::Heartbeat => worker_frame::Frame::Heartbeat(Heartbeat {}),
            Item::Drain => worker_frame::Frame::Drain(Drain {}),
            Item::GiveBack(token) => {
                let mut tokens = vec![token];
                while let Some(Item::GiveBack(token)) = self.ready.front() {
                    tokens.push(*token);
                    self.ready.pop_front();
                }
                worker_frame::Frame::GiveBack(LeaseList { tokens })
            }
            Item::Completion(first) => self.batch(*first),
        })
    }

    fn batch(&mut self, first: Completion) -> worker_frame::Frame {
        let mut bytes = dsn_bytes(&first);
        let mut completions = vec![first];
        while let Some(Item::Completion(next)) = self.ready.front() {
            bytes += dsn_bytes(next);
            if completions.len() == BATCH || bytes > BATCH_BYTES {
                break;
            }
            if let Some(Item::Completion(next)) = self.ready.pop_front() {
                completions.push(*next);
            }
        }
        for completion in &completions {
            let key = (completion.delivery_id.clone(), completion.token);
            self.unconfirmed.insert(key, completion.clone());
        }
        worker_frame::Frame::Completions(CompletionBatch { completions })
    }
}

fn dsn_bytes(completion: &Completion) -> usize {
    completion
        .dsn
        .iter()
        .filter_map(|dsn| dsn.body.as_ref())
        .map(|body| usize::try_from(body.size).unwrap_or(BATCH_BYTES))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(id: &str) -> Completion {
        Completion {
            delivery_id: id.to_owned(),
            token: 7,
            ..Completion::default()
        }
    }

    fn describe(frame: Option<WorkerFrame>) -> String {
        match frame.and_then(|frame| frame.frame) {
            None => "end".to_owned(),
            Some(worker_frame::Frame::Hello(_)) => "hello".to_owned(),
            Some(worker_frame::Frame::Heartbeat(_)) => "heartbeat".to_owned(),
            Some(worker_frame::Frame::Drain(_)) => "drain".to_owned(),
            Some(worker_frame::Frame::GiveBack(list)) => format!("back {:?}", list.tokens),
            Some(worker_frame::Frame::Completions(batch)) => batch
                .completions
                .iter()
                .map(|completion| completion.delivery_id.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[tokio::test]
    async fn what_is_ready_travels_together_and_in_order() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default());
        for id in ["a", "b", "c"] {
            outbox.complete(completion(id));
        }
        outbox.give_back(1);
        outbox.give_back(2);
        outbox.complete(completion("d"));
        outbox.end();
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(describe(frames.next().await));
        }
        assert_eq!(told, ["hello", "a b c", "back [1, 2]", "d", "end"]);
    }

    #[tokio::test]
    async fn what_was_not_confirmed_is_told_again() {
        let outbox = Arc::new(Outbox::default());
        let mut first = outbox.converse(Hello::default());
        outbox.complete(completion("a"));
        outbox.complete(completion("b"));
        assert_eq!(describe(first.next().await), "hello");
        assert_eq!(describe(first.next().await), "a b");
        assert!(outbox.confirmed("a".to_owned(), 7));
        assert!(!outbox.confirmed("a".to_owned(), 7));
        outbox.heartbeat();

        let mut second = outbox.converse(Hello::default());
        assert_eq!(describe(first.next().await), "end");
        assert_eq!(describe(second.next().await), "hello");
        assert_eq!(describe(second.next().await), "b");
        assert!(!outbox.is_settled());
        outbox.send_again("b".to_owned(), 7);
        assert_eq!(describe(second.next().await), "b");
        assert!(outbox.confirmed("b".to_owned(), 7));
        assert!(outbox.is_settled());
    }

    #[tokio::test]
    async fn a_waiting_stream_wakes() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default());
        assert_eq!(describe(frames.next().await), "hello");
        let waiting = tokio::spawn(async move { describe(frames.next().await) });
        tokio::task::yield_now().await;
        outbox.complete(completion("late"));
        assert_eq!(waiting.await.unwrap(), "late");
    }
}
