//! A queue in memory that does what a test says and keeps what the worker tells.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use postrider_protocol::api::{self, BodyStream, Queue};
use postrider_protocol::queue_v1::completion_ack::Status as Ack;
use postrider_protocol::queue_v1::{
    Body, Completion, CompletionAck, CompletionAcks, DeliveryBatch, EnqueueResult, Envelope, Grant,
    LeasedDelivery, NewMessage, PartialReturn, PutBodyResponse, QueueFrame, Recipient, Welcome,
    WorkerFrame, body, queue_frame, worker_frame,
};
use postrider_protocol::{QueueId, Status};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The queue's side.
pub(crate) struct FakeQueue {
    to_worker: Mutex<Option<mpsc::UnboundedSender<api::Result<QueueFrame>>>>,
    from_worker: tokio::sync::Mutex<mpsc::UnboundedReceiver<worker_frame::Frame>>,
    tell: mpsc::UnboundedSender<worker_frame::Frame>,
    bodies: Mutex<HashMap<String, Vec<api::Result<Bytes>>>>,
    /// What the next completions are answered with; then DONE.
    answers: Mutex<Vec<Ack>>,
    conversations: AtomicU64,
}

impl FakeQueue {
    /// A stored body that never comes.
    pub(crate) const STUCK: &str = "stuck";

    pub(crate) fn new() -> Arc<Self> {
        let (tell, from_worker) = mpsc::unbounded_channel();
        Arc::new(Self {
            to_worker: Mutex::default(),
            from_worker: tokio::sync::Mutex::new(from_worker),
            tell,
            bodies: Mutex::default(),
            answers: Mutex::default(),
            conversations: AtomicU64::new(0),
        })
    }

    pub(crate) fn send(&self, frame: queue_frame::Frame) {
        let frame = QueueFrame { frame: Some(frame) };
        if let Some(worker) = &*self.to_worker.lock().unwrap() {
            worker.send(Ok(frame)).ok();
        }
    }

    pub(crate) fn grant(&self, token: u64, destination: &str, slots: u32) {
        self.send(queue_frame::Frame::Grant(Grant {
            token,
            destination: destination.to_owned(),
            slots,
        }));
    }

    pub(crate) fn deliver(&self, deliveries: Vec<LeasedDelivery>) {
        self.send(queue_frame::Frame::Deliveries(DeliveryBatch { deliveries }));
    }

    /// Ends the conversation without a word.
    pub(crate) fn cut(&self) {
        self.to_worker.lock().unwrap().take();
    }

    pub(crate) fn answer_next(&self, answers: &[Ack]) {
        self.answers.lock().unwrap().extend_from_slice(answers);
    }

    pub(crate) fn conversations(&self) -> u64 {
        self.conversations.load(Ordering::Relaxed)
    }

    pub(crate) fn store(&self, name: &str, pieces: Vec<api::Result<Bytes>>) {
        self.bodies.lock().unwrap().insert(name.to_owned(), pieces);
    }

    /// The next thing the worker tells, heartbeats aside.
    pub(crate) async fn told(&self) -> worker_frame::Frame {
        let mut frames = self.from_worker.lock().await;
        loop {
            let frame = timeout(PATIENCE, frames.recv())
                .await
                .expect("the worker says something in time")
                .expect("this holds the sender");
            if !matches!(frame, worker_frame::Frame::Heartbeat(_)) {
                return frame;
            }
        }
    }

