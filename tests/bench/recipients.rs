//! What a message to many recipients at one destination costs, beside one to a single recipient: CPU
//! time of all of Postrider's processes. Nothing is asserted; the figures are for the reader.
//!
//! `cargo xtask bench recipients [-- --messages N]`

use std::time::Duration;

use anyhow::Context as _;
use postrider_tests::cpu;
use postrider_tests::server::{Server, Settings};
use postrider_tests::sink::Sink;
use postrider_tests::source::{self, Load};

/// How many recipients the messages have, in turn.
const RECIPIENTS: [usize; 3] = [1, 50, 1];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let messages = arguments
        .iter()
        .position(|argument| argument == "--messages")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(5_000);
    println!(
        "recipients: {messages} messages of 4 KiB, 20 connections in, embedded store, one process; {}",
        cpu::machine()
    );
    let sink = Sink::start().await?;
    let dir = tempfile::tempdir()?;
    let settings = Settings {
        relay_to: Some(sink.address),
        ..Settings::default()
    };
    let server = Server::start(dir.path(), &settings)?;
    let address = ([127, 0, 0, 1], server.ports.mx).into();
    let warm = Load {
        messages: 200,
        ..Load::default()
    };
    source::send(address, &warm).await.context("warming")?;
    let mut sent = 200;
    let mut alone = None;
    for recipients in RECIPIENTS {
        let before = cpu::used(&server.processes());
        let load = Load {
            first: sent,
            messages,
            recipients,
            ..Load::default()
        };
        source::send(address, &load).await?;
        sent += messages;
        sink.wait_for(usize::try_from(sent)?, Duration::from_secs(20))
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = (cpu::used(&server.processes()) - before).as_secs_f64();
        let each = used * 1e6 / messages as f64;
        println!(
            "{recipients:>3} recipients: {each:>6.0} us CPU a message, {:.2} times that of one",
            each / *alone.get_or_insert(each)
        );
    }
    let lost = usize::try_from(sent)? - sink.counts.different();
    println!("lost: {lost}, damaged: {}", sink.counts.damaged());
    Ok(())
}
