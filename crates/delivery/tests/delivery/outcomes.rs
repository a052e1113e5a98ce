//! What servers say, and what becomes of recipients.

use std::time::Duration;

use postrider_config::values::Period;
use postrider_nameserver::Zones;
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{Completion, OutcomeKind, RecipientOutcome};

use crate::kit::queue::delivery;
use crate::kit::sink::USUAL;
use crate::kit::world::host;
use crate::kit::{Line, Say, Sink, World};

const CONTENT: &str = "Subject: x\r\n\r\ntext\r\n";

/// The completion of a delivery to a server with this script.
async fn attempt(
    recipients: &[&str],
    script: impl Fn(&Line<'_>) -> Say + Send + Sync + 'static,
) -> (Completion, Sink) {
    let sink = Sink::start("127.0.0.1", 0, USUAL, script).await;
    let mut zones = Zones::default();
    host(
        &mut zones,
        "there.test",
        10,
        "mx.there.test",
        [127, 0, 0, 1],
    );
    let world = World::start(zones, sink.address.port(), |config| {
        config.timeouts.greeting = Period(Duration::from_millis(200));
        config.timeouts.mail = Period(Duration::from_millis(200));
        config.timeouts.end_of_data = Period(Duration::from_millis(200));
    })
    .await;
    world.queue.grant(1, "smtp:there.test", 1);
    world.queue.deliver(vec![delivery(recipients, CONTENT)]);
    let completion = world.queue.completion().await;
    world.end().await;
    (completion, sink)
}

fn outcomes(completion: &Completion) -> Vec<(OutcomeKind, u32, &str, bool)> {
    let outcome =
        |outcome: &'_ RecipientOutcome| (outcome.kind(), outcome.reply_code, outcome.from_remote);
    let attempt = completion.attempt.as_ref().unwrap();
    attempt
        .outcomes
        .iter()
        .map(|one| {
            let (kind, code, from_remote) = outcome(one);
            (kind, code, one.enhanced_status.as_str(), from_remote)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_an_outcome_of_its_own() {
    let recipients = [
        "a@there.test",
        "no@there.test",
        "later@there.test",
        "b@there.test",
    ];
    let (completion, sink) = attempt(&recipients, |line| match line.text {
        text if text.starts_with("RCPT TO:<no@") => Say::Reply("550 5.1.1 No such user"),
        text if text.starts_with("RCPT TO:<later@") => Say::Reply("450 4.2.0 Greylisted"),
        _ => Say::Usual,
    })
    .await;
    assert_eq!(
        outcomes(&completion),
        [
            (OutcomeKind::Delivered, 250, "2.0.0", true),
            (OutcomeKind::Failed, 550, "5.1.1", true),
            (OutcomeKind::Deferred, 450, "4.2.0", true),
            (OutcomeKind::Delivered, 250, "2.0.0", true),
        ]
    );
    assert_eq!(sink.taken().len(), 1);
    assert_eq!(sink.taken()[0].recipients.len(), 2);
    assert_eq!(completion.dsn.len(), 1, "of the failed one");
    let dsn = completion.dsn[0].envelope.as_ref().unwrap();
    assert_eq!(dsn.recipients[0].address, "bob@here.test");
    assert_eq!(dsn.recipients[0].destination, "mailbox:here.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_recipients_are_split_at_once() {
    let recipients: Vec<String> = (0..10).map(|n| format!("r{n}@there.test")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let (completion, sink) = attempt(&recipients, |line| {
        if line.text.starts_with("RCPT") && line.recipients == 4 {
            Say::Reply("452 4.5.3 Too many recipients")
        } else {
            Say::Usual
        }
    })
    .await;
    assert!(
        outcomes(&completion)
            .iter()
            .all(|one| one.0 == OutcomeKind::Delivered)
    );
    let counts: Vec<_> = sink
        .taken()
        .iter()
        .map(|taken| taken.recipients.len())
        .collect();
    assert_eq!(counts, [4, 4, 2]);
    assert_eq!(sink.connections(), 1);
    // All three transactions are in the journey.
    let attempt = completion.attempt.unwrap();
    let mails = attempt
        .dialogue
        .iter()
        .filter(|line| line.text.starts_with("MAIL"));
    assert_eq!(mails.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_dot_is_unknown() {
    let (completion, sink) = attempt(&["a@there.test", "b@there.test"], |line| match line.text {
        "." => Say::Close,
        _ => Say::Usual,
    })
    .await;
    assert_eq!(
        outcomes(&completion),
        [(OutcomeKind::Unknown, 451, "4.4.2", false); 2]
    );
    assert_eq!(sink.connections(), 1, "it is not sent again by itself");
    assert!(completion.dsn.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_the_dot_is_unknown() {
    let (completion, _) = attempt(&["a@there.test"], |line| match line.text {
        "." => Say::Hang,
        _ => Say::Usual,
    })
    .await;
    assert_eq!(outcomes(&completion)[0].0, OutcomeKind::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_dot_is_a_deferral() {
    for say in [
        || Say::Close,
        || Say::Hang,
        || Say::ReplyAndClose("421 4.3.2 Shutting down"),
    ] {
        let (completion, _) = attempt(&["a@there.test"], move |line| match line.text {
            "MAIL FROM:<bob@here.test>" => say(),
            _ => Say::Usual,
        })
        .await;
        let found = outcomes(&completion);
        assert_eq!(found[0].0, OutcomeKind::Deferred, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_whole() {
    let cases: [(&str, &'static str, OutcomeKind); 6] = [
        ("", "554 5.7.1 Go away", OutcomeKind::Failed),
        ("", "421 4.7.0 Busy", OutcomeKind::Deferred),
        (
            "MAIL FROM:<bob@here.test>",
            "550 5.7.1 Not from you",
            OutcomeKind::Failed,
        ),
        ("DATA", "451 4.3.0 Not now", OutcomeKind::Deferred),
        (".", "554 5.6.0 Looks like spam", OutcomeKind::Failed),
        (".", "451 4.7.1 Later", OutcomeKind::Deferred),
    ];
    for (at, reply, kind) in cases {
        let (completion, _) = attempt(&["a@there.test"], move |line| {
            if line.text == at {
                Say::Reply(reply)
            } else {
                Say::Usual
            }
        })
        .await;
        let found = outcomes(&completion);
        assert_eq!(
            (found[0].0, found[0].3),
            (kind, true),
            "{at:?} {reply}: {found:?}"
        );
        let code: u32 = reply[..3].parse().unwrap();
        assert_eq!(found[0].1, code);
        let dsns = usize::from(kind == OutcomeKind::Failed);
        assert_eq!(completion.dsn.len(), dsns);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_greets_is_a_deferral() {
    let (completion, _) = attempt(&["a@there.test"], |line| match line.text {
        "" => Say::Hang,
        _ => Say::Usual,
    })
    .await;
    assert_eq!(outcomes(&completion)[0].0, OutcomeKind::Deferred);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_deliveries_need_no_server() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    for (disposition, status) in [
        (Disposition::Expired, "5.4.7"),
        (Disposition::Bounce, "5.3.0"),
    ] {
        let mut ended = delivery(&["alice@there.test"], CONTENT);
        ended.disposition = disposition.into();
        ended.last_outcomes = vec![RecipientOutcome {
            address: "alice@there.test".to_owned(),
            kind: OutcomeKind::Deferred.into(),
            reply_code: 451,
            enhanced_status: "4.4.1".to_owned(),
            reply_text: "No route".to_owned(),
            from_remote: false,
        }];
        world.queue.deliver(vec![ended]);
        let completion = world.queue.completion().await;
        let outcome = &completion.attempt.as_ref().unwrap().outcomes[0];
        assert_eq!(outcome.kind(), OutcomeKind::Failed);
        assert_eq!(outcome.enhanced_status, status);
        assert!(outcome.reply_text.contains("451 4.4.1 No route"));
        assert_eq!(completion.dsn.len(), 1);
    }
    assert_eq!(sink.connections(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_dsn_are_passed_on() {
    let sink = Sink::willing("127.0.0.1").await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let mut wants = delivery(&["alice@there.test"], CONTENT);
    let envelope = wants.envelope.as_mut().unwrap();
    envelope.dsn_envid = "QQ314".to_owned();
    envelope.set_dsn_return(postrider_protocol::queue_v1::DsnReturn::Headers);
    envelope.recipients[0].dsn_notify = 6;
    envelope.recipients[0].dsn_orcpt = "rfc822;alice@there.test".to_owned();
    world.queue.deliver(vec![wants]);
    let completion = world.queue.completion().await;
    assert!(
        completion.dsn.is_empty(),
        "the other server has the duty now"
    );
    let taken = sink.taken().remove(0);
    assert!(
        taken.mail.contains("RET=HDRS") && taken.mail.contains("ENVID=QQ314"),
        "{}",
        taken.mail
    );
    let rcpt = &taken.recipients[0];
    assert!(rcpt.contains("NOTIFY=SUCCESS,FAILURE"), "{rcpt}");
    assert!(rcpt.contains("ORCPT=rfc822;alice@there.test"), "{rcpt}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_told_where_the_other_server_will_not() {
    let sink = Sink::start("127.0.0.1", 0, &["PIPELINING"], |_| Say::Usual).await;
    let world = World::with(&sink).await;
    world.queue.grant(1, "smtp:there.test", 1);
    let mut wants = delivery(&["alice@there.test"], CONTENT);
    wants.envelope.as_mut().unwrap().recipients[0].dsn_notify = 2;
    world.queue.deliver(vec![wants]);
    let completion = world.queue.completion().await;
    assert_eq!(completion.dsn.len(), 1);
    assert!(!sink.taken()[0].recipients[0].contains("NOTIFY"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_priority_is_passed_on_to_who_knows_it() {
    for (offers, said) in [
        (&["PIPELINING", "MT-PRIORITY"][..], " MT-PRIORITY=-4"),
        (&["PIPELINING"], ""),
    ] {
        let sink = Sink::start("127.0.0.1", 0, offers, |_| Say::Usual).await;
        let world = World::with(&sink).await;
        world.queue.grant(1, "smtp:there.test", 1);
        let mut slow = delivery(&["alice@there.test"], CONTENT);
        slow.priority = -4;
        world.queue.deliver(vec![slow]);
        world.queue.completion().await;
        let mail = format!("MAIL FROM:<bob@here.test>{said}");
        assert_eq!(sink.taken()[0].mail, mail);
        world.end().await;
    }
}
