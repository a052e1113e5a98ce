use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use postrider_protocol::queue_v1::{Envelope, Hello, WorkerFrame, worker_frame};
use postrider_telemetry::trace::MessageSpan;

use super::*;
use crate::transport::Report;

/// Something open that is lost when told so.
struct Fake {
    warm: bool,
    lost: Arc<Notify>,
}

#[async_trait]
impl Slot for Fake {
    async fn attempt(
        &mut self,
        _delivery: &LeasedDelivery,
        _envelope: &Envelope,
        _span: &mut MessageSpan,
    ) -> Report {
        unreachable!("these tests make no attempts")
    }

    fn is_warm(&self) -> bool {
        self.warm
    }

    async fn lost(&mut self) {
        self.lost.notified().await;
    }

    async fn close(&mut self) {}

    fn abandon(&mut self) {}
}

fn fake() -> Fake {
    Fake {
        warm: true,
        lost: Arc::new(Notify::new()),
    }
}

fn delivery(id: &str) -> LeasedDelivery {
    LeasedDelivery {
        delivery_id: id.to_owned(),
        ..LeasedDelivery::default()
    }
}

fn lease(slots: u32) -> (Arc<Lease>, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::default());
    let destination = Destination::new("smtp", "x.test");
    (Lease::new(7, destination, slots, outbox.clone()), outbox)
}

