//! One message of every kind that a store can hold, and what must be found of them later.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::queue_v1::delivery_status::State;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{
    Attempt, Body, DialogueLine, Envelope, Filter, Journey, JourneyEvent, LeasedDelivery,
    NewMessage, Notice, Origin, OutcomeKind, Received, Recipient, RecipientOutcome, body,
    dialogue_line, journey_event,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::policy::{Policies, Policy};
use postrider_queue::store::{
    Act, By, Completed, Completion, Enqueued, Find, LeaseRequest, Store, StoreSettings,
};

/// A hundred years: what was recorded must not have run out when it is read.
const LONG: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The messages, by what has happened to them. Their numbers are their ids.
const FRESH: u128 = 1;
const DEFERRED: u128 = 2;
const HALF: u128 = 3;
const HELD: u128 = 4;
const BOUNCED: u128 = 5;
const LEASED: u128 = 6;
const DELIVERED: u128 = 7;
const FAILED: u128 = 8;
const STORED: u128 = 9;
const STORED_ENDED: u128 = 10;
const REMOVED: u128 = 11;
const UNKNOWN: u128 = 12;
const DSN: u128 = 13;
/// Messages that came and went; so many that the embedded store clears up behind itself.
const PASSED: std::ops::Range<u128> = 100..112;
const PASSED_SIZE: usize = 4_000;

pub(crate) fn settings() -> StoreSettings {
    StoreSettings {
        lease: Duration::from_secs(5),
        slots_per_destination: 20,
        policies: Arc::new(Policies {
            default: Policy {
                lifetime: LONG,
                delay_warning: None,
                ..Policy::default()
            },
            ..Policies::default()
        }),
        journey_retention: LONG,
        instance: "queue@recorded".to_owned(),
    }
}

fn id(number: u128) -> QueueId {
    QueueId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | number)
}

fn text(number: u128) -> String {
    id(number).to_string()
}

fn content(number: u128) -> Bytes {
    // With what a careless reader would trip over: a zero, bytes that are no UTF-8, a lone dot.
    let mut content = format!("Subject: {number}\r\n\r\n.\r\n").into_bytes();
    content.extend([0, 0xff, 0xfe, b'\r', b'\n']);
    content.extend(std::iter::repeat_n(b'a' + number as u8, 100));
    content.extend(b"\r\n");
    content.into()
}

fn line(from: dialogue_line::From, text: &str) -> DialogueLine {
    DialogueLine {
        from: from as i32,
        text: text.to_owned(),
        at_us: 1_234,
    }
}

fn origin() -> Origin {
    Origin {
        role: "submission".to_owned(),
        client_address: "192.0.2.1".to_owned(),
        client_name: "client.example".to_owned(),
        account: "ann@example.org".to_owned(),
        tls: "TLSv1.3".to_owned(),
    }
}

fn message(number: u128, to: &[(&str, &str)]) -> NewMessage {
    let content = content(number);
    NewMessage {
        queue_id: text(number),
        envelope: Some(Envelope {
            reverse_path: "ann@example.org".to_owned(),
            recipients: to
                .iter()
                .map(|(address, destination)| Recipient {
                    address: (*address).to_owned(),
                    destination: (*destination).to_owned(),
                    dsn_orcpt: format!("rfc822;{address}"),
                    dsn_notify: 4,
                })
                .collect(),
            smtputf8: true,
            eight_bit_mime: true,
            dsn_envid: "envid-1".to_owned(),
            dsn_return: 2,
        }),
        body: Some(Body {
            size: content.len() as u64,
            content: Some(body::Content::Inline(content)),
        }),
        message_id: format!("{number}@recorded.example"),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        origin: Some(origin()),
        events: vec![JourneyEvent {
            time_us: 1_700_000_000_000_000,
            instance: "edge@recorded".to_owned(),
            what: Some(journey_event::What::Received(Received {
                origin: Some(origin()),
                dialogue: vec![line(dialogue_line::From::Client, "EHLO client.example")],
            })),
        }],
        ..NewMessage::default()
    }
}

fn stored(number: u128, name: &str) -> NewMessage {
    let mut message = message(number, &[("s@stored.test", "smtp:stored.test")]);
    message.body = Some(Body {
        size: 1_000_000,
        content: Some(body::Content::Stored(name.to_owned())),
    });
    message
}

