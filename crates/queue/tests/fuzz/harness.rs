//! The bodies of the queue's fuzz targets: they take any bytes as what comes over gRPC, and panic
//! where a promise is broken.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use postrider_config::ServerConfig;
use postrider_protocol::QueueId;
use postrider_protocol::api::{Queue, QueueAdmin};
use postrider_protocol::queue_v1::{
    ActRequest, ActsRequest, Body, EnqueueRequest, Envelope, FindRequest, Hello, JourneyRequest,
    ListRequest, NewMessage, Recipient, ResumeRequest, ShowRequest, SuspendRequest, UndoRequest,
    WorkerFrame, body, worker_frame,
};
use postrider_queue::{QueueConfig, QueueService};
use prost::Message;

/// Far longer than any call takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A service over a real embedded store, for all inputs of a process.
struct World {
    runtime: tokio::runtime::Runtime,
    service: Arc<QueueService>,
    _dir: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = ServerConfig {
        data_dir: dir.path().to_owned(),
        ..ServerConfig::default()
    };
    let mut config = QueueConfig::default();
    config.embedded.segment_size.0 = 8 << 20;
    config.embedded.reserve.0 = 0;
    let service = runtime
        .block_on(QueueService::open(&server, config))
        .expect("a service");
    World {
        runtime,
        service,
        _dir: dir,
    }
});

impl World {
    fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(LIMIT, call).await })
            .expect("an answer in time")
    }

    /// Whatever was asked, nobody has vanished.
    async fn check(&self) {
        let stats = self.service.stats().await.expect("counts");
        assert_eq!(
            stats.accepted,
            stats.open + stats.delivered + stats.failed + stats.removed,
            "{stats:?}"
        );
    }

    async fn accept(&self) {
        let message = NewMessage {
            queue_id: QueueId::new().to_string(),
            envelope: Some(Envelope {
                reverse_path: "bob@sender.test".to_owned(),
                recipients: vec![Recipient {
                    address: "alice@a.test".to_owned(),
                    destination: "smtp:a.test".to_owned(),
                    ..Recipient::default()
                }],
                ..Envelope::default()
            }),
            body: Some(Body {
                size: 3,
                content: Some(body::Content::Inline("x\r\n".into())),
            }),
            ..NewMessage::default()
        };
        let results = self.service.enqueue(vec![message]).await.expect("results");
        assert_eq!(results.len(), 1);
    }
}

/// What bytes mean as a request; what does not decode never reaches the service.
fn read<T: Message + Default>(bytes: &[u8]) -> Option<T> {
    T::decode(bytes).ok()
}

/// Any bytes as a request: the first says of which call.
pub fn queue_call(data: &[u8]) {
    let Some((call, bytes)) = data.split_first() else {
        return;
    };
    let world = &*WORLD;
    world.block_on(async {
        if call_one(&world.service, *call, bytes).await.is_some() {
            world.check().await;
        }
    });
}

/// Every answer is one; what matters is that it comes, and what it leaves behind.
async fn call_one(service: &Arc<QueueService>, call: u8, bytes: &[u8]) -> Option<()> {
    match call % 10 {
        0 => {
            let request: EnqueueRequest = read(bytes)?;
            let count = request.messages.len();
            if let Ok(results) = service.enqueue(request.messages).await {
                assert_eq!(results.len(), count);
            }
        }
        1 => drop(service.list(read::<ListRequest>(bytes)?).await),
        2 => drop(service.act(read::<ActRequest>(bytes)?).await),
        3 => drop(service.acts(read::<ActsRequest>(bytes)?).await),
        4 => drop(service.undo(read::<UndoRequest>(bytes)?).await),
        5 => {
            // What it suspends would be suspended for all inputs that follow.
            if let Ok(made) = service.suspend(read::<SuspendRequest>(bytes)?).await
                && let Some(suspension) = made.suspension
            {
                let id = suspension.id;
                drop(
                    service
                        .resume(ResumeRequest {
                            id,
                            ..ResumeRequest::default()
                        })
                        .await,
                );
            }
        }
        6 => drop(service.resume(read::<ResumeRequest>(bytes)?).await),
        7 => drop(service.find(read::<FindRequest>(bytes)?).await),
        8 => drop(service.show(read::<ShowRequest>(bytes)?.queue_id).await),
        _ => drop(service.journey(read::<JourneyRequest>(bytes)?.query).await),
    }
    Some(())
}

/// Any bytes as a worker's side of a conversation: frames, each after two bytes of its length. The
/// queue has something for it to misuse.
pub fn queue_conversation(data: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, after) = after.split_at(length);
        frames.extend(read::<WorkerFrame>(frame));
        rest = after;
    }
    // With an odd number of bytes it begins as it should.
    if data.len() % 2 == 1 {
        let hello = Hello {
            instance: "fuzz".to_owned(),
            transports: vec!["smtp".to_owned()],
            slots: 4,
        };
        frames.insert(
            0,
            WorkerFrame {
                frame: Some(worker_frame::Frame::Hello(hello)),
            },
        );
    }
    let world = &*WORLD;
    world.block_on(async {
        world.accept().await;
        let before = world.service.stats().await.expect("counts");
        let stream = stream::iter(frames).boxed();
        if let Ok(mut answers) = world.service.work(stream).await {
            // It ends by itself, because the worker has ended its side.
            while answers.next().await.is_some() {}
        }
        world.check().await;
        let after = world.service.stats().await.expect("counts");
        // Nobody can end more than there was.
        assert!(after.accepted >= before.accepted);
        assert!(after.delivered + after.failed + after.removed <= after.accepted);
    });
}
