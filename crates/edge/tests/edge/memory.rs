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
