//! Delivery as the callers see it.

use std::path::Path;
use std::sync::Arc;

use futures_util::stream;
use postrider_config::ServerConfig;
use postrider_protocol::{Code, QueueId};

use super::*;
use crate::config::MailboxConfig;

fn service(folder: &Path) -> Arc<MailboxService> {
    let accounts = "alice@c.test ! info@c.test\nbob@c.test !\no/b@c.test !\n";
    std::fs::write(folder.join("accounts"), accounts).unwrap();
    let server = ServerConfig {
        domains: vec!["c.test".to_owned()],
        data_dir: folder.to_owned(),
        ..ServerConfig::default()
    };
    MailboxService::open(&server, MailboxConfig::default()).unwrap()
}

fn header(recipients: &[&str]) -> DeliverHeader {
    let queue_id = QueueId::new();
    DeliverHeader {
        queue_id: queue_id.to_string(),
        delivery_id: format!("{queue_id}.0"),
        reverse_path: "bob@elsewhere.test".to_owned(),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        ..DeliverHeader::default()
    }
}

fn body(pieces: &[&str]) -> BodyStream {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| Ok(Bytes::from(piece.to_string())))
        .collect();
    stream::iter(pieces).boxed()
}

fn stored(folder: &Path, account: &str) -> Vec<Vec<u8>> {
    let new = folder.join("mailboxes/c.test").join(account).join("new");
    match std::fs::read_dir(new) {
        Ok(entries) => entries
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn codes(results: &[DeliverResult]) -> Vec<(u32, &str)> {
    results
        .iter()
        .map(|r| (r.reply_code, r.enhanced_status.as_str()))
        .collect()
}

#[tokio::test]
async fn each_recipient_gets_its_own_reply() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let recipients = [
        "Alice@C.test",
        "carol@c.test",
        "bob+tag@c.test",
        "x@elsewhere.test",
        "info@c.test",
        "../../etc@c.test",
        "o/b@c.test",
        "nul\0@c.test",
        "postmaster",
    ];
    let results = service
        .deliver(header(&recipients), body(&["A: 1\r\n", "\r\nx\r\n"]))
        .await
        .unwrap();
    let gone = (550, "5.1.1");
    let done = (250, "2.1.5");
    assert_eq!(
        codes(&results),
        [
            done,
            gone,
            done,
            (550, "5.1.2"),
            done,
            gone,
            done,
            gone,
            done
        ]
    );
    assert!(
        results
            .iter()
            .zip(recipients)
            .all(|(result, address)| result.address == address)
    );
    // One copy an account, whatever stands for it.
    let expected = b"Return-Path: <bob@elsewhere.test>\r\nA: 1\r\n\r\nx\r\n".to_vec();
    for account in ["alice", "bob", "o%2fb"] {
        assert_eq!(
            stored(folder.path(), account),
            std::slice::from_ref(&expected),
            "{account}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_large_message_streams() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let line = format!("{}\r\n", "x".repeat(998)).repeat(100);
    let pieces: Vec<&str> = (0..30).map(|_| line.as_str()).collect();
    let mut header = header(&["alice@c.test", "bob@c.test"]);
    header.reverse_path = String::new();
    header.size = 3_000_000;
    let results = service
        .deliver(header.clone(), body(&pieces))
        .await
        .unwrap();
    assert_eq!(codes(&results), [(250, "2.1.5"); 2]);
    let expected = [
        b"Return-Path: <>\r\n".to_vec(),
        pieces.concat().into_bytes(),
    ]
    .concat();
    for account in ["alice", "bob"] {
        assert_eq!(
            stored(folder.path(), account),
            std::slice::from_ref(&expected)
        );
    }
    // The same once more adds nothing.
    let results = service.deliver(header, body(&pieces)).await.unwrap();
    assert_eq!(codes(&results), [(250, "2.1.5"); 2]);
    assert_eq!(stored(folder.path(), "alice").len(), 1);
}

#[tokio::test]
async fn a_message_that_breaks_off_is_delivered_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let big = "x".repeat(GATHER);
    for pieces in [vec!["half"], vec![big.as_str(), "half"]] {
        let broken = body(&pieces).chain(stream::iter([Err(Status::cancelled("gone"))]));
        let broken = service
            .deliver(header(&["alice@c.test"]), broken.boxed())
            .await;
        assert_eq!(broken.unwrap_err().code(), Code::Cancelled);
        let mut short = header(&["alice@c.test"]);
        short.size = 1_000_000;
        let short = service.deliver(short, body(&pieces)).await;
        assert_eq!(short.unwrap_err().code(), Code::DataLoss);
    }
    assert!(stored(folder.path(), "alice").is_empty());
    let tmp = folder.path().join("mailboxes/c.test/alice/tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0);
}

#[tokio::test]
async fn nonsense_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let good = header(&["alice@c.test"]);
    let many = vec!["alice@c.test"; MAX_RECIPIENTS + 1];
    for bad in [
        DeliverHeader {
            delivery_id: "../../x".to_owned(),
            ..good.clone()
        },
        DeliverHeader {
            delivery_id: String::new(),
            ..good.clone()
        },
        DeliverHeader {
            recipients: Vec::new(),
            ..good.clone()
        },
        DeliverHeader {
            reverse_path: "a@b\r\nX-Evil: 1".to_owned(),
            ..good.clone()
        },
        DeliverHeader {
            reverse_path: "x".repeat(2_000),
            ..good.clone()
        },
        header(&many),
    ] {
        let refused = service.deliver(bad, body(&["x"])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert!(stored(folder.path(), "alice").is_empty());
}

#[test]
fn a_full_disk_is_a_reason_to_try_again() {
    for (kind, code, status) in [
        (io::ErrorKind::StorageFull, 452, "4.3.1"),
        (io::ErrorKind::QuotaExceeded, 452, "4.2.2"),
        (io::ErrorKind::ReadOnlyFilesystem, 451, "4.3.0"),
        (io::ErrorKind::Other, 451, "4.3.0"),
    ] {
        let reply = reply_to(&Err(kind.into()));
        assert_eq!((reply.code, reply.status), (code, status));
        assert_eq!(reply.outcome, Outcome::Deferred);
    }
}
