//! Every call over a real connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::{FakeQueue, Running, code, message};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use postrider_protocol::api::{Directory as _, Mailbox as _, Queue as _, QueueAdmin as _};
use postrider_protocol::grpc::{self, ServicesConfig};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, DeliverHeader, authenticate_response, lookup_response,
};
use postrider_protocol::queue_v1::{
    ActRequest, Completion, CompletionBatch, Hello, ListRequest, WorkerFrame, queue_frame,
    worker_frame,
};
use postrider_protocol::{Code, Status};

#[tokio::test]
async fn operators_get_answers() {
    let queue = Arc::new(FakeQueue::default());
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let client = grpc::queue(&server.config()).unwrap();
    let page = client
        .list(ListRequest {
            limit: 1000,
            page_token: "next".to_owned(),
            ..ListRequest::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (page.deliveries.len(), page.next_page_token.as_str()),
        (1000, "next")
    );
    assert_eq!(code(client.show("x".to_owned()).await), Code::NotFound);
    let acted = client
        .act(ActRequest {
            operator: "alice".to_owned(),
            ..ActRequest::default()
        })
        .await
        .unwrap();
    assert_eq!((acted.changed, acted.sample), (3, vec!["alice".to_owned()]));
    let found = client.journey("<id@here.test>".to_owned()).await.unwrap();
    assert_eq!(found.journeys[0].message_id, "<id@here.test>");
    assert_eq!(client.stats().await.unwrap().accepted, 7);
    let events: Vec<_> = client
        .follow_journey("q".to_owned())
        .await
        .unwrap()
        .collect()
        .await;
    assert_eq!(events.len(), 4);
    assert_eq!(events[2].as_ref().unwrap().time_us, 2);
    assert_eq!(events[3].as_ref().unwrap_err().code(), Code::Aborted);
    server.stop().await;
}

#[tokio::test]
async fn the_directory_and_the_mailboxes_answer() {
    let server = Running::start(&Arc::default(), &ServicesConfig::default()).await;
    let client = grpc::mailbox(&server.config()).unwrap();
    let addresses = ["alice@here.test", "nobody@here.test"].map(str::to_owned);
    assert_eq!(
        client.lookup(addresses.to_vec()).await.unwrap(),
        [
            lookup_response::Verdict::Exists,
            lookup_response::Verdict::NoSuchUser
        ]
    );
    let try_password = async |password: &str| {
        let request = AuthenticateRequest {
            account: "alice".to_owned(),
            password: password.to_owned(),
            client_address: "192.0.2.1".to_owned(),
        };
        client.authenticate(request).await.unwrap().verdict()
    };
    assert_eq!(
        try_password("sesame").await,
        authenticate_response::Verdict::Granted
    );
    assert_eq!(
        try_password("guess").await,
        authenticate_response::Verdict::Denied
    );

    let header = |size| DeliverHeader {
        recipients: addresses.to_vec(),
        size,
        ..DeliverHeader::default()
    };
    let content = || stream::iter(vec![Ok(Bytes::from_static(b"1234")); 3]).boxed();
    let results = client.deliver(header(12), content()).await.unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(
        code(client.deliver(header(13), content()).await),
        Code::InvalidArgument
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_taken_for_a_whole() {
    let queue = Arc::new(FakeQueue::default());
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let client = grpc::queue(&server.config()).unwrap();
    let broken = || {
        stream::iter([
            Ok(Bytes::from_static(b"half")),
            Err(Status::cancelled("lost")),
        ])
        .boxed()
    };
    assert_eq!(code(client.put_body(broken()).await), Code::Cancelled);

    let mailbox = grpc::mailbox(&server.config()).unwrap();
    // Its size says that it is whole, so only the broken stream can tell.
    let header = DeliverHeader {
        size: 4,
        ..DeliverHeader::default()
    };
    assert_eq!(
        code(mailbox.deliver(header, broken()).await),
        Code::Cancelled
    );

    let pieces = client.get_body("broken".to_owned()).await.unwrap();
    assert_eq!(code(pieces.try_collect::<Vec<_>>().await), Code::DataLoss);
    assert_eq!(
        code(client.get_body("missing".to_owned()).await),
        Code::NotFound
    );
    server.stop().await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways_and_a_slow_reader_holds_the_writer() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 512;
    let queue = Arc::new(FakeQueue::default());
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let client = grpc::queue(&server.config()).unwrap();
    let body = stream::iter((0..PIECES).map(|_| Ok(Bytes::from(vec![b'x'; PIECE]))));
    let stored = client.put_body(body.boxed()).await.unwrap();
    assert_eq!(stored.size, (PIECE * PIECES) as u64);

    let mut body = client.get_body((PIECE * PIECES).to_string()).await.unwrap();
    let mut size = body.next().await.unwrap().unwrap().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // A second call gets through while the first one's window is full.
    assert_eq!(client.stats().await.unwrap().accepted, 7);
    while let Some(piece) = body.next().await {
        size += piece.unwrap().len();
    }
    assert_eq!(size, PIECE * PIECES);

    // A writer whose reader sleeps is held by the window, not by memory.
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let endless = stream::repeat_with(move || {
        count.fetch_add(PIECE, Ordering::SeqCst);
        Ok(Bytes::from(vec![b'x'; PIECE]))
    });
    let call = client.put_body(endless.boxed());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), call)
            .await
            .is_err()
    );
    let ahead = sent.load(Ordering::SeqCst) + PIECE * PIECES - queue.taken.load(Ordering::SeqCst);
    assert!(ahead < 32 << 20, "{ahead} bytes ahead of the reader");
    server.stop().await;
}

