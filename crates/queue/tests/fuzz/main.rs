//! Replays `fuzz/corpus/`: seeds, and whatever fuzzing has found. And a little fuzzing without a
//! fuzzer: seeds that are cut, joined and flipped at random, with a seed that is printed.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test")]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::{
    ActRequest, Attempt, Body, Completion, CompletionBatch, Drain, EnqueueRequest, Envelope,
    Filter, FindRequest, Heartbeat, Hello, JourneyRequest, LeaseList, ListRequest, NewMessage,
    Recipient, RecipientOutcome, SuspendRequest, Suspension, WorkerFrame, body, worker_frame,
};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

const ID: &str = "01j0000000e008000000000001";
/// Inputs that are made of the seeds.
const MUTATIONS: usize = 400;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 3, "only {} inputs", paths.len());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    for (n, input) in corpus.iter().enumerate() {
        // Named before it runs, so that a failure tells which it was.
        println!("input {n} of {target}");
        body(input);
    }
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..MUTATIONS {
        let input = mutate(&corpus, &mut random);
        println!("{input:02x?}");
        body(&input);
    }
}

fn mutate(corpus: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..5) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => input.truncate(at),
            3 => input.insert(at, random.random()),
            _ => {
                let other = &corpus[random.random_range(0..corpus.len())];
                let from = random.random_range(0..=other.len());
                input.splice(at..at, other[from..].iter().copied());
            }
        }
    }
    input
}

#[test]
fn queue_call() {
    replay("queue_call", harness::queue_call);
}

#[test]
fn queue_conversation() {
    replay("queue_conversation", harness::queue_conversation);
}

fn call(number: u8, request: &impl Message) -> Vec<u8> {
    let mut input = vec![number];
    input.extend(request.encode_to_vec());
    input
}

fn conversation(frames: &[worker_frame::Frame]) -> Vec<u8> {
    let mut input = Vec::new();
    for frame in frames {
        let frame = WorkerFrame {
            frame: Some(frame.clone()),
        };
        let bytes = frame.encode_to_vec();
        input.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        input.extend(bytes);
    }
    if input.len() % 2 == 0 {
        // Half a length: it begins with a proper hello.
        input.push(0);
    }
    input
}

fn message() -> NewMessage {
    NewMessage {
        queue_id: ID.to_owned(),
        envelope: Some(Envelope {
            recipients: vec![Recipient {
                address: "a@b.test".to_owned(),
                destination: "smtp:b.test".to_owned(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        }),
        body: Some(Body {
            size: 3,
            content: Some(body::Content::Inline("x\r\n".into())),
        }),
        tenant: "t".to_owned(),
        priority: 9,
        release_us: 1,
        ..NewMessage::default()
    }
}

fn filter() -> Filter {
    Filter {
        queue_ids: vec![ID.to_owned()],
        destination: "smtp:*.b.test".to_owned(),
        sender: "<>".to_owned(),
        recipient: "@b.test".to_owned(),
        min_attempts: 1,
        last_reply: "no".to_owned(),
        ..Filter::default()
    }
}

/// Writes the seeds. They are made once, and again when the protos have grown.
#[test]
#[ignore = "writes into the repository"]
fn seeds() {
    let completion = Completion {
        delivery_id: format!("{ID}.0"),
        token: 1,
        attempt: Some(Attempt {
            number: 1,
            outcomes: vec![RecipientOutcome {
                address: "alice@a.test".to_owned(),
                kind: 1,
                reply_code: 250,
                ..RecipientOutcome::default()
            }],
            ..Attempt::default()
        }),
        dsn: vec![message()],
        delay_warned: true,
    };
    let stored = NewMessage {
        body: Some(Body {
            size: 1,
            content: Some(body::Content::Stored("../../etc/passwd".to_owned())),
        }),
        ..message()
    };
    let acts = [
        Act::Hold,
        Act::Retry,
        Act::Bounce,
        Act::Remove,
        Act::Reroute,
    ]
    .map(|act| {
        let request = ActRequest {
            act: act.into(),
            filter: Some(filter()),
            operator: "ann".to_owned(),
            destination: "smtp:c.test".to_owned(),
            until_us: u64::MAX,
            ..ActRequest::default()
        };
        call(2, &request)
    });
    let mut calls = vec![
        call(
            0,
            &EnqueueRequest {
                messages: vec![message(), stored],
            },
        ),
        call(
            1,
            &ListRequest {
                filter: Some(filter()),
                limit: 1,
                page_token: format!("{ID}.0"),
            },
        ),
        call(
            5,
            &SuspendRequest {
                suspension: Some(Suspension {
                    destination: "smtp:zz.test".to_owned(),
                    sender: "@b.test".to_owned(),
                    tenant: "t".to_owned(),
                    until_us: 1,
                    ..Suspension::default()
                }),
                preview: false,
            },
        ),
        call(
            7,
            &FindRequest {
                sender: "a@b.test".to_owned(),
                limit: 100,
                ..FindRequest::default()
            },
        ),
        call(
            9,
            &JourneyRequest {
                query: "<x@y>".to_owned(),
            },
        ),
    ];
    calls.extend(acts);
    let hello = worker_frame::Frame::Hello(Hello {
        instance: "w".to_owned(),
        transports: vec!["smtp".to_owned(), String::new()],
        slots: 2,
    });
    let completions = worker_frame::Frame::Completions(CompletionBatch {
        completions: vec![completion.clone(), completion],
    });
    let back = worker_frame::Frame::GiveBack(LeaseList {
        tokens: vec![0, 1, u64::MAX],
    });
    let beat = worker_frame::Frame::Heartbeat(Heartbeat::default());
    let drain = worker_frame::Frame::Drain(Drain {});
    let conversations = vec![
        conversation(&[completions.clone(), back.clone(), beat.clone()]),
        conversation(&[hello.clone(), hello, completions]),
        conversation(&[beat.clone(), drain.clone(), beat, back]),
        conversation(&[drain]),
    ];
    for (target, inputs) in [("queue_call", calls), ("queue_conversation", conversations)] {
        fs::create_dir_all(folder(target)).unwrap();
        for (n, input) in inputs.iter().enumerate() {
            fs::write(folder(target).join(format!("seed-{n}")), input).unwrap();
        }
    }
}
