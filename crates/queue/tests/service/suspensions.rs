//! Suspending a destination, a sender or a tenant.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider_protocol::Code;
use postrider_protocol::api::QueueAdmin;
use postrider_protocol::queue_v1::act_record::State;
use postrider_protocol::queue_v1::act_request::Act;
use postrider_protocol::queue_v1::delivery_status::State as Delivery;
use postrider_protocol::queue_v1::{
    ActsRequest, Filter, ListRequest, NewMessage, OutcomeKind, ResumeRequest, SuspendRequest,
    SuspendResponse, Suspension, UndoRequest,
};

use crate::kit::{World, config, message, open};

async fn suspend(world: &World, suspension: Suspension) -> SuspendResponse {
    let request = SuspendRequest {
        suspension: Some(Suspension {
            operator: "ann".to_owned(),
            reason: "it moves".to_owned(),
            ..suspension
        }),
        preview: false,
    };
    world.service.suspend(request).await.unwrap()
}

async fn resume(world: &World, id: &str) -> bool {
    let request = ResumeRequest {
        id: id.to_owned(),
        operator: "eve".to_owned(),
        reason: "it has moved".to_owned(),
    };
    world.service.resume(request).await.unwrap().resumed
}

fn to(destination: &str) -> Suspension {
    Suspension {
        destination: destination.to_owned(),
        ..Suspension::default()
    }
}

fn from(sender: &str, tenant: &str) -> NewMessage {
    let mut message = message("smtp:a.test", b"x");
    message.envelope.as_mut().unwrap().reverse_path = sender.to_owned();
    message.tenant = tenant.to_owned();
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_destination_waits_until_it_is_resumed() {
    let world = World::new(config()).await;
    world.accept("smtp:a.test").await;
    let suspended = suspend(&world, to("smtp:A.test")).await;
    assert_eq!((suspended.matched, suspended.more), (1, false));
    let id = suspended.suspension.unwrap().id;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    world.accept("smtp:b.test").await;
    assert_eq!(worker.deliveries().await[0].destination, "smtp:b.test");
    let filter = Filter {
        suspended: true,
        ..Filter::default()
    };
    let list = ListRequest {
        filter: Some(filter),
        ..ListRequest::default()
    };
    let listed = world.service.list(list.clone()).await.unwrap().deliveries;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|one| one.state() == Delivery::Suspended));
    assert!(listed.iter().all(|one| one.suspensions == [id.clone()]));
    assert_eq!(world.service.stats().await.unwrap().suspensions, 1);
    assert!(resume(&world, &id).await);
    assert!(!resume(&world, &id).await);
    let resumed = Instant::now();
    let mut seen = 0;
    while seen < 2 {
        seen += worker.deliveries().await.len();
    }
    assert!(resumed.elapsed() < Duration::from_secs(1));
    assert!(
        world
            .service
            .list(list)
            .await
            .unwrap()
            .deliveries
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_and_a_tenant_can_be_suspended() {
    let world = World::new(config()).await;
    let by_sender = suspend(
        &world,
        Suspension {
            sender: "@news.test".to_owned(),
            ..Suspension::default()
        },
    )
    .await;
    let by_tenant = suspend(
        &world,
        Suspension {
            tenant: "acme".to_owned(),
            ..Suspension::default()
        },
    )
    .await;
    let mut worker = world.worker("w", 10).await;
    for message in [
        from("digest@news.test", ""),
        from("bob@b.test", "acme"),
        from("bob@b.test", ""),
    ] {
        world.enqueue(message).await;
    }
    let delivery = worker.deliveries().await.remove(0);
    assert_eq!(
        delivery.envelope.as_ref().unwrap().reverse_path,
        "bob@b.test"
    );
    assert_eq!(delivery.tenant, "");
    worker.complete(&delivery, OutcomeKind::Delivered);
    worker.next().await.unwrap();
    assert!(worker.hears_nothing(&world.service).await);
    for (response, sender) in [(by_sender, "digest@news.test"), (by_tenant, "bob@b.test")] {
        assert!(resume(&world, &response.suspension.unwrap().id).await);
        let delivery = worker.deliveries().await.remove(0);
        assert_eq!(delivery.envelope.as_ref().unwrap().reverse_path, sender);
        worker.complete(&delivery, OutcomeKind::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_ends_by_itself() {
    let world = World::new(config()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = now + Duration::from_secs(3);
    suspend(
        &world,
        Suspension {
            until_us: u64::try_from(end.as_micros()).unwrap(),
            ..to("smtp:a.test")
        },
    )
    .await;
    let mut worker = world.worker("w", 10).await;
    world.accept("smtp:a.test").await;
    worker.deliveries().await;
    let came = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(came >= end, "{:?} too early", end - came);
    let left = world.service.suspensions().await.unwrap().suspensions;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_survives_a_restart_and_stands_among_the_acts() {
    let world = World::new(config()).await;
    let suspended = suspend(&world, to("smtp:a.test")).await;
    let id = suspended.suspension.unwrap().id;
    world.accept("smtp:a.test").await;
    let dir = world.dir;
    let shutdown = tokio_util::sync::CancellationToken::new();
    shutdown.cancel();
    world.service.run(shutdown).await.unwrap();
    drop(world.service);
    let service = open(dir.path(), config()).await;
    let world = World { dir, service };
    let mut worker = world.worker("w", 10).await;
    assert!(worker.hears_nothing(&world.service).await);
    let there = world.service.suspensions().await.unwrap().suspensions;
    assert_eq!(there.len(), 1);
    assert_eq!(
        (there[0].operator.as_str(), there[0].reason.as_str()),
        ("ann", "it moves")
    );
    let acts = |acts: ActsRequest| world.service.acts(acts);
    let act = acts(ActsRequest::default()).await.unwrap().acts.remove(0);
    let request = act.request.unwrap();
    assert_eq!(
        (act.act_id.as_str(), request.act()),
        (id.as_str(), Act::Suspend)
    );
    // To take it back as an act is to resume it.
    let undo = UndoRequest {
        act_id: id,
        operator: "eve".to_owned(),
        reason: String::new(),
    };
    let undone = world.service.undo(undo).await.unwrap();
    assert_eq!(
        (undone.state(), undone.undone_by.as_str()),
        (State::Undone, "eve")
    );
    worker.deliveries().await;
    assert!(
        world
            .service
            .suspensions()
            .await
            .unwrap()
            .suspensions
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_suspends_nothing() {
    let world = World::new(config()).await;
    world.accept("smtp:a.test").await;
    let request = SuspendRequest {
        suspension: Some(to("smtp:a.test")),
        preview: true,
    };
    let preview = world.service.suspend(request).await.unwrap();
    assert_eq!((preview.matched, preview.sample.len()), (1, 1));
    assert!(
        world
            .service
            .suspensions()
            .await
            .unwrap()
            .suspensions
            .is_empty()
    );
    world.worker("w", 1).await.deliveries().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_that_makes_no_sense_is_refused() {
    let world = World::new(config()).await;
    for bad in [
        Suspension::default(),
        to("nowhere"),
        to("smtp:*"),
        Suspension {
            until_us: 1,
            ..to("smtp:a.test")
        },
        Suspension {
            sender: "x".repeat(2000),
            ..Suspension::default()
        },
    ] {
        let request = SuspendRequest {
            suspension: Some(bad.clone()),
            preview: false,
        };
        let refused = world.service.suspend(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
    assert!(!resume(&world, "nothing").await);
}
