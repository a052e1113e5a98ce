//! A service and workers that are scripts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use postrider_config::ServerConfig;
use postrider_config::values::Period;
use postrider_protocol::QueueId;
use postrider_protocol::api::{self, Queue};
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    Attempt, Body, Completion, CompletionBatch, Drain, EnqueueResult, Envelope, Heartbeat, Hello,
    LeaseList, LeasedDelivery, NewMessage, OutcomeKind, PartialReturn, PartialReturnBatch,
    QueueFrame, Recipient, RecipientOutcome, WorkerFrame, body, enqueue_result, worker_frame,
};
use postrider_queue::{QueueConfig, QueueService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) service: Arc<QueueService>,
}

/// Settings with a short lease.
pub(crate) fn config() -> QueueConfig {
    let mut config = QueueConfig::default();
    config.embedded.segment_size.0 = 8 << 20;
    config.embedded.reserve.0 = 0;
    config.lease = Period::seconds(2);
    config
}

impl World {
    pub(crate) async fn new(config: QueueConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let service = open(dir.path(), config).await;
        Self { dir, service }
    }

    pub(crate) async fn enqueue(&self, message: NewMessage) -> EnqueueResult {
        self.service.enqueue(vec![message]).await.unwrap().remove(0)
    }

    pub(crate) async fn accept(&self, destination: &str) -> QueueId {
        let message = message(destination, b"Subject: x\r\n\r\nx\r\n");
        let id = message.queue_id.parse().unwrap();
        let result = self.enqueue(message).await;
        assert_eq!(
            result.status(),
            enqueue_result::Status::Accepted,
            "{result:?}"
        );
        id
    }

    pub(crate) async fn accept_at(&self, destination: String) -> QueueId {
        self.accept(&destination).await
    }

    pub(crate) async fn worker(&self, name: &str, slots: u32) -> Worker {
        Worker::hello(&self.service, name, slots).await
    }
}

pub(crate) async fn open(dir: &std::path::Path, config: QueueConfig) -> Arc<QueueService> {
    let server = ServerConfig {
        data_dir: dir.to_owned(),
        ..ServerConfig::default()
    };
    QueueService::open(&server, config).await.unwrap()
}

