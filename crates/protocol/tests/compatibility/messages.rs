//! Encoded messages of earlier releases, and the types of today.

use std::collections::BTreeSet;
use std::path::PathBuf;

use postrider_protocol::{mailbox_v1, queue_v1};
use prost::Message;
use prost_reflect::DynamicMessage;

use crate::{at_root, pool, sample};

/// Decodes, and encodes again.
type Repeat = fn(&[u8]) -> Vec<u8>;

fn repeat<T: Message + Default>(encoded: &[u8]) -> Vec<u8> {
    T::decode(encoded).unwrap().encode_to_vec()
}

macro_rules! types {
    ($($package:literal $module:ident: $($name:ident)*;)*) => {
        const TYPES: &[(&str, Repeat)] = &[
            $($((concat!($package, ".", stringify!($name)), repeat::<$module::$name>),)*)*
        ];
    };
}

types! {
    "postrider.mailbox.v1" mailbox_v1:
        AuthenticateRequest AuthenticateResponse DeliverChunk DeliverHeader DeliverResponse DeliverResult
        LookupRequest LookupResponse;
    "postrider.queue.v1" queue_v1:
        ActRecord ActRequest ActResponse ActsRequest ActsResponse Attempt Body BodyChunk Completion
        CompletionAck CompletionAcks CompletionBatch DeliveryBatch DeliveryStatus DestinationStats
        DialogueLine Drain EnqueueRequest EnqueueResponse EnqueueResult Envelope ExportedDelivery
        ExportedMessage Filter FindRequest FindResponse GetBodyRequest Grant Heartbeat Hello Journey
        JourneyEvent JourneyRequest JourneyResponse LeaseList LeasedDelivery ListRequest ListResponse
        NewMessage Notice Origin PartialReturn PartialReturnBatch PutBodyResponse QueueFrame Queued Received Recipient RecipientOutcome
        ResumeRequest ResumeResponse ShowRequest ShowResponse StatsRequest StatsResponse
        SuspendRequest SuspendResponse Suspension SuspensionsRequest SuspensionsResponse UndoRequest
        Welcome WorkerFrame;
}

/// One recorded message.
struct Recorded {
    name: String,
    encoded: Vec<u8>,
    words: Vec<String>,
}

fn write(all: &[Recorded]) -> String {
    let mut text = String::new();
    for one in all {
        let hex: String = one.encoded.iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("{}\nencoded {hex}\n", one.name));
        for line in &one.words {
            text.push_str(&format!("{line}\n"));
        }
        text.push('\n');
    }
    text
}

fn read(text: &str) -> Vec<Recorded> {
    text.split_terminator("\n\n")
        .map(|part| {
            let mut lines = part.lines();
            let name = lines.next().unwrap().to_owned();
            let hex = lines.next().unwrap().strip_prefix("encoded ").unwrap();
            let encoded = (0..hex.len() / 2)
                .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            Recorded {
                name,
                encoded,
                words: lines.map(str::to_owned).collect(),
            }
        })
        .collect()
}

/// Samples of every type as it is today.
fn samples() -> Vec<Recorded> {
    let mut all = Vec::new();
    for message in pool().all_messages() {
        for variant in 0..sample::variants(&message) {
            let sample = sample::message(&message, variant);
            all.push(Recorded {
                name: message.full_name().to_owned(),
                encoded: sample.encode_to_vec(),
                words: sample::words(&sample),
            });
        }
    }
    all
}

fn folder() -> PathBuf {
    at_root("crates/protocol/tests/compatibility/recorded")
}

fn check(one: &Recorded) {
    let Some((_, repeat)) = TYPES.iter().find(|(name, _)| *name == one.name) else {
        panic!("{} is gone", one.name);
    };
    // The types of today take every field in, and give every field back.
    assert_eq!(repeat(&one.encoded), one.encoded, "{}", one.name);
    let descriptor = pool().get_message_by_name(&one.name).unwrap();
    let decoded = DynamicMessage::decode(descriptor, &one.encoded[..]).unwrap();
    assert_eq!(sample::words(&decoded), one.words, "{}", one.name);
}

#[test]
fn every_recorded_message_says_what_it_said() {
    let mut files = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let all = read(&std::fs::read_to_string(&path).unwrap());
        assert!(all.len() > 80, "{}: {}", path.display(), all.len());
        all.iter().for_each(check);
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn every_type_and_field_of_today_is_recorded() {
    let of = |all: &[Recorded]| -> BTreeSet<String> {
        all.iter()
            .flat_map(|one| {
                let line = |line: &String| format!("{} {line}", one.name);
                one.words.iter().map(line).chain([one.name.clone()])
            })
            .collect()
    };
    let mut recorded = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        recorded.extend(of(&read(&text)));
    }
    let missing: Vec<String> = of(&samples()).difference(&recorded).cloned().collect();
    assert!(
        missing.is_empty(),
        "not recorded, `cargo xtask compatibility --record NAME` does it:\n{}",
        missing.join("\n")
    );
    let known: BTreeSet<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    for message in pool().all_messages() {
        assert!(known.contains(message.full_name()), "{message:?}");
    }
}

#[test]
fn samples_pass_and_what_is_changed_does_not() {
    let all = samples();
    for one in &all {
        check(one);
    }
    assert!(write(&read(&write(&all))) == write(&all));
    let caught = |name: &str, change: fn(&mut Recorded)| {
        let mut one = samples().into_iter().find(|one| one.name == name).unwrap();
        change(&mut one);
        std::panic::catch_unwind(|| check(&one)).is_err()
    };
    let grant = "postrider.queue.v1.Grant";
    assert!(!caught(grant, |_| {}));
    assert!(caught(grant, |one| one.encoded[1] ^= 1));
    assert!(caught(grant, |one| one.encoded[0] = 6 << 3));
    assert!(caught(grant, |one| one.name.push('s')));
    assert!(caught(grant, |one| one.words[0].push('1')));
}

/// Writes the samples of the release `POSTRIDER_RELEASE`, if there are none.
#[test]
#[ignore = "writes into the repository: cargo xtask compatibility --record NAME"]
fn record() {
    let release = std::env::var("POSTRIDER_RELEASE").unwrap();
    let path = folder().join(format!("{release}.txt"));
    if path.exists() {
        println!("{} is there and stays as it is", path.display());
        return;
    }
    std::fs::create_dir_all(folder()).unwrap();
    std::fs::write(path, write(&samples())).unwrap();
}