fn dsn() -> NewMessage {
    let mut dsn = message(DSN, &[("ann@example.org", "mailbox:example.org")]);
    let envelope = dsn.envelope.as_mut().unwrap();
    envelope.reverse_path = String::new();
    dsn
}

async fn accept(store: &dyn Store, messages: Vec<NewMessage>) {
    for result in store.enqueue(messages).await {
        assert_eq!(result.unwrap(), Enqueued::Accepted);
    }
}

async fn pull(store: &dyn Store) -> Vec<LeasedDelivery> {
    let request = LeaseRequest {
        worker: "delivery@recorded".to_owned(),
        transports: vec!["smtp".to_owned(), "mailbox".to_owned()],
        slots: 1_000,
    };
    let mut pulled = Vec::new();
    for grant in store.lease(request, 100).await.unwrap() {
        pulled.extend(store.pull(grant.token, 1_000).await.unwrap().unwrap());
    }
    pulled
}

fn completion(delivery: &LeasedDelivery, kind: OutcomeKind, code: u32) -> Completion {
    let recipients = &delivery.envelope.as_ref().unwrap().recipients;
    Completion {
        delivery: delivery.delivery_id.parse().unwrap(),
        token: delivery.token,
        attempt: Attempt {
            destination: delivery.destination.clone(),
            number: delivery.attempt,
            started_us: 1_700_000_000_000_001,
            ended_us: 1_700_000_000_000_002,
            remote_host: "mx.example".to_owned(),
            remote_address: "192.0.2.7:25".to_owned(),
            tls: "TLSv1.3".to_owned(),
            outcomes: recipients
                .iter()
                .map(|recipient| RecipientOutcome {
                    address: recipient.address.clone(),
                    kind: kind as i32,
                    reply_code: code,
                    enhanced_status: format!("{}.1.1", code / 100),
                    reply_text: "so it said".to_owned(),
                    from_remote: true,
                })
                .collect(),
            dialogue: vec![line(dialogue_line::From::Server, "220 mx.example")],
            next_attempt_us: 0,
        },
        retry_after: Duration::from_secs(5),
        dsn: Vec::new(),
        delay_warned: false,
        worker: "delivery@recorded".to_owned(),
    }
}

fn at(domain: &str, number: u128) -> NewMessage {
    let destination = format!("smtp:{domain}");
    message(number, &[(&format!("r@{domain}"), &destination)])
}

/// Brings an empty store into the first half of the state that is recorded.
pub(crate) async fn play(store: &dyn Store) {
    accept(
        store,
        vec![
            at("deferred.test", DEFERRED),
            message(
                HALF,
                &[
                    ("a@half.test", "smtp:half.test"),
                    ("b@other.test", "smtp:other.test"),
                ],
            ),
            at("bounced.test", BOUNCED),
            at("delivered.test", DELIVERED),
            at("failed.test", FAILED),
            at("unknown.test", UNKNOWN),
        ],
    )
    .await;
    for delivery in pull(store).await {
        let (kind, code) = match delivery.destination.as_str() {
            "smtp:deferred.test" | "smtp:other.test" | "smtp:bounced.test" => {
                (OutcomeKind::Deferred, 450)
            }
            "smtp:failed.test" => (OutcomeKind::Failed, 550),
            "smtp:unknown.test" => (OutcomeKind::Unknown, 0),
            _ => (OutcomeKind::Delivered, 250),
        };
        let mut completion = completion(&delivery, kind, code);
        if kind == OutcomeKind::Failed {
            completion.dsn.push(dsn());
        }
        let done = store.complete(vec![completion]).await.remove(0);
        assert_eq!(done.unwrap(), Completed::Done);
    }
    for number in PASSED {
        let mut message = at("passed.test", number);
        message.body = Some(Body {
            size: PASSED_SIZE as u64,
            content: Some(body::Content::Inline(vec![b'p'; PASSED_SIZE].into())),
        });
        accept(store, vec![message]).await;
        deliver_only(store, "smtp:passed.test").await;
    }
}

/// Delivers what is due at one destination, and leaves the rest alone.
async fn deliver_only(store: &dyn Store, destination: &str) {
    for delivery in pull(store).await {
        if delivery.destination == destination {
            let completion = completion(&delivery, OutcomeKind::Delivered, 250);
            let done = store.complete(vec![completion]).await.remove(0);
            assert_eq!(done.unwrap(), Completed::Done);
        }
        store.give_back(vec![delivery.token]).await.unwrap();
    }
}

