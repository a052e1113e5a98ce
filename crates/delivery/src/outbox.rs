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
    Completion, CompletionBatch, Drain, Heartbeat, Hello, LeaseList, PartialReturn,
    PartialReturnBatch, WorkerFrame, worker_frame,
};
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Completions in one frame, and deliveries that are given back in one piece.
const BATCH: usize = 256;
/// Such pieces in one frame.
const PARTS: usize = 32;
/// What they come to, in bytes: dialogues with many recipients and DSNs are large, and a frame has to
/// stay well below gRPC's usual limit of 4 MiB.
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
    /// Sent, and not confirmed: encoded, which is one allocation where a clone of a dialogue takes
    /// hundreds, and few are ever told again.
    unconfirmed: HashMap<Key, Vec<u8>>,
    /// Leases to be given back once their completions are confirmed: what is given back counts as not
    /// attempted, so that a completion which the store could not take would be lost, and the mail
    /// sent twice without a trace of why.
    returning: Vec<u64>,
    /// Which conversation may take from `ready`; an older one's stream ends.
    conversation: u64,
    /// When its hello was taken.
    begun: Option<Instant>,
    ended: bool,
}

/// Delivery id and token.
type Key = (String, u64);

enum Item {
    Hello(Hello),
    Completion(Box<Completion>),
    GiveBack(u64),
    GiveBackPart(PartialReturn),
    Heartbeat(u64),
    Drain,
}

