//! The store's promises: nothing half-written shows, nothing reported is lost, nothing twice.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use postrider_protocol::QueueId;

use super::super::maildrop::Locked;
use super::super::wire::{Part, WireEncoder};
use super::*;

fn store(root: &Path) -> Maildirs {
    Maildirs::open(root.to_owned(), Metrics::new()).unwrap()
}

fn account(name: &str) -> AccountName {
    AccountName::parse(name).unwrap()
}

fn delivery() -> DeliveryId {
    DeliveryId {
        queue_id: QueueId::new(),
        number: 0,
    }
}

fn deliver(
    store: &Maildirs,
    id: DeliveryId,
    accounts: &[AccountName],
    content: &[u8],
) -> Vec<io::Result<Stored>> {
    let mut draft = store.draft(id, accounts).unwrap();
    draft.write(&[Bytes::copy_from_slice(content)]).unwrap();
    store.publish(draft, id, accounts)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn a_message_is_written_once_for_all() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let accounts = [
        account("a@c.test"),
        account("b@c.test"),
        account("c@d.test"),
    ];
    let results = deliver(&store, delivery(), &accounts, b"A: 1\r\n\r\nx\r\n");
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(Stored::New)))
    );
    let mut inodes = HashSet::new();
    for account in &accounts {
        let maildir = store.folder(account);
        let new = files(&maildir.join("new"));
        assert_eq!(new.len(), 1);
        assert_eq!(fs::read(&new[0]).unwrap(), b"A: 1\r\n\r\nx\r\n");
        assert_eq!(fs::metadata(&new[0]).unwrap().mode() & 0o777, 0o600);
        assert!(files(&maildir.join("tmp")).is_empty());
        inodes.insert(fs::metadata(&new[0]).unwrap().ino());
    }
    assert_eq!(inodes.len(), 1);
}

#[test]
fn a_repeated_delivery_adds_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let (alice, bob) = (account("a@c.test"), account("b@c.test"));
    let id = delivery();
    let content = b"A: 1\r\n\r\nx\r\n";
    // The first try reaches only one of the two, as if the process had died between them.
    deliver(&store, id, std::slice::from_ref(&alice), content);
    let both = [alice.clone(), bob.clone()];
    let results = deliver(&store, id, &both, content);
    assert!(
        matches!(results[..], [Ok(Stored::Already), Ok(Stored::New)]),
        "{results:?}"
    );
    // Another one of the same message is another delivery.
    let other = DeliveryId { number: 1, ..id };
    let results = deliver(&store, other, &both, content);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(Stored::New)))
    );
    for account in &both {
        assert_eq!(files(&store.folder(account).join("new")).len(), 2);
        assert!(files(&store.folder(account).join("tmp")).is_empty());
    }
}

#[test]
fn a_repeated_delivery_is_known_after_it_was_read() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    let id = delivery();
    deliver(&store, id, std::slice::from_ref(&alice), b"x\r\n");
    let Locked::Opened(maildrop, messages) = store.open_maildrop(&alice, 10).unwrap() else {
        panic!("in use");
    };
    assert_eq!(store.update(&maildrop, &[], &messages), 0);
    assert!(files(&store.folder(&alice).join("new")).is_empty());
    let cur = files(&store.folder(&alice).join("cur"));
    assert!(cur[0].to_str().unwrap().ends_with(":2,S"), "{cur:?}");
    for _ in 0..2 {
        let results = deliver(&store, id, std::slice::from_ref(&alice), b"x\r\n");
        assert!(matches!(results[..], [Ok(Stored::Already)]), "{results:?}");
    }
    // Also for a process that has just started.
    let restarted = self::store(root.path());
    let results = deliver(&restarted, id, std::slice::from_ref(&alice), b"x\r\n");
    assert!(matches!(results[..], [Ok(Stored::Already)]), "{results:?}");
    // Deleted by its owner, it cannot be recognised any more.
    store.update(&maildrop, &messages, &[]);
    let results = deliver(&store, id, &[alice], b"x\r\n");
    assert!(matches!(results[..], [Ok(Stored::New)]), "{results:?}");
}

#[test]
fn a_draft_that_was_not_finished_never_shows() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    let maildir = store.folder(&alice);
    let mut dropped = store
        .draft(delivery(), std::slice::from_ref(&alice))
        .unwrap();
    dropped.write(&[Bytes::from_static(b"half")]).unwrap();
    drop(dropped);
    assert!(files(&maildir.join("tmp")).is_empty());
    // A process that dies runs no destructor.
    let mut lost = store
        .draft(delivery(), std::slice::from_ref(&alice))
        .unwrap();
    lost.write(&[Bytes::from_static(b"half")]).unwrap();
    std::mem::forget(lost);
    assert_eq!(files(&maildir.join("tmp")).len(), 1);
    let Locked::Opened(_, messages) = store.open_maildrop(&alice, 10).unwrap() else {
        panic!("in use");
    };
    assert!(messages.is_empty());
}

#[test]
fn the_sweep_takes_only_what_is_abandoned() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let maildir = store.create(&account("a@c.test")).unwrap();
    for (name, hours) in [("old", 37_u64), ("fresh", 35)] {
        let file = File::create(maildir.join("tmp").join(name)).unwrap();
        let age = std::time::Duration::from_secs(hours * 3_600);
        file.set_modified(std::time::SystemTime::now() - age)
            .unwrap();
    }
    File::create(maildir.join("new").join("old")).unwrap();
    assert_eq!(store.sweep().unwrap(), 1);
    assert_eq!(files(&maildir.join("tmp")), [maildir.join("tmp/fresh")]);
    assert_eq!(files(&maildir.join("new")).len(), 1);
}

