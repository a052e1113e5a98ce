//! Settings change while sessions are open.

use postrider_edge::config::ListenerConfig;
use postrider_edge::{EdgeConfig, Role};

use super::support::{World, config, trusting};

#[tokio::test]
async fn new_sessions_see_new_settings_and_old_ones_keep_theirs() {
    let world = World::new().await;
    let mut old = world.mx().await;
    assert_eq!(world.reloader.reload(trusting()), Vec::<String>::new());
    let mut new = world.mx().await;
    for (client, reply) in [(&mut old, "550 5.7.1"), (&mut new, "250")] {
        client.say("MAIL FROM:<a@b.example>", "250").await;
        client.say("RCPT TO:<carol@example.org>", reply).await;
    }
    assert_eq!(world.reloader.reload(config()), Vec::<String>::new());
    let mut newest = world.mx().await;
    newest.say("MAIL FROM:<a@b.example>", "250").await;
    newest.say("RCPT TO:<carol@example.org>", "550 5.7.1").await;
}

#[tokio::test]
async fn what_cannot_change_is_said() {
    let world = World::new().await;
    let mut moved = trusting();
    moved.listeners.push(ListenerConfig {
        address: "127.0.0.1:1".parse().unwrap(),
        role: Role::Mx,
    });
    let problems = world.reloader.reload(moved);
    assert_eq!(problems, ["edge.listeners: a change needs a restart"]);
    // The rest of it is in force.
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<carol@example.org>", "250").await;

    let senseless = EdgeConfig {
        policy: Vec::new(),
        ..config()
    };
    let problems = world.reloader.reload(senseless).join("\n");
    assert!(problems.contains("open relay"), "{problems}");
    let mut client = world.mx().await;
    client.say("MAIL FROM:<a@b.example>", "250").await;
    client.say("RCPT TO:<carol@example.org>", "250").await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_sessions_only() {
    let world = World::new().await;
    let mut old = world.bob().await;
    let before = world.certificate.end_entity();
    let made = rcgen::generate_simple_self_signed(vec!["mx.here.test".to_owned()]).unwrap();
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(world.certificate.certificate_file(), pem).unwrap();
    world.certificate.reload().unwrap();
    assert_ne!(world.certificate.end_entity(), before);
    old.send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
    let mut new = world.bob().await;
    new.send_message("alice@here.test", "Subject: x\r\n\r\n")
        .await;
}