    /// Waits for so many completions; nothing else may come before them but a hello, and what a worker
    /// will not begin.
    pub(crate) async fn completions(&self, count: usize) -> Vec<Completion> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.told().await {
                worker_frame::Frame::Completions(batch) => all.extend(batch.completions),
                worker_frame::Frame::Hello(_) | worker_frame::Frame::PartialReturns(_) => {}
                other => panic!("a completion was to come before {other:?}"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    pub(crate) async fn completion(&self) -> Completion {
        self.completions(1).await.remove(0)
    }

    /// Waits until the worker gives leases back.
    pub(crate) async fn given_back(&self) -> Vec<u64> {
        loop {
            match self.told().await {
                worker_frame::Frame::GiveBack(list) => return list.tokens,
                worker_frame::Frame::Hello(_) | worker_frame::Frame::Drain(_) => {}
                other => panic!("a lease was to come back before {other:?}"),
            }
        }
    }

    /// Waits until the worker gives back a part of a lease.
    pub(crate) async fn returned(&self) -> PartialReturn {
        match self.told().await {
            worker_frame::Frame::PartialReturns(batch) if batch.returns.len() == 1 => {
                batch.returns[0].clone()
            }
            other => panic!("a part of a lease was to come back before {other:?}"),
        }
    }

    fn hear(&self, frame: worker_frame::Frame) {
        if let worker_frame::Frame::Completions(batch) = &frame {
            let acks = batch
                .completions
                .iter()
                .map(|completion| {
                    let mut answers = self.answers.lock().unwrap();
                    let status = if answers.is_empty() {
                        Ack::Done
                    } else {
                        answers.remove(0)
                    };
                    CompletionAck {
                        delivery_id: completion.delivery_id.clone(),
                        token: completion.token,
                        status: status.into(),
                    }
                })
                .collect();
            self.send(queue_frame::Frame::Acks(CompletionAcks { acks }));
        }
        self.tell.send(frame).ok();
    }
}

/// So that a test can hand the same queue to the worker and keep it.
pub(crate) struct Shared(pub Arc<FakeQueue>);

#[async_trait]
impl Queue for Shared {
    async fn enqueue(&self, _: Vec<NewMessage>) -> api::Result<Vec<EnqueueResult>> {
        Err(Status::unimplemented("a worker enqueues nothing"))
    }

    async fn put_body(&self, _: BodyStream) -> api::Result<PutBodyResponse> {
        Err(Status::unimplemented("a worker stores nothing"))
    }

    async fn get_body(&self, name: String) -> api::Result<BodyStream> {
        if name == FakeQueue::STUCK {
            return Ok(stream::pending().boxed());
        }
        let bodies = self.0.bodies.lock().unwrap();
        let pieces = bodies
            .get(&name)
            .ok_or_else(|| Status::not_found("no such body"))?;
        Ok(stream::iter(pieces.clone()).boxed())
    }

    async fn work(
        &self,
        mut from_worker: BoxStream<'static, WorkerFrame>,
    ) -> api::Result<BoxStream<'static, api::Result<QueueFrame>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let welcome = Welcome {
            lease_ms: 3000,
            instance: "queue@test".to_owned(),
            ..Welcome::default()
        };
        let frame = QueueFrame {
            frame: Some(queue_frame::Frame::Welcome(welcome)),
        };
        sender.send(Ok(frame)).unwrap();
        *self.0.to_worker.lock().unwrap() = Some(sender.clone());
        self.0.conversations.fetch_add(1, Ordering::Relaxed);
        let queue = self.0.clone();
        let sender = sender.downgrade();
        tokio::spawn(async move {
            while let Some(frame) = from_worker.next().await {
                queue.hear(frame.frame.expect("every frame says something"));
            }
            // It ends when either stream ends; the next one may have begun.
            let mut to_worker = queue.to_worker.lock().unwrap();
            if let (Some(own), Some(now)) = (sender.upgrade(), &*to_worker)
                && own.same_channel(now)
            {
                to_worker.take();
            }
        });
        let frames = stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        Ok(frames.boxed())
    }
}

/// A delivery under lease 1 to `smtp:there.test`.
pub(crate) fn delivery(recipients: &[&str], content: &str) -> LeasedDelivery {
    let queue_id = QueueId::new().to_string();
    LeasedDelivery {
        delivery_id: format!("{queue_id}.0"),
        token: 1,
        queue_id,
        destination: "smtp:there.test".to_owned(),
        attempt: 1,
        envelope: Some(Envelope {
            reverse_path: "bob@here.test".to_owned(),
            recipients: recipients
                .iter()
                .map(|address| Recipient {
                    address: (*address).to_owned(),
                    destination: "smtp:there.test".to_owned(),
                    ..Recipient::default()
                })
                .collect(),
            ..Envelope::default()
        }),
        body: Some(Body {
            size: content.len() as u64,
            content: Some(body::Content::Inline(Bytes::copy_from_slice(
                content.as_bytes(),
            ))),
        }),
        message_id: "m1@here.test".to_owned(),
        ..LeasedDelivery::default()
    }
}
