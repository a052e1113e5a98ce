//! What operators see and do.

use futures_util::StreamExt as _;
use postrider_protocol::Code;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{
    ActRequest, Filter, FindRequest, ListRequest, OutcomeKind, act_request, enqueue_result,
    journey_event,
};

use crate::kit::{World, config, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_tokens() {
    let world = World::new(config()).await;
    for _ in 0..25 {
        world.accept("smtp:a.test").await;
    }
    let mut request = ListRequest {
        limit: 10,
        ..ListRequest::default()
    };
    let mut sizes = Vec::new();
    loop {
        let page = world.service.list(request.clone()).await.unwrap();
        sizes.push(page.deliveries.len());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(sizes, [10, 10, 5]);
    request.page_token = "garbage".to_owned();
    let error = world.service.list(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journey_is_followed_to_its_end() {
    let world = World::new(config()).await;
    let mut new = message("smtp:a.test", b"x");
    new.message_id = "one@a.test".to_owned();
    assert_eq!(
        world.enqueue(new.clone()).await.status(),
        enqueue_result::Status::Accepted
    );
    let mut followed = world
        .service
        .follow_journey("<one@a.test>".to_owned())
        .await
        .unwrap();
    let first = followed.next().await.unwrap().unwrap();
    assert!(matches!(first.what, Some(journey_event::What::Queued(_))));
    let mut worker = world.worker("w", 1).await;
    let delivery = worker.deliveries().await.remove(0);
    worker.complete(&delivery, OutcomeKind::Delivered);
    let last = followed.next().await.unwrap().unwrap();
    assert!(matches!(last.what, Some(journey_event::What::Attempt(_))));
    assert!(followed.next().await.is_none());
    for query in ["one@a.test", "<one@a.test>", &new.queue_id] {
        let found = world.service.journey(query.to_owned()).await.unwrap();
        assert_eq!(found.journeys.len(), 1, "{query}");
        assert!(found.journeys[0].ended);
    }
    assert!(
        world
            .service
            .journey("nobody@a.test".to_owned())
            .await
            .unwrap()
            .journeys
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_delivery_is_pushed() {
    let world = World::new(config()).await;
    let id = world.accept("smtp:a.test").await;
    let act = |act: act_request::Act| ActRequest {
        act: act as i32,
        filter: Some(Filter {
            queue_ids: vec![id.to_string()],
            ..Filter::default()
        }),
        operator: "ann".to_owned(),
        ..ActRequest::default()
    };
    let held = world
        .service
        .act(act(act_request::Act::Hold))
        .await
        .unwrap();
    assert_eq!((held.matched, held.changed), (1, 1));
    let mut worker = world.worker("w", 2).await;
    assert!(worker.hears_nothing(&world.service).await);
    world
        .service
        .act(act(act_request::Act::Release))
        .await
        .unwrap();
    assert_eq!(worker.deliveries().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused() {
    let world = World::new(config()).await;
    let bad = world.service.show("x".to_owned()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let bad = world.service.act(ActRequest::default()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let bad = world.service.journey(String::new()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let mut invalid = message("nowhere", b"x");
    assert_eq!(
        world.enqueue(invalid.clone()).await.status(),
        enqueue_result::Status::Invalid
    );
    invalid.queue_id = "../../etc".to_owned();
    assert_eq!(
        world.enqueue(invalid).await.status(),
        enqueue_result::Status::Invalid
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_sender_and_recipient() {
    let world = World::new(config()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.accept("smtp:a.test").await.to_string());
    }
    let mut worker = world.worker("w", 10).await;
    let mut done = 0;
    while done < 2 {
        for delivery in worker.deliveries().await {
            if delivery.queue_id != ids[2] {
                worker.complete(&delivery, OutcomeKind::Delivered);
                done += 1;
            }
        }
    }
    while !matches!(worker.next().await, Some(Frame::Acks(_))) {}
    ids.reverse();
    let found = async |sender: &str, recipient: &str, limit: u32| {
        let request = FindRequest {
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            limit,
        };
        world
            .service
            .find(request)
            .await
            .map(|found| found.queue_ids)
    };
    // Queued and ended ones, the newest first.
    assert_eq!(found("Bob@sender.test", "", 0).await.unwrap(), ids);
    assert_eq!(found("", "alice@A.test", 0).await.unwrap(), ids);
    assert_eq!(found("", "alice@a.test", 1).await.unwrap(), ids[..1]);
    assert!(found("carol@a.test", "", 0).await.unwrap().is_empty());
    assert!(found("<>", "", 0).await.unwrap().is_empty());
    for (sender, recipient) in [("", ""), ("a@a.test", "b@b.test")] {
        let refused = found(sender, recipient, 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}
