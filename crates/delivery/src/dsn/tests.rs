use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mail_parser::{MessageParser, MimeHeaders as _};
use postrider_protocol::Status;
use postrider_protocol::api::{self, BodyStream};
use postrider_protocol::queue_v1::leased_delivery::Disposition;
use postrider_protocol::queue_v1::{EnqueueResult, PutBodyResponse, QueueFrame, WorkerFrame};

use super::*;
use crate::cutoff::Cutoff;
use crate::outcome::Verdict;

/// Knows one stored body.
struct Bodies(Bytes);

#[async_trait]
impl Queue for Bodies {
    async fn enqueue(&self, _: Vec<NewMessage>) -> api::Result<Vec<EnqueueResult>> {
        Err(Status::unimplemented("not here"))
    }
    async fn put_body(&self, _: BodyStream) -> api::Result<PutBodyResponse> {
        Err(Status::unimplemented("not here"))
    }
    async fn get_body(&self, name: String) -> api::Result<BodyStream> {
        if name != "known" {
            return Err(Status::not_found("no such body"));
        }
        let pieces: Vec<_> = self
            .0
            .chunks(7)
            .map(Bytes::copy_from_slice)
            .map(Ok)
            .collect();
        Ok(stream::iter(pieces).boxed())
    }
    async fn work(
        &self,
        _: BoxStream<'static, WorkerFrame>,
    ) -> api::Result<BoxStream<'static, api::Result<QueueFrame>>> {
        Err(Status::unimplemented("not here"))
    }
}

const CONTENT: &str = "From: bob@here.test\r\nTo: alice@there.test\r\nSubject: lunch\r\n\
                       Message-ID: <m1@here.test>\r\n\r\nAt noon?\r\n";

fn recipient(address: &str, notify: u32) -> Recipient {
    Recipient {
        address: address.to_owned(),
        destination: "smtp:there.test".to_owned(),
        dsn_notify: notify,
        dsn_orcpt: String::new(),
    }
}

fn envelope(recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        reverse_path: "bob@here.test".to_owned(),
        recipients,
        ..Envelope::default()
    }
}

fn verdicts(envelope: &Envelope, verdicts: Vec<Verdict>) -> Vec<RecipientOutcome> {
    envelope
        .recipients
        .iter()
        .zip(verdicts)
        .map(|(recipient, verdict)| verdict.on(&recipient.address))
        .collect()
}

fn refused() -> Verdict {
    Verdict::of_reply(550, Some("5.1.1".into()), "No such user here".into())
}

fn taken() -> Verdict {
    Verdict::of_reply(250, Some("2.0.0".into()), "Ok".into())
}

fn delivery(content: body::Content) -> LeasedDelivery {
    LeasedDelivery {
        delivery_id: "q.0".to_owned(),
        queue_id: "0123456789abcdefghjkmnpqrs".to_owned(),
        destination: "smtp:there.test".to_owned(),
        body: Some(Body {
            size: CONTENT.len() as u64,
            content: Some(content),
        }),
        message_id: "m1@here.test".to_owned(),
        accepted_us: 784_111_777_000_000,
        ..LeasedDelivery::default()
    }
}

fn inline() -> body::Content {
    body::Content::Inline(Bytes::from_static(CONTENT.as_bytes()))
}

async fn notify(
    envelope: &Envelope,
    outcomes: Vec<RecipientOutcome>,
    delivery: &LeasedDelivery,
    reach: Reach,
) -> Option<NewMessage> {
    let server = ServerConfig {
        hostname: "mx.here.test".to_owned(),
        domains: vec!["Here.test".to_owned()],
        ..ServerConfig::default()
    };
    let notifier = Notifier::new(&server, &DsnConfig::default(), "delivery@test");
    let mut report = Report::of_all(envelope, &Verdict::unknown(""));
    report.outcomes = outcomes;
    report.reach = reach;
    report.remote_host = "mx.there.test".to_owned();
    report.remote_address = "192.0.2.7".to_owned();
    let due = due(
        envelope,
        &report.outcomes,
        reach,
        delivery.delay_warning_due,
    );
    if due.is_empty() {
        return None;
    }
    let about = About {
        delivery,
        envelope,
        attempt: &report,
        ended_us: 784_111_787_000_000,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    };
    let queue: Arc<dyn Queue> = Arc::new(Bodies(Bytes::from_static(CONTENT.as_bytes())));
    Some(
        notifier
            .message(&queue, about, &due, &Cutoff::default())
            .await,
    )
}

fn content(message: &NewMessage) -> Bytes {
    match message.body.as_ref().and_then(|body| body.content.clone()) {
        Some(body::Content::Inline(content)) => {
            assert_eq!(message.body.as_ref().unwrap().size, content.len() as u64);
            content
        }
        other => panic!("a DSN is inline: {other:?}"),
    }
}