/// The second half, perhaps after a restart. At its end, one delivery is leased.
pub(crate) async fn leave(store: &dyn Store) {
    let by = By {
        operator: "ann".to_owned(),
        reason: "to see it later".to_owned(),
    };
    let act = async |act: Act, number: u128| {
        let id = DeliveryId {
            queue_id: id(number),
            number: 0,
        };
        assert_eq!(store.act(&act, &[id], &by).await.unwrap(), vec![true]);
    };
    act(Act::Bounce, BOUNCED).await;
    accept(store, vec![stored(STORED_ENDED, "body-ended")]).await;
    deliver_only(store, "smtp:stored.test").await;
    accept(
        store,
        vec![at("held.test", HELD), at("removed.test", REMOVED)],
    )
    .await;
    act(Act::Hold { until_us: None }, HELD).await;
    act(Act::Remove, REMOVED).await;
    accept(store, vec![at("leased.test", LEASED)]).await;
    // The DSN and the one to bounce are due as well, and given back.
    let mut others = Vec::new();
    for delivery in pull(store).await {
        if delivery.queue_id != text(LEASED) {
            others.push(delivery.token);
        }
    }
    store.give_back(others).await.unwrap();
    accept(
        store,
        vec![at("fresh.test", FRESH), stored(STORED, "body-used")],
    )
    .await;
}

/// What [`play`] left is there, and comes to its end.
pub(crate) async fn check(store: &dyn Store) {
    // The worker that had it is gone: nobody knows what became of it.
    store.expire().await.unwrap();
    listed(store).await;
    told(store).await;
    ended(store).await;
    to_the_end(store).await;
}

async fn listed(store: &dyn Store) {
    let all = store.list(&Filter::default(), None, 100).await.unwrap();
    let open: Vec<(String, State, u32)> = all
        .iter()
        .map(|status| (status.delivery_id.clone(), status.state(), status.attempts))
        .collect();
    let expected = [
        (FRESH, 0, State::Waiting, 0),
        (DEFERRED, 0, State::Waiting, 1),
        (HALF, 1, State::Waiting, 1),
        (HELD, 0, State::Held, 0),
        (BOUNCED, 0, State::Waiting, 1),
        (LEASED, 0, State::Waiting, 1),
        (STORED, 0, State::Waiting, 0),
        (UNKNOWN, 0, State::Waiting, 1),
        (DSN, 0, State::Waiting, 0),
    ]
    .map(|(number, delivery, state, attempts)| {
        (format!("{}.{delivery}", text(number)), state, attempts)
    });
    assert_eq!(open, expected);
    let deferred = &all[1];
    assert_eq!(deferred.destination, "smtp:deferred.test");
    assert_eq!(deferred.reverse_path, "ann@example.org");
    assert_eq!(deferred.recipients, ["r@deferred.test"]);
    assert_eq!(deferred.size, content(DEFERRED).len() as u64);
    let outcome = &deferred.last_outcomes[0];
    assert_eq!(
        (
            outcome.kind(),
            outcome.reply_code,
            outcome.reply_text.as_str()
        ),
        (OutcomeKind::Deferred, 450, "so it said")
    );
    assert_eq!(
        (outcome.enhanced_status.as_str(), outcome.from_remote),
        ("4.1.1", true)
    );
    let shown = store.show(id(HELD)).await.unwrap().unwrap();
    assert_eq!(shown.message_id, format!("{HELD}@recorded.example"));
    assert_eq!(
        shown.envelope,
        message(HELD, &[("r@held.test", "smtp:held.test")]).envelope
    );
    assert_eq!(shown.origin, Some(origin()));
}

