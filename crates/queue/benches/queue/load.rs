//! Messages, and the work on them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{
    Attempt, Body, DialogueLine, Envelope, JourneyEvent, LeasedDelivery, NewMessage, OutcomeKind,
    Received, Recipient, RecipientOutcome, body, journey_event,
};
use postrider_queue::store::{Completion, LeaseRequest};
use tokio::task::JoinSet;

use crate::subject::Subject;

/// Content of a message that is worked off.
const CONTENT: usize = 4096;
/// Content of one that only waits, so that a million fit on the disk.
const WAITING_CONTENT: usize = 256;
/// Destinations that messages which are worked off go to, at most.
const BUSY: usize = 1_000;
/// Workers that lease and complete.
const WORKERS: usize = 4;

/// Messages that wait: half of them for a time in the future, at the destinations that get the
/// other load as well; half of them due, under a transport that nobody asks for.
pub(crate) async fn fill(subject: &Subject, depth: usize, spread: usize) {
    let store = subject.store();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let later_us = (now + Duration::from_secs(86_400)).as_micros() as u64;
    for from in (0..depth).step_by(1_000) {
        let batch = (from..depth.min(from + 1_000)).map(|n| {
            let transport = if n % 2 == 0 { "smtp" } else { "mailbox" };
            let destination = format!("{transport}:d{}.test", n / 2 % spread.div_ceil(2));
            NewMessage {
                release_us: if n % 2 == 0 { later_us + n as u64 } else { 0 },
                ..message(&destination, WAITING_CONTENT)
            }
        });
        let results = store.enqueue(batch.collect()).await;
        assert!(results.iter().all(Result::is_ok));
    }
}

/// So many clients enqueue messages one by one.
pub(crate) async fn enqueue(subject: &Subject, clients: usize, messages: usize, spread: usize) {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let store = subject.store();
        tasks.spawn(async move {
            for n in (client..messages).step_by(clients) {
                let destination = format!("smtp:d{}.test", n % spread.div_ceil(2).min(BUSY));
                let results = store.enqueue(vec![message(&destination, CONTENT)]).await;
                assert!(results[0].is_ok());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Workers lease, pull and complete what is due under "smtp" until so many are done.
pub(crate) async fn work_off(subject: &Subject, messages: usize) {
    let mut tasks = JoinSet::new();
    for worker in 0..WORKERS {
        let store = subject.store();
        tasks.spawn(async move {
            let mut done = 0;
            let request = LeaseRequest {
                worker: format!("w{worker}"),
                transports: vec!["smtp".to_owned()],
                slots: 64,
            };
            loop {
                let grants = store.lease(request.clone(), 16).await.unwrap();
                if grants.is_empty() {
                    return done;
                }
                let mut at_grants = JoinSet::new();
                for grant in &grants {
                    let (store, token) = (store.clone(), grant.token);
                    at_grants.spawn(async move {
                        let mut done = 0;
                        loop {
                            let pulled = store.pull(token, 8).await.unwrap().unwrap();
                            if pulled.is_empty() {
                                return done;
                            }
                            done += pulled.len();
                            let reports = pulled.iter().map(completion).collect();
                            let results = store.complete(reports).await;
                            assert!(results.iter().all(Result::is_ok));
                        }
                    });
                }
                while let Some(at_grant) = at_grants.join_next().await {
                    done += at_grant.unwrap();
                }
                let tokens = grants.iter().map(|grant| grant.token).collect();
                store.give_back(tokens).await.unwrap();
            }
        });
    }
    let mut done = 0;
    while let Some(worker) = tasks.join_next().await {
        done += worker.unwrap();
    }
    assert_eq!(done, messages);
}

fn message(destination: &str, size: usize) -> NewMessage {
    let id = QueueId::new();
    let received = JourneyEvent {
        what: Some(journey_event::What::Received(Received {
            dialogue: dialogue(),
            ..Received::default()
        })),
        ..JourneyEvent::default()
    };
    NewMessage {
        queue_id: id.to_string(),
        message_id: format!("{id}@bench.test"),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        envelope: Some(Envelope {
            reverse_path: "bob@sender.test".to_owned(),
            recipients: vec![Recipient {
                address: "alice@recipient.test".to_owned(),
                destination: destination.to_owned(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        }),
        body: Some(Body {
            size: size as u64,
            content: Some(body::Content::Inline(Bytes::from(vec![b'x'; size]))),
        }),
        events: if size == CONTENT {
            vec![received]
        } else {
            Vec::new()
        },
        ..NewMessage::default()
    }
}

fn dialogue() -> Vec<DialogueLine> {
    let line = DialogueLine {
        from: 1,
        text: "MAIL FROM:<bob@sender.test> SIZE=4096".to_owned(),
        at_us: 1234,
    };
    vec![line; 12]
}

fn completion(delivery: &LeasedDelivery) -> Completion {
    Completion {
        delivery: delivery.delivery_id.parse().unwrap(),
        token: delivery.token,
        attempt: Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            outcomes: vec![RecipientOutcome {
                address: "alice@recipient.test".to_owned(),
                kind: OutcomeKind::Delivered as i32,
                reply_code: 250,
                reply_text: "2.0.0 Ok: queued".to_owned(),
                ..RecipientOutcome::default()
            }],
            dialogue: dialogue(),
            ..Attempt::default()
        },
        retry_after: Duration::from_secs(300),
        dsn: Vec::new(),
        delay_warned: false,
        worker: "delivery@bench".to_owned(),
    }
}
