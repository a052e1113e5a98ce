//! What a neighbour relies on, one line each: a name, and what it stands for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost_reflect::{Cardinality, DescriptorPool, Kind};

use crate::{at_root, pool};

/// What identifies an entry on the wire, and what must not change of it.
type Listing = BTreeMap<String, String>;

/// Everything of these descriptors.
fn list(pool: &DescriptorPool) -> Listing {
    let mut listing = Listing::new();
    for message in pool.all_messages() {
        listing.insert(format!("message {}", message.full_name()), String::new());
        for field in message.fields() {
            let mut what = String::new();
            if field.cardinality() == Cardinality::Repeated {
                what.push_str("repeated ");
            }
            what.push_str(&match field.kind() {
                Kind::Message(message) => message.full_name().to_owned(),
                Kind::Enum(one) => one.full_name().to_owned(),
                kind => format!("{kind:?}"),
            });
            what.push(' ');
            what.push_str(field.name());
            if let Some(oneof) = field.containing_oneof() {
                what.push_str(&format!(" of {}", oneof.name()));
            }
            listing.insert(
                format!("field {} {:03}", message.full_name(), field.number()),
                what,
            );
        }
    }
    for one in pool.all_enums() {
        listing.insert(format!("enum {}", one.full_name()), String::new());
        for value in one.values() {
            listing.insert(
                format!("value {} {:03}", one.full_name(), value.number()),
                value.name().to_owned(),
            );
        }
    }
    for service in pool.services() {
        for method in service.methods() {
            let stream = |streams| if streams { "stream " } else { "" };
            listing.insert(
                format!("call {}", method.full_name()),
                format!(
                    "{}{} returns {}{}",
                    stream(method.is_client_streaming()),
                    method.input().full_name(),
                    stream(method.is_server_streaming()),
                    method.output().full_name()
                ),
            );
        }
    }
    listing
}

fn write(listing: &Listing) -> String {
    listing
        .iter()
        .map(|(key, what)| format!("{}\n", format!("{key} = {what}").trim_end_matches(" = ")))
        .collect()
}

fn read(text: &str) -> Listing {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (key, what) = line.split_once(" = ").unwrap_or((line, ""));
            (key.to_owned(), what.to_owned())
        })
        .collect()
}

/// How today's protos differ from what was released.
#[derive(Debug, Default, PartialEq)]
struct Differences {
    /// A neighbour of the last release would not understand, or be misunderstood.
    breaking: Vec<String>,
    /// New, and to be recorded before it is released.
    added: Vec<String>,
}

fn compare(released: &Listing, today: &Listing) -> Differences {
    let mut found = Differences::default();
    for (key, what) in released {
        match today.get(key) {
            None => found.breaking.push(format!("{key} ({what}) is gone")),
            Some(now) if now != what => found
                .breaking
                .push(format!("{key} was {what:?} and is {now:?}")),
            Some(_) => {}
        }
    }
    found.added = today
        .keys()
        .filter(|key| !released.contains_key(*key))
        .cloned()
        .collect();
    found
}

fn path() -> PathBuf {
    at_root("proto/released.txt")
}

#[test]
fn the_protos_keep_what_was_released() {
    let released = read(&std::fs::read_to_string(path()).unwrap());
    assert!(released.len() > 300, "only {} entries", released.len());
    let found = compare(&released, &list(&pool()));
    assert!(
        found.breaking.is_empty(),
        "a neighbour of an earlier release would be lost:\n{}",
        found.breaking.join("\n")
    );
    assert!(
        found.added.is_empty(),
        "not recorded, `cargo xtask compatibility --record NAME` does it:\n{}",
        found.added.join("\n")
    );
}

/// Adds what is new.
#[test]
#[ignore = "writes into the repository: cargo xtask compatibility --record NAME"]
fn record() {
    let mut released = read(&std::fs::read_to_string(path()).unwrap_or_default());
    let today = list(&pool());
    let found = compare(&released, &today);
    assert!(found.breaking.is_empty(), "{}", found.breaking.join("\n"));
    released.extend(today);
    let head = "# What was released of proto/, and must stay. Written by `cargo xtask compatibility --record NAME`.\n";
    std::fs::write(path(), format!("{head}{}", write(&released))).unwrap();
    println!("{} entries are new", found.added.len());
}

/// A proto, changed, and what the check must say of it.
fn changed(from: &str, to: &str) -> Differences {
    const PROTO: &str = r#"
        syntax = "proto3";
        package t;
        service S { rpc Call(M) returns (stream M); }
        message M { uint32 number = 1; repeated string names = 2; oneof o { E one = 3; M two = 4; } }
        enum E { E_ZERO = 0; E_ONE = 1; }
    "#;
    let compile = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.proto"), text).unwrap();
        let set = protox::compile(["t.proto"], [dir.path()]).unwrap();
        list(&DescriptorPool::from_file_descriptor_set(set).unwrap())
    };
    assert!(PROTO.contains(from), "{from}");
    let released = compile(PROTO);
    assert_eq!(read(&write(&released)), released);
    compare(&released, &compile(&PROTO.replacen(from, to, 1)))
}

#[test]
fn what_breaks_is_found() {
    for (from, to, expected) in [
        (
            "uint32 number = 1;",
            "",
            "field t.M 001 (uint32 number) is gone",
        ),
        (
            "number = 1",
            "number = 9",
            "field t.M 001 (uint32 number) is gone",
        ),
        ("uint32 number", "uint64 number", "\"uint64 number\""),
        ("uint32 number", "sint32 number", "\"sint32 number\""),
        ("repeated string", "string", "\"string names\""),
        ("number = 1", "amount = 1", "\"uint32 amount\""),
        ("M two = 4; }", "} M two = 4;", "\"t.M two\""),
        ("E one", "uint32 one", "\"uint32 one of o\""),
        ("E_ONE = 1", "E_ONE = 2", "value t.E 001 (E_ONE) is gone"),
        ("E_ONE = 1", "E_UNO = 1", "\"E_UNO\""),
        ("rpc Call(M) returns (stream M);", "", "call t.S.Call"),
        ("(stream M)", "(M)", "\"t.M returns t.M\""),
        (
            "Call(M)",
            "Call(stream M)",
            "\"stream t.M returns stream t.M\"",
        ),
    ] {
        let found = changed(from, to);
        assert!(
            found.breaking.iter().any(|line| line.contains(expected)),
            "{from} -> {to}: {found:?}"
        );
    }
}

#[test]
fn what_is_added_is_no_break() {
    assert_eq!(changed("E_ONE = 1;", "E_ONE = 1;"), Differences::default());
    for (from, to, expected) in [
        ("number = 1;", "number = 1; bool more = 5;", "field t.M 005"),
        ("E_ONE = 1;", "E_ONE = 1; E_TWO = 2;", "value t.E 002"),
        (
            "stream M); }",
            "stream M); rpc Two(M) returns (M); }",
            "call t.S.Two",
        ),
        ("enum E", "message N {} enum E", "message t.N"),
    ] {
        let found = changed(from, to);
        assert_eq!(found.breaking, [""; 0]);
        assert_eq!(found.added, [expected]);
    }
}