#[test]
fn many_at_once_all_arrive() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let accounts: Vec<_> = (0..4).map(|n| account(&format!("u{n}@c.test"))).collect();
    std::thread::scope(|scope| {
        for thread in 0..16_usize {
            let (store, accounts) = (&store, &accounts);
            scope.spawn(move || {
                for n in 0..25 {
                    let to = std::slice::from_ref(&accounts[(thread + n) % 4]);
                    let results = deliver(store, delivery(), to, b"x\r\n");
                    assert!(matches!(results[..], [Ok(Stored::New)]), "{results:?}");
                }
            });
        }
    });
    let arrived: usize = accounts
        .iter()
        .map(|a| files(&store.folder(a).join("new")).len())
        .sum();
    assert_eq!(arrived, 400);
}

#[test]
fn the_same_delivery_from_two_workers_arrives_once() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    for _ in 0..20 {
        let id = delivery();
        let stored: Vec<Stored> = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        deliver(&store, id, std::slice::from_ref(&alice), b"x\r\n")
                            .remove(0)
                            .unwrap()
                    })
                })
                .collect();
            tries.into_iter().map(|at| at.join().unwrap()).collect()
        });
        assert_eq!(
            stored
                .iter()
                .filter(|stored| **stored == Stored::New)
                .count(),
            1
        );
    }
    assert_eq!(files(&store.folder(&alice).join("new")).len(), 20);
}

#[test]
fn one_broken_mailbox_fails_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let accounts = [
        account("a@c.test"),
        account("b@c.test"),
        account("d@c.test"),
    ];
    // A file where a folder should be fails for root too, which file modes do not.
    for broken in [&accounts[0], &accounts[1]] {
        let maildir = store.create(broken).unwrap();
        fs::remove_dir(maildir.join("new")).unwrap();
        File::create(maildir.join("new")).unwrap();
    }
    let results = deliver(&store, delivery(), &accounts, b"x\r\n");
    assert!(
        matches!(results[..], [Err(_), Err(_), Ok(Stored::New)]),
        "{results:?}"
    );
    assert!(files(&store.folder(&accounts[0]).join("tmp")).is_empty());
}

#[test]
fn a_maildrop_has_one_session() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    let first = store.open_maildrop(&alice, 10).unwrap();
    assert!(matches!(first, Locked::Opened(..)));
    assert!(matches!(
        store.open_maildrop(&alice, 10).unwrap(),
        Locked::InUse
    ));
    drop(first);
    assert!(matches!(
        store.open_maildrop(&alice, 10).unwrap(),
        Locked::Opened(..)
    ));
}

#[test]
fn maildrops_are_listed_in_order_and_of_any_origin() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    for n in 0..5 {
        deliver(
            &store,
            delivery(),
            std::slice::from_ref(&alice),
            format!("{n}\r\n").as_bytes(),
        );
    }
    let maildir = store.folder(&alice);
    // What other programs put there: bare LF, in `cur`, with odd names, and things that are no mail.
    fs::write(maildir.join("cur/100.M1.host:2,S"), "a\n.b\n").unwrap();
    fs::write(maildir.join("cur/.hidden"), "x").unwrap();
    fs::write(maildir.join("new/zz name"), "no end").unwrap();
    fs::create_dir(maildir.join("new/folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", maildir.join("new/link")).unwrap();
    let Locked::Opened(maildrop, messages) = store.open_maildrop(&alice, 100).unwrap() else {
        panic!("in use");
    };
    let mut sizes = Vec::new();
    let mut unique = HashSet::new();
    for message in &messages {
        let mut out = Vec::new();
        let mut encoder = WireEncoder::new(Part::Whole);
        let mut content = Vec::new();
        io::copy(&mut maildrop.read(message).unwrap(), &mut content).unwrap();
        encoder.feed(&content, &mut out);
        encoder.finish(&mut out);
        let stuffed = out.windows(3).filter(|w| w == b"\n..").count();
        assert_eq!(
            out.len() - 3 - stuffed,
            usize::try_from(message.size()).unwrap()
        );
        sizes.push(message.size());
        let mut id = Vec::new();
        message.write_unique(&mut id);
        assert!(id.len() <= 70 && id.iter().all(u8::is_ascii_graphic));
        unique.insert(id);
    }
    // By time; "zz name" has none.
    assert_eq!(sizes, [8, 7, 3, 3, 3, 3, 3]);
    assert_eq!(unique.len(), 7);
    drop(maildrop);
    let Locked::Opened(_, oldest) = store.open_maildrop(&alice, 3).unwrap() else {
        panic!("in use");
    };
    assert_eq!(oldest, messages[..3]);
}

#[test]
fn a_message_is_found_under_new_flags() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let alice = account("a@c.test");
    deliver(&store, delivery(), std::slice::from_ref(&alice), b"x\r\n");
    let Locked::Opened(maildrop, messages) = store.open_maildrop(&alice, 10).unwrap() else {
        panic!("in use");
    };
    let maildir = store.folder(&alice);
    let file = files(&maildir.join("new")).remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    fs::rename(&file, maildir.join(format!("cur/{name}:2,FS"))).unwrap();
    assert!(maildrop.read(&messages[0]).is_ok());
    assert_eq!(store.update(&maildrop, &messages, &[]), 0);
    assert!(files(&maildir.join("cur")).is_empty());
    assert!(maildrop.read(&messages[0]).is_err());
    // Twice deleted is deleted.
    assert_eq!(store.update(&maildrop, &messages, &[]), 0);
}