#[tokio::test]
async fn a_worker_and_the_queue_converse() {
    let server = Running::start(&Arc::default(), &ServicesConfig::default()).await;
    let client = grpc::queue(&server.config()).unwrap();
    let (sender, frames) = tokio::sync::mpsc::channel::<WorkerFrame>(8);
    let send = async |frame| {
        let frame = WorkerFrame { frame: Some(frame) };
        sender.send(frame).await.unwrap();
    };
    send(worker_frame::Frame::Hello(Hello::default())).await;
    let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
    let mut answers = client.work(frames.boxed()).await.unwrap();
    let next = async |answers: &mut futures_util::stream::BoxStream<'static, _>| {
        let frame: Result<postrider_protocol::queue_v1::QueueFrame, Status> =
            answers.next().await.unwrap();
        frame.unwrap().frame.unwrap()
    };
    assert!(matches!(
        next(&mut answers).await,
        queue_frame::Frame::Welcome(_)
    ));
    for round in 0..3 {
        let completion = Completion {
            delivery_id: round.to_string(),
            ..Completion::default()
        };
        let batch = CompletionBatch {
            completions: vec![completion; 100],
        };
        send(worker_frame::Frame::Completions(batch)).await;
        let queue_frame::Frame::Acks(acks) = next(&mut answers).await else {
            panic!("no acks")
        };
        assert_eq!(acks.acks.len(), 100);
        assert_eq!(acks.acks[0].delivery_id, round.to_string());
    }
    drop(sender);
    assert!(answers.next().await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn many_callers_share_few_calls() {
    let queue = Arc::new(FakeQueue {
        delay: Duration::from_millis(20),
        ..FakeQueue::default()
    });
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let client = grpc::queue(&server.config()).unwrap();
    let callers: Vec<_> = (0..500)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.enqueue(vec![message(number)]).await })
        })
        .collect();
    for (number, caller) in callers.into_iter().enumerate() {
        let results = caller.await.unwrap().unwrap();
        assert_eq!(results[0].detail, number.to_string());
    }
    assert_eq!(queue.messages.load(Ordering::SeqCst), 500);
    let calls = queue.calls.load(Ordering::SeqCst);
    assert!(calls <= 20, "{calls} calls for 500 messages");

    // At one caller, one call each.
    for number in 0..5 {
        client.enqueue(vec![message(number)]).await.unwrap();
    }
    assert_eq!(queue.calls.load(Ordering::SeqCst), calls + 5);
    server.stop().await;
}

#[tokio::test]
async fn a_neighbour_may_start_late_and_restart() {
    let queue = Arc::new(FakeQueue::default());
    // A port that is free, with nobody behind it yet.
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let (address, config) = (server.address, server.config());
    server.stop().await;
    let client = grpc::queue(&config).unwrap();
    let early = tokio::spawn({
        let client = client.clone();
        async move { client.enqueue(vec![message("early")]).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut server = Running::start_at(&queue, &ServicesConfig::default(), address).await;
    early.await.unwrap().unwrap();

    // Restarts while messages flow; no caller notices.
    let flow = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..300 {
                client.enqueue(vec![message(number)]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        server.stop().await;
        server = Running::start_at(&queue, &ServicesConfig::default(), address).await;
    }
    flow.await.unwrap();
    let body = stream::iter([Ok(Bytes::from_static(b"x"))]);
    assert_eq!(client.put_body(body.boxed()).await.unwrap().size, 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_stays_away_is_unavailable() {
    let queue = Arc::new(FakeQueue::default());
    let server = Running::start(&queue, &ServicesConfig::default()).await;
    let config = server.config();
    server.stop().await;
    let client = grpc::queue(&config).unwrap();
    let status = client.enqueue(vec![message("x")]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the service queue cannot be reached");
}