/// What the worker tells of its leases, as it does.
struct Frames(BoxStream<'static, WorkerFrame>);

impl Frames {
    fn of(outbox: &Arc<Outbox>) -> Self {
        Self(outbox.converse(Hello::default(), false))
    }

    /// What is given back next: of a lease that goes on, the deliveries and the slots that are kept.
    async fn next(&mut self) -> String {
        loop {
            let frame = self.0.next().await.unwrap();
            match frame.frame.unwrap() {
                worker_frame::Frame::GiveBack(list) => return format!("{:?}", list.tokens),
                worker_frame::Frame::PartialReturns(batch) => {
                    let parts = batch.returns.iter();
                    let parts =
                        parts.map(|part| format!("{}/{}", part.delivery_ids.join("+"), part.slots));
                    return parts.collect::<Vec<_>>().join(" ");
                }
                _ => {}
            }
        }
    }

    /// The tokens that were given back since this was asked last.
    fn given_back(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        while let Some(Some(frame)) = self.0.next().now_or_never() {
            if let Some(worker_frame::Frame::GiveBack(list)) = frame.frame {
                tokens.extend(list.tokens);
            }
        }
        tokens
    }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn no_more_slots_open_than_granted_and_the_rest_waits_in_order() {
    let (lease, outbox) = lease(2);
    let mut frames = Frames::of(&outbox);
    let (mut one, first) = lease.push(delivery("a")).unwrap();
    let (mut two, second) = lease.push(delivery("b")).unwrap();
    assert_eq!(
        (first.delivery_id, second.delivery_id),
        ("a".into(), "b".into())
    );
    assert!(lease.push(delivery("c")).is_none());
    assert!(lease.push(delivery("d")).is_none());
    let mut slot = fake();
    assert_eq!(
        one.next(&mut slot, LONG, || ()).await.unwrap().delivery_id,
        "c"
    );
    assert_eq!(
        two.next(&mut slot, LONG, || ()).await.unwrap().delivery_id,
        "d"
    );
    slot.warm = false;
    assert!(one.next(&mut slot, LONG, || ()).await.is_none());
    assert!(one.leave(Duration::ZERO).is_none());
    assert!(frames.given_back().is_empty());
    assert!(two.leave(Duration::ZERO).is_none());
    assert!(lease.over_after(LONG));
    assert!(lease.push(delivery("e")).is_none());
}

#[tokio::test]
async fn the_last_slot_gives_the_lease_back() {
    let (lease, outbox) = lease(2);
    let mut frames = Frames::of(&outbox);
    let (mut seat, _) = lease.push(delivery("a")).unwrap();
    assert!(seat.leave(Duration::ZERO).is_none());
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn an_idle_slot_takes_what_comes_before_another_is_opened() {
    let (lease, _outbox) = lease(8);
    let (seat, _) = lease.push(delivery("a")).unwrap();
    let waiting = tokio::spawn(async move {
        let mut slot = fake();
        seat.next(&mut slot, LONG, || ())
            .await
            .map(|next| (next.delivery_id, seat))
    });
    tokio::task::yield_now().await;
    assert!(
        lease.push(delivery("b")).is_none(),
        "the idle slot is enough"
    );
    // It is spoken for, though it may not have woken yet. First come, first served.
    let (_new, first) = lease.push(delivery("c")).unwrap();
    assert_eq!(first.delivery_id, "b");
    let (id, _seat) = waiting.await.unwrap().unwrap();
    assert_eq!(id, "c");
}

#[tokio::test]
async fn a_slot_is_free_when_its_report_is_told() {
    let (lease, _outbox) = lease(8);
    let (seat, _) = lease.push(delivery("a")).unwrap();
    let mut slot = fake();
    let mut another = None;
    let tell = || another = lease.push(delivery("b"));
    let next = seat.next(&mut slot, LONG, tell).await.unwrap();
    assert_eq!(next.delivery_id, "b");
    assert!(another.is_none(), "no other slot was opened for it");
}

#[tokio::test]
async fn an_idle_slot_ends_with_its_connection_its_time_or_its_lease() {
    let (lease, _outbox) = lease(1);
    let (seat, _) = lease.push(delivery("a")).unwrap();
    let mut slot = fake();
    slot.lost.notify_one();
    assert!(seat.next(&mut slot, LONG, || ()).await.is_none());
    assert!(
        seat.next(&mut slot, Duration::from_millis(1), || ())
            .await
            .is_none()
    );
    lease.change(Phase::WantedBack);
    assert!(seat.next(&mut slot, LONG, || ()).await.is_none());
}

#[tokio::test]
async fn a_wanted_lease_wakes_its_idle_slots() {
    let (lease, _outbox) = lease(1);
    let (seat, _) = lease.push(delivery("a")).unwrap();
    let waiting = tokio::spawn(async move { seat.next(&mut fake(), LONG, || ()).await.is_none() });
    tokio::task::yield_now().await;
    lease.change(Phase::WantedBack);
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn work_that_came_while_a_slot_closed_is_not_left() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    let (mut seat, _) = lease.push(delivery("a")).unwrap();
    // The connection is being closed; the only slot is still taken.
    assert!(lease.push(delivery("b")).is_none());
    assert_eq!(seat.leave(Duration::ZERO).unwrap().delivery_id, "b");
    assert!(seat.leave(Duration::ZERO).is_none());
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn leaving_drops_what_waits_and_revoking_gives_nothing_back() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    let (mut seat, _) = lease.push(delivery("a")).unwrap();
    assert!(lease.push(delivery("b")).is_none());
    lease.change(Phase::Revoked);
    assert!(seat.leave(Duration::ZERO).is_none());
    assert!(frames.given_back().is_empty());
}

#[tokio::test]
async fn a_lease_whose_conversation_is_over_gives_nothing_back() {
    let (lease, outbox) = lease(2);
    let mut frames = Frames::of(&outbox);
    let (mut one, _) = lease.push(delivery("1")).unwrap();
    let (two, _) = lease.push(delivery("2")).unwrap();
    assert!(lease.push(delivery("3")).is_none());
    lease.change(Phase::Lost);
    // Nothing makes it longer again.
    lease.change(Phase::Leaving);
    lease.change(Phase::WantedBack);
    assert!(lease.push(delivery("4")).is_none());
    assert!(one.leave(LONG).is_none());
    drop(two);
    assert!(lease.over_after(Duration::ZERO));
    outbox.end();
    assert!(matches!(
        frames.0.next().await.unwrap().frame,
        Some(worker_frame::Frame::Hello(_))
    ));
    assert!(frames.0.next().await.is_none());
}

#[tokio::test]
async fn a_lease_without_work_ends_after_a_while() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    assert!(!lease.over_after(LONG));
    assert!(lease.over_after(Duration::ZERO));
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn a_lease_outlives_a_connection_that_failed_until_others_want_it() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    let (mut seat, _) = lease.push(delivery("a")).unwrap();
    assert!(seat.leave(LONG).is_none());
    assert!(!lease.over_after(LONG));
    let (mut seat, next) = lease.push(delivery("b")).unwrap();
    assert_eq!(next.delivery_id, "b");
    assert!(seat.leave(LONG).is_none());
    lease.change(Phase::WantedBack);
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn an_aborted_slot_frees_its_place() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    let (seat, _) = lease.push(delivery("a")).unwrap();
    assert!(lease.push(delivery("b")).is_none());
    drop(seat);
    assert!(lease.over_after(LONG));
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn a_lease_that_is_granted_again_has_the_new_slots() {
    let (lease, outbox) = lease(1);
    let mut frames = Frames::of(&outbox);
    let first = lease.push(delivery("1")).unwrap();
    assert!(lease.push(delivery("2")).is_none());
    lease.regrant(2);
    let second = lease.push(delivery("3")).unwrap();
    assert_eq!(second.1.delivery_id, "2", "first come, first served");
    assert!(lease.push(delivery("4")).is_none());
    lease.change(Phase::Leaving);
    lease.regrant(3);
    assert!(lease.push(delivery("5")).is_none(), "it is on its way back");
    drop((first, second));
    assert_eq!(frames.given_back(), [7]);
}

#[tokio::test]
async fn a_lease_that_is_left_gives_back_what_waits_and_each_slot_as_it_closes() {
    let (lease, outbox) = lease(4);
    let mut frames = Frames::of(&outbox);
    let (mut one, _) = lease.push(delivery("1")).unwrap();
    let (two, _) = lease.push(delivery("2")).unwrap();
    let (mut three, _) = lease.push(delivery("3")).unwrap();
    let (four, _) = lease.push(delivery("4")).unwrap();
    assert!(lease.push(delivery("5")).is_none());
    assert!(lease.push(delivery("6")).is_none());
    drop(four);
    lease.change(Phase::Leaving);
    assert_eq!(frames.next().await, "5+6/3");
    lease.change(Phase::Leaving);
    assert!(one.leave(LONG).is_none());
    assert_eq!(frames.next().await, "/2");
    // A grant that crossed with the word of it: what was added goes back, and no more.
    lease.regrant(9);
    assert_eq!(frames.next().await, "/2");
    assert!(lease.push(delivery("7")).is_none());
    drop(two);
    assert_eq!(frames.next().await, "/1");
    assert!(three.leave(LONG).is_none());
    assert_eq!(frames.next().await, "[7]");
    lease.regrant(9);
    assert!(lease.push(delivery("8")).is_none());
    outbox.end();
    assert!(frames.0.next().await.is_none());
}

#[tokio::test]
async fn a_lease_that_is_held_gives_back_no_slot_before_the_last() {
    let (lease, outbox) = lease(2);
    let mut frames = Frames::of(&outbox);
    let (mut one, _) = lease.push(delivery("1")).unwrap();
    let (mut two, _) = lease.push(delivery("2")).unwrap();
    lease.change(Phase::WantedBack);
    assert!(one.leave(Duration::ZERO).is_none());
    assert!(two.leave(Duration::ZERO).is_none());
    assert_eq!(frames.next().await, "[7]");
}