#[tokio::test]
async fn a_failure_is_told_as_the_rfcs_say() {
    let mut envelope = envelope(vec![recipient("alice@there.test", 0)]);
    envelope.dsn_envid = "QQ+2B314".to_owned();
    envelope.recipients[0].dsn_orcpt = "rfc822;Alice+2Bnews@there.test".to_owned();
    let outcomes = verdicts(&envelope, vec![refused()]);
    let message = notify(&envelope, outcomes, &delivery(inline()), Reach::PassedOn)
        .await
        .unwrap();

    let sent = message.envelope.as_ref().unwrap();
    assert_eq!(sent.reverse_path, "");
    assert_eq!(sent.recipients[0].address, "bob@here.test");
    assert_eq!(sent.recipients[0].destination, "mailbox:here.test");
    assert_eq!(sent.recipients[0].dsn_notify, NEVER);
    assert!(message.queue_id.parse::<QueueId>().is_ok());
    assert_eq!(message.origin.as_ref().unwrap().role, "dsn");

    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    assert_eq!(parsed.message_id(), Some(message.message_id.as_str()));
    assert_eq!(parsed.in_reply_to().as_text(), Some("m1@here.test"));
    assert_eq!(
        parsed.header_raw("Auto-Submitted").map(str::trim),
        Some("auto-replied")
    );
    assert_eq!(
        parsed.from().unwrap().first().unwrap().address(),
        Some("MAILER-DAEMON@mx.here.test")
    );
    assert_eq!(
        parsed.to().unwrap().first().unwrap().address(),
        Some("bob@here.test")
    );
    assert_eq!(parsed.date().unwrap().to_rfc3339(), "1994-11-06T08:49:47Z");
    let kind = parsed.content_type().unwrap();
    assert_eq!(
        (kind.ctype(), kind.subtype()),
        ("multipart", Some("report"))
    );
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert_eq!(parsed.parts.len(), 4, "the whole and three parts");

    let text = parsed.body_text(0).unwrap();
    for words in [
        "alice@there.test",
        "mx.there.test [192.0.2.7] said:",
        "550 5.1.1 No such user here",
        "0123456789abcdefghjkmnpqrs",
        "postmaster@mx.here.test",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let status = std::str::from_utf8(parsed.parts[2].contents()).unwrap();
    let expected = "Original-Envelope-Id: QQ+314\r\n\
        Reporting-MTA: dns; mx.here.test\r\n\
        Arrival-Date: Sun, 06 Nov 1994 08:49:37 +0000\r\n\
        X-Postrider-Queue-Id: 0123456789abcdefghjkmnpqrs\r\n\
        \r\n\
        Original-Recipient: rfc822; Alice+news@there.test\r\n\
        Final-Recipient: rfc822; alice@there.test\r\n\
        Action: failed\r\n\
        Status: 5.1.1\r\n\
        Remote-MTA: dns; mx.there.test\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n\
        Last-Attempt-Date: Sun, 06 Nov 1994 08:49:47 +0000\r\n";
    assert_eq!(status.trim_end(), expected.trim_end());
    let headers = parsed.parts[3].contents();
    assert!(headers.starts_with(b"From: bob@here.test\r\n"));
    assert!(
        memchr::memmem::find(headers, b"At noon").is_none(),
        "only headers go back"
    );
    assert!(
        content
            .split(|byte| *byte == b'\n')
            .all(|line| line.len() <= 999)
    );
}

#[tokio::test]
async fn who_is_told_follows_notify() {
    let everybody = |verdict: Verdict| {
        move |notify_bits: u32| {
            (
                envelope(vec![recipient("a@x.test", notify_bits)]),
                verdict.clone(),
            )
        }
    };
    for (verdict, notify_bits, reach, action) in [
        (refused(), 0, Reach::PassedOn, Some(Action::Failed)),
        (refused(), FAILURE, Reach::PassedOn, Some(Action::Failed)),
        (refused(), NEVER, Reach::PassedOn, None),
        (refused(), SUCCESS, Reach::PassedOn, None),
        (refused(), DELAY, Reach::PassedOn, None),
        (taken(), 0, Reach::Final, None),
        (taken(), SUCCESS, Reach::Final, Some(Action::Delivered)),
        (taken(), SUCCESS, Reach::Relayed, Some(Action::Relayed)),
        (taken(), SUCCESS, Reach::PassedOn, None),
        (
            taken(),
            SUCCESS | FAILURE,
            Reach::Final,
            Some(Action::Delivered),
        ),
        (taken(), NEVER, Reach::Final, None),
        (Verdict::deferred("4.0.0", ""), 0, Reach::Final, None),
        (Verdict::deferred("4.0.0", ""), DELAY, Reach::Final, None),
        (Verdict::unknown(""), FAILURE | SUCCESS, Reach::Final, None),
    ] {
        let (envelope, verdict) = everybody(verdict)(notify_bits);
        let outcomes = verdicts(&envelope, vec![verdict.clone()]);
        let told = due(&envelope, &outcomes, reach, false);
        assert_eq!(
            told.first().map(|due| due.action),
            action,
            "{verdict:?} {notify_bits} {reach:?}"
        );
    }
}

#[tokio::test]
async fn a_dsn_is_never_answered() {
    let mut envelope = envelope(vec![recipient("alice@there.test", FAILURE)]);
    envelope.reverse_path = String::new();
    let outcomes = verdicts(&envelope, vec![refused()]);
    assert!(due(&envelope, &outcomes, Reach::PassedOn, false).is_empty());
    let late = verdicts(&envelope, vec![Verdict::deferred("4.4.1", "")]);
    assert!(due(&envelope, &late, Reach::PassedOn, true).is_empty());
}

#[tokio::test]
async fn one_dsn_tells_of_everybody_concerned() {
    let envelope = envelope(vec![
        recipient("a@there.test", 0),
        recipient("b@there.test", 0),
        recipient("c@there.test", SUCCESS),
    ]);
    let outcomes = verdicts(&envelope, vec![refused(), taken(), taken()]);
    let message = notify(&envelope, outcomes, &delivery(inline()), Reach::Relayed)
        .await
        .unwrap();
    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    assert_eq!(
        parsed.subject(),
        Some("Your message could not be delivered to everybody")
    );
    let status = std::str::from_utf8(parsed.parts[2].contents()).unwrap();
    assert!(status.contains("Final-Recipient: rfc822; a@there.test\r\nAction: failed"));
    assert!(status.contains("Final-Recipient: rfc822; c@there.test\r\nAction: relayed"));
    assert!(!status.contains("b@there.test"));
}

#[tokio::test]
async fn the_whole_message_goes_back_if_asked_for_and_small() {
    let mut envelope = envelope(vec![recipient("alice@there.test", 0)]);
    envelope.dsn_return = DsnReturn::Full.into();
    let stored = delivery(body::Content::Stored("known".to_owned()));
    let outcomes = verdicts(&envelope, vec![refused()]);
    let message = notify(&envelope, outcomes.clone(), &stored, Reach::PassedOn)
        .await
        .unwrap();
    let whole = content(&message);
    let parsed = MessageParser::default().parse(&whole).unwrap();
    let original = parsed.parts[3].message().expect("a message in the message");
    assert_eq!(original.subject(), Some("lunch"));
    assert!(original.body_text(0).unwrap().contains("At noon?"));

    let mut large = stored;
    large.body.as_mut().unwrap().size = 1 << 30;
    let message = notify(&envelope, outcomes.clone(), &large, Reach::PassedOn)
        .await
        .unwrap();
    let headers = content(&message);
    assert!(memchr::memmem::find(&headers, b"text/rfc822-headers").is_some());
    assert!(memchr::memmem::find(&headers, b"At noon").is_none());

    let missing = delivery(body::Content::Stored("lost".to_owned()));
    let message = notify(&envelope, outcomes, &missing, Reach::PassedOn)
        .await
        .unwrap();
    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    assert_eq!(parsed.parts.len(), 3, "without the third part");
}

#[tokio::test]
async fn an_expired_delivery_says_what_was_tried() {
    let envelope = envelope(vec![recipient("alice@there.test", 0)]);
    let mut expired = delivery(inline());
    expired.disposition = Disposition::Expired.into();
    let last = "The last attempt ended with: 451 4.4.1 Connecting failed";
    let verdict = Verdict::failed(554, "5.4.7", format!("Delivery time expired. {last}"));
    let outcomes = verdicts(&envelope, vec![verdict]);
    let message = notify(&envelope, outcomes, &expired, Reach::Final)
        .await
        .unwrap();
    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    let text = parsed.body_text(0).unwrap().replace("\r\n", " ");
    assert!(text.contains("again and again"), "{text}");
    let status = std::str::from_utf8(parsed.parts[2].contents()).unwrap();
    assert!(status.contains("Status: 5.4.7\r\n"));
    assert!(status.contains("Diagnostic-Code: x-postrider; Delivery time expired."));
    assert!(!status.contains("Remote-MTA"));
}

#[tokio::test]
async fn international_senders_get_international_reports() {
    let mut envelope = envelope(vec![recipient("ålice@there.test", 0)]);
    let outcomes = verdicts(&envelope, vec![refused()]);
    let message = notify(
        &envelope,
        outcomes.clone(),
        &delivery(inline()),
        Reach::PassedOn,
    )
    .await
    .unwrap();
    assert!(!message.envelope.as_ref().unwrap().smtputf8);
    let plain = content(&message);
    assert!(memchr::memmem::find(&plain, b"utf-8; \\x{E5}lice@there.test").is_some());

    envelope.reverse_path = "bøb@here.test".to_owned();
    let message = notify(&envelope, outcomes, &delivery(inline()), Reach::PassedOn)
        .await
        .unwrap();
    assert!(message.envelope.as_ref().unwrap().smtputf8);
    let content = content(&message);
    assert!(memchr::memmem::find(&content, b"message/global-delivery-status").is_some());
    assert!(memchr::memmem::find(&content, "utf-8; ålice@there.test".as_bytes()).is_some());
}

#[tokio::test]
async fn what_a_server_says_cannot_break_the_report() {
    let envelope = envelope(vec![recipient("alice@there.test", 0)]);
    let evil = Verdict::of_reply(
        550,
        Some("9.9.9.9".into()),
        format!("no\r\n--=_x\r\nAction: delivered\r\n{}", "x".repeat(5000)),
    );
    let outcomes = verdicts(&envelope, vec![evil]);
    let message = notify(&envelope, outcomes, &delivery(inline()), Reach::PassedOn)
        .await
        .unwrap();
    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    assert_eq!(parsed.parts.len(), 4);
    let status = std::str::from_utf8(parsed.parts[2].contents()).unwrap();
    assert!(status.contains("Status: 5.0.0\r\n"));
    assert!(!status.contains("\r\nAction: delivered"));
    assert!(
        content
            .split(|byte| *byte == b'\n')
            .all(|line| line.len() <= 999)
    );
}

/// A DSN with its own id as `{id}`, and line ends as an editor has them.
fn readable(message: &NewMessage) -> String {
    let content = content(message);
    let text = std::str::from_utf8(&content).unwrap();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    text.replace("\r\n", "\n")
        .replace(&message.queue_id, "{id}")
}

fn late() -> LeasedDelivery {
    LeasedDelivery {
        delay_warning_due: true,
        expires_us: 784_543_777_000_000,
        ..delivery(inline())
    }
}

#[tokio::test]
async fn a_delay_is_told_as_the_rfcs_say() {
    let mut envelope = envelope(vec![
        recipient("alice@there.test", 0),
        recipient("carol@there.test", FAILURE | DELAY),
        recipient("never@there.test", NEVER),
        recipient("failure@there.test", FAILURE),
        recipient("taken@there.test", DELAY),
    ]);
    // A delay is no failure: the content is not returned.
    envelope.dsn_return = DsnReturn::Full.into();
    let greylisted = Verdict::of_reply(450, Some("4.2.0".into()), "Greylisted".into());
    let outcomes = verdicts(
        &envelope,
        vec![
            greylisted.clone(),
            Verdict::unknown("The connection was lost after the message was sent"),
            greylisted.clone(),
            greylisted,
            taken(),
        ],
    );
    let message = notify(&envelope, outcomes, &late(), Reach::PassedOn)
        .await
        .unwrap();
    let sent = message.envelope.as_ref().unwrap();
    assert_eq!(sent.reverse_path, "");
    assert_eq!(sent.recipients[0].dsn_notify, NEVER);
    assert_eq!(readable(&message), include_str!("golden/delayed.eml"));
    let content = content(&message);
    let parsed = MessageParser::default().parse(&content).unwrap();
    assert_eq!(parsed.parts.len(), 4, "the whole and three parts");
}

#[tokio::test]
async fn failures_and_delays_are_told_together() {
    let envelope = envelope(vec![
        recipient("alice@there.test", 0),
        recipient("carol@there.test", 0),
    ]);
    let connecting = Verdict::deferred("4.4.1", "Connecting to mx.there.test failed");
    let outcomes = verdicts(&envelope, vec![refused(), connecting]);
    let mut late = late();
    late.release_us = 784_111_776_000_000;
    late.tenant = "here.test".to_owned();
    late.priority = 3;
    let message = notify(&envelope, outcomes, &late, Reach::PassedOn)
        .await
        .unwrap();
    assert_eq!(
        readable(&message),
        include_str!("golden/failed-and-delayed.eml")
    );
    assert_eq!(
        (message.tenant.as_str(), message.priority),
        ("here.test", 3)
    );
}

#[tokio::test]
async fn a_delay_that_nobody_asks_about_makes_no_dsn() {
    for notify_bits in [NEVER, SUCCESS, FAILURE, SUCCESS | FAILURE] {
        let envelope = envelope(vec![recipient("a@x.test", notify_bits)]);
        let outcomes = verdicts(&envelope, vec![Verdict::deferred("4.4.1", "")]);
        let told = notify(&envelope, outcomes, &late(), Reach::Final).await;
        assert!(told.is_none(), "{notify_bits}");
    }
}