pub(crate) fn message(destination: &str, content: &[u8]) -> NewMessage {
    NewMessage {
        queue_id: QueueId::new().to_string(),
        envelope: Some(Envelope {
            reverse_path: "bob@sender.test".to_owned(),
            recipients: vec![Recipient {
                address: "alice@a.test".to_owned(),
                destination: destination.to_owned(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        }),
        body: Some(Body {
            size: content.len() as u64,
            content: Some(body::Content::Inline(Bytes::copy_from_slice(content))),
        }),
        ..NewMessage::default()
    }
}

/// A worker whose every frame is told by the test.
pub(crate) struct Worker {
    to_queue: mpsc::UnboundedSender<WorkerFrame>,
    pub(crate) from_queue: BoxStream<'static, api::Result<QueueFrame>>,
    /// Slots by token, as granted last.
    pub(crate) grants: HashMap<u64, (String, u32)>,
    /// Completions that were told one by one, and acks that came.
    told: usize,
    answered: usize,
    heart: Option<tokio::task::AbortHandle>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop_heart();
    }
}

impl Worker {
    /// No heartbeats from now on.
    pub(crate) fn stop_heart(&mut self) {
        if let Some(heart) = self.heart.take() {
            heart.abort();
        }
    }

    pub(crate) async fn silent(service: &QueueService) -> Self {
        let (to_queue, frames) = mpsc::unbounded_channel();
        let from_queue = service
            .work(UnboundedReceiverStream::new(frames).boxed())
            .await
            .unwrap();
        Self {
            to_queue,
            from_queue,
            grants: HashMap::new(),
            told: 0,
            answered: 0,
            heart: None,
        }
    }

    pub(crate) async fn hello(service: &QueueService, name: &str, slots: u32) -> Self {
        let mut worker = Self::silent(service).await;
        worker.say(worker_frame::Frame::Hello(Hello {
            instance: name.to_owned(),
            transports: vec!["smtp".to_owned()],
            slots,
        }));
        let welcome = worker.next().await.unwrap();
        assert!(matches!(welcome, Frame::Welcome(_)), "{welcome:?}");
        let to_queue = worker.to_queue.clone();
        let heart = tokio::spawn(async move {
            let beat = WorkerFrame {
                frame: Some(worker_frame::Frame::Heartbeat(Heartbeat::default())),
            };
            while to_queue.send(beat.clone()).is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        worker.heart = Some(heart.abort_handle());
        worker
    }

    pub(crate) fn say(&self, frame: worker_frame::Frame) {
        self.to_queue.send(WorkerFrame { frame: Some(frame) }).ok();
    }

    pub(crate) fn drain(&self) {
        self.say(worker_frame::Frame::Drain(Drain {}));
    }

    pub(crate) fn give_back(&mut self, token: u64) {
        self.grants.remove(&token);
        self.say(worker_frame::Frame::GiveBack(LeaseList {
            tokens: vec![token],
        }));
    }

    /// Gives deliveries back that were not begun, and all but so many slots (0: says nothing of them).
    pub(crate) fn give_back_part(&mut self, token: u64, deliveries: &[LeasedDelivery], slots: u32) {
        if let Some((_, held)) = self.grants.get_mut(&token)
            && slots > 0
        {
            *held = slots;
        }
        let ids = deliveries.iter().map(|delivery| &delivery.delivery_id);
        self.say(worker_frame::Frame::PartialReturns(PartialReturnBatch {
            returns: vec![PartialReturn {
                token,
                delivery_ids: ids.cloned().collect(),
                slots,
            }],
        }));
    }

    pub(crate) fn complete(&mut self, delivery: &LeasedDelivery, kind: OutcomeKind) {
        self.told += 1;
        self.say(worker_frame::Frame::Completions(CompletionBatch {
            completions: vec![completion(delivery, kind)],
        }));
    }

    /// The next frame, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let frame = loop {
            let frame = tokio::time::timeout_at(deadline, self.from_queue.next())
                .await
                .expect("the queue should have said something")?
                .unwrap()
                .frame
                .unwrap();
            // An answer to a heartbeat is no event.
            if !matches!(frame, Frame::Heartbeat(_)) {
                break frame;
            }
        };
        if let Frame::Grant(grant) = &frame {
            self.grants
                .insert(grant.token, (grant.destination.clone(), grant.slots));
        }
        if let Frame::Acks(acks) = &frame {
            self.answered += acks.acks.len();
        }
        if let Frame::Revoked(list) = &frame {
            self.grants.retain(|token, _| !list.tokens.contains(token));
        }
        Some(frame)
    }

    /// Slots that it was granted of a destination.
    pub(crate) fn slots_of(&self, destination: &str) -> u32 {
        let of = |(to, slots): &(String, u32)| (to == destination).then_some(*slots);
        self.grants.values().filter_map(of).sum()
    }

    /// Reads on until each of its completions was answered.
    pub(crate) async fn settled(&mut self) {
        while self.answered < self.told {
            self.next().await.expect("the conversation is over");
        }
    }

    /// Waits until the queue does not listen to it any more.
    pub(crate) async fn is_left(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.to_queue.closed())
            .await
            .expect("the conversation should have ended");
    }

    /// The next deliveries; grants and acks before them are taken note of.
    pub(crate) async fn deliveries(&mut self) -> Vec<LeasedDelivery> {
        loop {
            match self.next().await.expect("the conversation is over") {
                Frame::Deliveries(batch) => return batch.deliveries,
                Frame::Grant(_) | Frame::Acks(_) | Frame::WantedBack(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether nothing comes but what is accepted now for another destination, which this worker does
    /// and gives back. It must be the one that is asked first: with the most free slots.
    pub(crate) async fn hears_nothing(&mut self, service: &QueueService) -> bool {
        let marker = message("smtp:marker.test", b"x");
        service.enqueue(vec![marker.clone()]).await.unwrap();
        loop {
            match self.next().await.expect("the conversation is over") {
                Frame::Grant(grant) if grant.destination == "smtp:marker.test" => {}
                Frame::Deliveries(batch) => {
                    let [delivery] = batch.deliveries.as_slice() else {
                        return false;
                    };
                    if delivery.queue_id != marker.queue_id {
                        return false;
                    }
                    self.complete(delivery, OutcomeKind::Delivered);
                    self.give_back(delivery.token);
                    return matches!(self.next().await, Some(Frame::Acks(_)));
                }
                _ => return false,
            }
        }
    }

    /// Whether nothing comes before the answer to what is said now: an outcome of no delivery. With
    /// that answer, all that was said before was heard.
    pub(crate) async fn hears_only_itself(&mut self) -> bool {
        self.complete(&LeasedDelivery::default(), OutcomeKind::Delivered);
        matches!(self.next().await, Some(Frame::Acks(acks)) if acks.acks[0].delivery_id.is_empty())
    }
}

pub(crate) fn completion(delivery: &LeasedDelivery, kind: OutcomeKind) -> Completion {
    Completion {
        delivery_id: delivery.delivery_id.clone(),
        token: delivery.token,
        attempt: Some(Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            outcomes: vec![RecipientOutcome {
                address: "alice@a.test".to_owned(),
                kind: kind as i32,
                ..RecipientOutcome::default()
            }],
            ..Attempt::default()
        }),
        dsn: Vec::new(),
        ..Completion::default()
    }
}