impl Outbox {
    /// Begins a conversation: its frames, `hello` first, then the word that the worker stops if it is
    /// `leaving`, then what the last one left open.
    pub(crate) fn converse(
        self: &Arc<Self>,
        hello: Hello,
        leaving: bool,
    ) -> BoxStream<'static, WorkerFrame> {
        let conversation = {
            let mut state = self.lock();
            state.conversation += 1;
            state.begun = None;
            // Only outcomes outlive a conversation. Its leases lapse: the queue takes back only what it
            // granted in the one in which it hears of it.
            let is_outcome = |item: &Item| matches!(item, Item::Completion(_));
            state.ready.retain(is_outcome);
            state.returning.clear();
            let unconfirmed = std::mem::take(&mut state.unconfirmed);
            for completion in unconfirmed.values().filter_map(|bytes| decode(bytes)) {
                state.ready.push_front(Item::Completion(completion));
            }
            if leaving {
                state.ready.push_front(Item::Drain);
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

    /// When the hello of the conversation went out.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.lock().begun
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

    /// A delivery was not begun, and will not be.
    pub(crate) fn give_back_delivery(&self, token: u64, delivery_id: String) {
        let mut state = self.lock();
        match state.ready.back_mut() {
            Some(Item::GiveBackPart(part))
                if part.token == token && part.delivery_ids.len() < BATCH =>
            {
                part.delivery_ids.push(delivery_id);
            }
            _ => state.ready.push_back(Item::GiveBackPart(PartialReturn {
                token,
                delivery_ids: vec![delivery_id],
                slots: 0,
            })),
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A lease keeps so many slots.
    pub(crate) fn give_back_slots(&self, token: u64, slots: u32) {
        let mut state = self.lock();
        match state.ready.back_mut() {
            Some(Item::GiveBackPart(part)) if part.token == token => part.slots = slots,
            _ => state.ready.push_back(Item::GiveBackPart(PartialReturn {
                token,
                delivery_ids: Vec::new(),
                slots,
            })),
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn heartbeat(&self, number: u64) {
        self.push(Item::Heartbeat(number));
    }

    pub(crate) fn drain(&self) {
        self.push(Item::Drain);
    }

    /// The queue has the completion, or will never take it. False if it was not known.
    pub(crate) fn confirmed(&self, delivery_id: String, token: u64) -> bool {
        let mut state = self.lock();
        let known = state.unconfirmed.remove(&(delivery_id, token)).is_some();
        if state.returning.contains(&token) && !state.awaits_word_on(token) {
            state.returning.retain(|waiting| *waiting != token);
            state.ready.push_back(Item::GiveBack(token));
            self.wake.notify_one();
        }
        known
    }

    /// The queue could not take the completion now.
    pub(crate) fn send_again(&self, delivery_id: String, token: u64) {
        // Under one lock: in between, its lease would seem to wait for nothing, and go back before it.
        let mut state = self.lock();
        let again = state.unconfirmed.remove(&(delivery_id, token));
        if let Some(completion) = again.and_then(|bytes| decode(&bytes)) {
            state.ready.push_back(Item::Completion(completion));
            drop(state);
            self.wake.notify_one();
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
    /// Whether a completion under the token is not confirmed, or is to be told again.
    fn awaits_word_on(&self, token: u64) -> bool {
        let is_of = |item: &Item| matches!(item, Item::Completion(it) if it.token == token);
        self.unconfirmed.keys().any(|(_, of)| *of == token) || self.ready.iter().any(is_of)
    }

    /// The next frame, with as much in it as is ready and of one kind.
    fn take(&mut self) -> Option<worker_frame::Frame> {
        while let Some(Item::GiveBack(token)) = self.ready.front() {
            let token = *token;
            if !self.awaits_word_on(token) {
                break;
            }
            self.ready.pop_front();
            self.returning.push(token);
        }
        Some(match self.ready.pop_front()? {
            Item::Hello(hello) => {
                self.begun = Some(Instant::now());
                worker_frame::Frame::Hello(hello)
            }
            Item::Heartbeat(number) => worker_frame::Frame::Heartbeat(Heartbeat { number }),
            Item::Drain => worker_frame::Frame::Drain(Drain {}),
            Item::GiveBack(token) => {
                let mut tokens = vec![token];
                while let Some(Item::GiveBack(token)) = self.ready.front() {
                    let token = *token;
                    if self.awaits_word_on(token) {
                        break;
                    }
                    tokens.push(token);
                    self.ready.pop_front();
                }
                worker_frame::Frame::GiveBack(LeaseList { tokens })
            }
            Item::GiveBackPart(first) => {
                let mut returns = vec![first];
                while returns.len() < PARTS
                    && let Some(Item::GiveBackPart(_)) = self.ready.front()
                {
                    if let Some(Item::GiveBackPart(next)) = self.ready.pop_front() {
                        returns.push(next);
                    }
                }
                worker_frame::Frame::PartialReturns(PartialReturnBatch { returns })
            }
            Item::Completion(first) => self.batch(*first),
        })
    }

    fn batch(&mut self, first: Completion) -> worker_frame::Frame {
        let mut bytes = self.keep(&first);
        let mut completions = vec![first];
        while let Some(Item::Completion(next)) = self.ready.front() {
            if completions.len() == BATCH || bytes + next.encoded_len() > BATCH_BYTES {
                break;
            }
            if let Some(Item::Completion(next)) = self.ready.pop_front() {
                bytes += self.keep(&next);
                completions.push(*next);
            }
        }
        worker_frame::Frame::Completions(CompletionBatch { completions })
    }

    /// Keeps a completion until it is confirmed. Returns its size in bytes.
    fn keep(&mut self, completion: &Completion) -> usize {
        let encoded = completion.encode_to_vec();
        let size = encoded.len();
        let key = (completion.delivery_id.clone(), completion.token);
        self.unconfirmed.insert(key, encoded);
        size
    }
}

/// What was kept. It was encoded here, so it is readable.
fn decode(kept: &[u8]) -> Option<Box<Completion>> {
    match Completion::decode(kept) {
        Ok(completion) => Some(Box::new(completion)),
        Err(error) => {
            tracing::error!(%error, "a completion cannot be told again; it counts as unknown");
            None
        }
    }
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
            Some(worker_frame::Frame::PartialReturns(batch)) => {
                let parts = batch.returns.iter();
                let parts =
                    parts.map(|part| format!("{} {}", part.delivery_ids.join("+"), part.slots));
                format!("part {}", parts.collect::<Vec<_>>().join(", "))
            }
            Some(worker_frame::Frame::Completions(batch)) => batch
                .completions
                .iter()
                .map(|completion| completion.delivery_id.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[tokio::test]
    async fn a_lease_goes_back_when_its_completions_are_confirmed() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
        outbox.complete(completion("a"));
        outbox.complete(completion("b"));
        outbox.give_back(7);
        for told in ["hello", "a b"] {
            assert_eq!(describe(frames.next().await), told);
        }
        // The store could not take one: its lease stays until it could.
        outbox.confirmed("a".to_owned(), 7);
        outbox.send_again("b".to_owned(), 7);
        assert_eq!(describe(frames.next().await), "b");
        outbox.give_back(8);
        assert_eq!(describe(frames.next().await), "back [8]");
        outbox.confirmed("b".to_owned(), 7);
        assert_eq!(describe(frames.next().await), "back [7]");
    }

    #[tokio::test]
    async fn leases_of_a_lost_conversation_are_not_given_back_in_the_next() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
        outbox.complete(completion("a"));
        outbox.give_back(7);
        for told in ["hello", "a"] {
            assert_eq!(describe(frames.next().await), told);
        }
        // One waits for its completion to be confirmed, the other to be sent.
        outbox.give_back(8);
        let mut frames = outbox.converse(Hello::default(), true);
        for told in ["hello", "drain", "a"] {
            assert_eq!(describe(frames.next().await), told);
        }
        outbox.confirmed("a".to_owned(), 7);
        outbox.end();
        assert_eq!(describe(frames.next().await), "end");
    }

    #[tokio::test]
    async fn what_is_ready_travels_together_and_in_order() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
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
    async fn large_completions_travel_in_frames_of_bounded_size() {
        use postrider_protocol::queue_v1::{Attempt, DialogueLine};
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
        for id in ["a", "b", "c", "d", "e"] {
            let line = DialogueLine {
                text: "x".repeat(BATCH_BYTES * 2 / 5),
                ..DialogueLine::default()
            };
            outbox.complete(Completion {
                attempt: Some(Attempt {
                    dialogue: vec![line],
                    ..Attempt::default()
                }),
                ..completion(id)
            });
        }
        outbox.end();
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(describe(frames.next().await));
        }
        assert_eq!(told, ["hello", "a b", "c d", "e", "end"]);
    }

    #[tokio::test]
    async fn parts_of_a_lease_travel_together_and_are_not_told_to_another_conversation() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
        assert_eq!(describe(frames.next().await), "hello");
        for id in ["a", "b"] {
            outbox.give_back_delivery(1, id.to_owned());
        }
        outbox.give_back_slots(1, 3);
        outbox.give_back_slots(1, 2);
        outbox.give_back_delivery(2, "c".to_owned());
        assert_eq!(describe(frames.next().await), "part a+b 2, c 0");
        // Reports stand before the slots that they made free.
        outbox.complete(completion("d"));
        outbox.give_back_slots(1, 1);
        assert_eq!(describe(frames.next().await), "d");
        assert_eq!(describe(frames.next().await), "part  1");
        outbox.give_back_slots(7, 1);
        let mut next = outbox.converse(Hello::default(), false);
        assert_eq!(describe(next.next().await), "hello");
        assert_eq!(describe(next.next().await), "d");
        outbox.end();
        assert_eq!(describe(next.next().await), "end");
    }

    #[tokio::test]
    async fn many_are_given_back_in_frames_of_bounded_size() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = outbox.converse(Hello::default(), false);
        const MANY: usize = 40 * BATCH;
        for number in 0..MANY {
            outbox.give_back_delivery(1, number.to_string());
        }
        outbox.end();
        let mut all = 0;
        while let Some(frame) = frames.next().await {
            if let Some(worker_frame::Frame::PartialReturns(batch)) = frame.frame {
                let ids = batch.returns.iter().map(|part| part.delivery_ids.len());
                let ids: usize = ids.sum();
                assert!(ids <= BATCH * PARTS, "{ids}");
                all += ids;
            }
        }
        assert_eq!(all, MANY);
    }

    #[tokio::test]
    async fn what_was_not_confirmed_is_told_again() {
        let outbox = Arc::new(Outbox::default());
        let mut first = outbox.converse(Hello::default(), false);
        outbox.complete(completion("a"));
        outbox.complete(completion("b"));
        assert_eq!(describe(first.next().await), "hello");
        assert_eq!(describe(first.next().await), "a b");
        assert!(outbox.confirmed("a".to_owned(), 7));
        assert!(!outbox.confirmed("a".to_owned(), 7));
        outbox.heartbeat(1);

        let mut second = outbox.converse(Hello::default(), false);
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
        let mut frames = outbox.converse(Hello::default(), false);
        assert_eq!(describe(frames.next().await), "hello");
        let waiting = tokio::spawn(async move { describe(frames.next().await) });
        tokio::task::yield_now().await;
        outbox.complete(completion("late"));
        assert_eq!(waiting.await.unwrap(), "late");
    }
}