/// Journeys, of what is queued and of what has ended.
async fn told(store: &dyn Store) {
    let journey = async |number: u128| -> Journey {
        let journey = store.journey(id(number)).await.unwrap();
        journey.unwrap_or_else(|| panic!("no journey of {number}"))
    };
    let delivered = journey(DELIVERED).await;
    assert!(delivered.ended);
    assert_eq!(delivered.reverse_path, "ann@example.org");
    assert_eq!(
        delivered.message_id,
        format!("{DELIVERED}@recorded.example")
    );
    let [received, queued, attempted] = &delivered.events[..] else {
        panic!("{delivered:?}");
    };
    assert_eq!(
        *received,
        message(DELIVERED, &[]).events[0],
        "what the edge told of it"
    );
    assert_eq!(queued.instance, "queue@recorded");
    let Some(journey_event::What::Queued(queued)) = &queued.what else {
        panic!("{queued:?}");
    };
    assert_eq!(queued.recipients, ["r@delivered.test"]);
    // The first release named the queue that stored it, later ones the worker that made it.
    let instance = attempted.instance.as_str();
    assert!(["queue@recorded", "delivery@recorded"].contains(&instance));
    let Some(journey_event::What::Attempt(attempt)) = &attempted.what else {
        panic!("{attempted:?}");
    };
    assert_eq!(
        (attempt.number, attempt.remote_host.as_str()),
        (1, "mx.example")
    );
    assert_eq!(attempt.dialogue[0].text, "220 mx.example");
    assert_eq!(attempt.outcomes[0].kind(), OutcomeKind::Delivered);

    let notices = async |number: u128| -> Vec<Notice> {
        let events = journey(number).await.events;
        events
            .into_iter()
            .filter_map(|event| match event.what {
                Some(journey_event::What::Notice(notice)) => Some(notice),
                _ => None,
            })
            .collect()
    };
    assert_eq!(notices(FAILED).await[0].dsn_queue_id, text(DSN));
    assert_eq!(notices(REMOVED).await[0].operator, "ann");
    assert!(notices(HELD).await[0].text.contains("to see it later"));
    let lapsed = notices(LEASED).await;
    assert!(
        lapsed.iter().any(|notice| notice.text.contains("unknown")),
        "{lapsed:?}"
    );
    let wanted = Find::MessageId(format!("{DELIVERED}@recorded.example"));
    assert_eq!(store.find(&wanted, 10).await.unwrap(), [id(DELIVERED)]);
}

/// What has ended stays known, and is counted.
async fn ended(store: &dyn Store) {
    for number in [DELIVERED, FAILED, REMOVED, FRESH] {
        let again = message(number, &[("r@again.test", "smtp:again.test")]);
        let result = store.enqueue(vec![again]).await.remove(0);
        assert_eq!(result.unwrap(), Enqueued::AlreadyAccepted);
    }
    assert_eq!(store.ended_bodies(10).await.unwrap(), ["body-ended"]);
    let names = vec!["body-used".to_owned(), "body-nobodys".to_owned()];
    assert_eq!(store.bodies_in_use(names).await.unwrap(), ["body-used"]);
    let stats = store.stats().await.unwrap();
    assert_eq!(
        (
            stats.accepted,
            stats.delivered,
            stats.failed,
            stats.removed,
            stats.open
        ),
        (26, 15, 1, 1, 9)
    );
    assert_eq!((stats.waiting, stats.held, stats.messages), (8, 1, 9));
    assert_eq!(stats.unknown_outcomes, 2);
}

async fn to_the_end(store: &dyn Store) {
    let held = DeliveryId {
        queue_id: id(HELD),
        number: 0,
    };
    let by = By::default();
    assert_eq!(
        store.act(&Act::Release, &[held], &by).await.unwrap(),
        [true]
    );
    let pulled = pull(store).await;
    assert_eq!(pulled.len(), 9);
    for delivery in pulled {
        let number = delivery.queue_id.parse::<QueueId>().unwrap().as_u128() & 0xff;
        let disposition = match number {
            BOUNCED => Disposition::Bounce,
            _ => Disposition::Attempt,
        };
        assert_eq!(delivery.disposition(), disposition, "{number}");
        match delivery.body.as_ref().unwrap().content.as_ref().unwrap() {
            body::Content::Inline(bytes) => assert_eq!(*bytes, content(number)),
            body::Content::Stored(name) => assert_eq!(name, "body-used"),
        }
        assert_eq!(delivery.origin, Some(origin()));
        assert_eq!(delivery.message_id, format!("{number}@recorded.example"));
        assert!(delivery.traceparent.starts_with("00-0af7651916cd43dd"));
        let envelope = delivery.envelope.as_ref().unwrap();
        assert_eq!(envelope.dsn_envid, "envid-1");
        assert_eq!(envelope.recipients[0].dsn_notify, 4);
        let kind = match number {
            BOUNCED => OutcomeKind::Failed,
            _ => OutcomeKind::Delivered,
        };
        let done = store
            .complete(vec![completion(&delivery, kind, 250)])
            .await
            .remove(0);
        assert_eq!(done.unwrap(), Completed::Done, "{number}");
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(
        (
            stats.accepted,
            stats.delivered,
            stats.failed,
            stats.removed,
            stats.open
        ),
        (26, 23, 2, 1, 0)
    );
}
