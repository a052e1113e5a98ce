//! The keys of a Redis, as the commands that make them: one a line, in words that are quoted where
//! they must be.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use postrider_queue::store::Store;
use postrider_queue::store::redis::RedisStore;
use redis::{Connection, Value};

use crate::support::redis_server::RedisServer;
use crate::{new_recording, recorded, scenario};

fn connect(server: &RedisServer) -> Connection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_connection().unwrap()
}

fn ask<T: redis::FromRedisValue>(connection: &mut Connection, words: &[&[u8]]) -> T {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query(connection).unwrap()
}

/// All keys, each as a command, sorted by their names.
fn dump(connection: &mut Connection) -> String {
    let mut keys: Vec<Vec<u8>> = ask(connection, &[b"KEYS", b"*"]);
    keys.sort();
    let mut text = String::new();
    for key in keys {
        let kind: String = ask(connection, &[b"TYPE", &key]);
        let (command, read): (&str, Vec<&[u8]>) = match kind.as_str() {
            "string" => ("SET", vec![b"GET", &key]),
            "hash" => ("HSET", vec![b"HGETALL", &key]),
            "list" => ("RPUSH", vec![b"LRANGE", &key, b"0", b"-1"]),
            "set" => ("SADD", vec![b"SMEMBERS", &key]),
            "zset" => ("ZADD", vec![b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]),
            other => panic!("{other} is not known"),
        };
        let mut words: Vec<Vec<u8>> = match ask(connection, &read) {
            Value::BulkString(word) => vec![word],
            value => redis::from_redis_value(value).unwrap(),
        };
        match kind.as_str() {
            "zset" => words.chunks_mut(2).for_each(|pair| pair.swap(0, 1)),
            "set" => words.sort(),
            "hash" => {
                let mut pairs: Vec<&[Vec<u8>]> = words.chunks(2).collect();
                pairs.sort();
                words = pairs.concat();
            }
            _ => {}
        }
        words.insert(0, key.clone());
        write_line(&mut text, command, &words);
        let expires: i64 = ask(connection, &[b"PEXPIRETIME", &key]);
        if expires >= 0 {
            let time = expires.to_string().into_bytes();
            write_line(&mut text, "PEXPIREAT", &[key, time]);
        }
    }
    text
}

fn write_line(text: &mut String, command: &str, words: &[Vec<u8>]) {
    text.push_str(command);
    for word in words {
        text.push_str(" \"");
        for byte in word {
            match byte {
                b'"' | b'\\' => write!(text, "\\{}", *byte as char).unwrap(),
                b' '..=b'~' => text.push(*byte as char),
                _ => write!(text, "\\x{byte:02x}").unwrap(),
            }
        }
        text.push('"');
    }
    text.push('\n');
}

/// The words of a line that [`write_line`] wrote.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (command, mut rest) = line.split_once(' ').unwrap();
    let mut words = vec![command.as_bytes().to_vec()];
    while let Some(quoted) = rest.strip_prefix('"') {
        let mut word = Vec::new();
        let mut bytes = quoted.bytes().enumerate();
        let end = loop {
            match bytes.next().unwrap() {
                (at, b'"') => break at,
                (at, b'\\') => match bytes.next().unwrap().1 {
                    b'x' => {
                        word.push(u8::from_str_radix(&quoted[at + 2..at + 4], 16).unwrap());
                        bytes.nth(1);
                    }
                    byte => word.push(byte),
                },
                (_, byte) => word.push(byte),
            }
        };
        words.push(word);
        rest = quoted[end + 1..].trim_start();
    }
    words
}

fn restore(connection: &mut Connection, file: &Path) {
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let words = words(line);
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let _: Value = ask(connection, &words);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_queue_is_read_and_comes_to_its_end() {
    for recording in recorded("redis-") {
        println!("{}", recording.display());
        let server = RedisServer::start();
        restore(&mut connect(&server), &recording);
        let store = RedisStore::open(&server.config(), scenario::settings())
            .await
            .unwrap();
        scenario::check(&*store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_as_commands_is_read_again() {
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), scenario::settings())
        .await
        .unwrap();
    scenario::play(&*store).await;
    scenario::leave(&*store).await;
    store.close().await.unwrap();
    let mut connection = connect(&server);
    let before = dump(&mut connection);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump");
    std::fs::write(&file, &before).unwrap();
    let _: Value = ask(&mut connection, &[b"FLUSHALL"]);
    restore(&mut connection, &file);
    let after = dump(&mut connection);
    for (before, after) in before.lines().zip(after.lines()) {
        assert_eq!(before, after);
    }
    assert_eq!(before.lines().count(), after.lines().count());
}

/// Writes a release's recording, if there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes into the repository: cargo xtask compatibility --record NAME"]
async fn record() {
    let Some(path) = new_recording("redis-", ".txt") else {
        return;
    };
    let server = RedisServer::start();
    let store = RedisStore::open(&server.config(), scenario::settings())
        .await
        .unwrap();
    scenario::play(&*store).await;
    scenario::leave(&*store).await;
    std::fs::write(path, dump(&mut connect(&server))).unwrap();
    // Whoever reads it finds the lease over and everything due.
    tokio::time::sleep(Duration::from_secs(6)).await;
}
