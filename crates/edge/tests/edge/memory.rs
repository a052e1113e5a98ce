//! What idle connections cost.

use postrider_config::values::Size;
use postrider_edge::Role;

use super::support::{World, trusting};

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Both ends live in this process, so this is what server and client cost together.
#[tokio::test]
async fn an_idle_plain_connection_costs_less_than_16_kib() {
    const CONNECTIONS: usize = 1_000;
    let mut config = trusting();
    config.limits.message_size = Size::mib(1);
    let world = World::with(config).await;
    // What is made once is made by these.
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(world.mx().await);
    }
    let before = resident();
    for _ in 0..CONNECTIONS {
        let mut client = world.greeted(Role::Mx).await;
        client.say("EHLO client.example", "250").await;
        client
            .send_message("alice@here.test", "Subject: x\r\n\r\nbody\r\n")
            .await;
        client.say("RSET", "250").await;
        clients.push(client);
    }
    world.queue.forget();
    let each = resident().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection costs {each} octets, with its client");
    assert!(each < 16 * 1024, "{each} octets");
}

/// Here too both ends live in this process, each with a TLS session.
#[tokio::test]
async fn an_idle_tls_connection_costs_tens_of_kib() {
    const CONNECTIONS: usize = 200;
    let world = World::with(trusting()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(world.bob().await);
    }
    let before = resident();
    for _ in 0..CONNECTIONS {
        clients.push(world.bob().await);
    }
    let each = resident().saturating_sub(before) / CONNECTIONS;
    println!("an idle TLS connection costs {each} octets, with its client");
    assert!(each < 96 * 1024, "{each} octets");
}

#[tokio::test]
async fn a_large_message_is_not_held() {
    let world = World::with(trusting()).await;
    // The fake would keep the body; it is told to count it only.
    world.queue.only_count();
    let mut client = world.mx().await;
    client.begin("a@b.example", "alice@here.test").await;
    let block = "a line of a large message, as long as they are\r\n".repeat(20_000);
    client.send(&block).await;
    let before = resident();
    for _ in 0..45 {
        client.send(&block).await;
        let held = resident().saturating_sub(before);
        assert!(held < 16 << 20, "{held} octets are held");
    }
    client.say(".", "250 2.0.0").await;
    let streamed = world
        .queue
        .streamed
        .load(std::sync::atomic::Ordering::SeqCst);
    assert!(streamed > 46 * block.len() as u64);
}
