//! The worker's side of its conversation with the queue.
//!
//! The queue grants destination leases and streams their due deliveries; the worker answers
//! with completions, heartbeats, and leases that it gives back. When the stream breaks, what
//! waits is dropped (its leases lapse, and it is due again), attempts in hand end, and their
//! completions are told in the next conversation. When the worker stops, it says at once which
//! deliveries it will not begin, and with each connection that closes, that its slot is free; and
//! until the drain's time is over, it seeks the queue to tell how its attempts ended.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use postrider_protocol::api::{self, Queue};
use postrider_protocol::queue_v1::completion_ack::Status as Ack;
use postrider_protocol::queue_v1::{
    CompletionAck, Grant, Hello, LeasedDelivery, QueueFrame, Welcome, queue_frame::Frame,
};
use postrider_protocol::{Destination, Status};
use postrider_telemetry::health::Component;
use rand::RngExt as _;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::crew::{Crew, TRANSPORTS};
use crate::heartbeat::Heartbeats;
use crate::metrics;
use crate::pool::{Lease, Phase};
use crate::stop::Stop;

/// For the queue to take up the conversation.
const WELCOME: Duration = Duration::from_secs(10);
/// Between tries to find the queue again.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// Until a completion that the store could not take is told again.
const REPEAT: Duration = Duration::from_millis(250);
/// For the last completions to be confirmed, after the last attempt.
const FAREWELL: Duration = Duration::from_secs(5);

/// Works for one queue.
pub(crate) struct Worker {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) instance: String,
    pub(crate) slots: u32,
    pub(crate) health: Component,
}

/// Why a conversation is over.
enum End {
    /// As the worker wanted it.
    Drained,
    Lost(String),
}

impl Worker {
    /// Works until `shutdown`, and then until what is in hand is done or the drain's time is over.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let stop = Stop::new(shutdown, &self.crew);
        let mut backoff = BACKOFF;
        loop {
            let begun = Instant::now();
            let end = Conversation::hold(&self, &stop).await;
            metrics::handles().connected.set(0.0);
            let why = match end {
                End::Drained => break,
                End::Lost(why) => why,
            };
            self.health
                .not_ready(format!("no conversation with the queue: {why}"));
            if begun.elapsed() > LONGEST_BACKOFF {
                backoff = BACKOFF;
            }
            tracing::warn!(reason = %why, retry_ms = backoff.as_millis(), "the conversation with the queue is lost");
            // Half of the wait is random, so that many workers do not come back as one.
            let wait = backoff.mul_f64(rand::rng().random_range(0.5..1.0));
            self.rest(wait, &stop).await;
            if stop.is_over() || stop.is_ordered() && self.is_done() {
                self.finish_alone().await;
                break;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        self.crew.outbox.end();
    }

    /// Waits so long, or until there is a reason to look earlier whether to go on.
    async fn rest(&self, wait: Duration, stop: &Stop) {
        let crew = &self.crew;
        let ordered = stop.is_ordered();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stop.ordered(), if !ordered => {}
            () = stop.over(), if ordered => {}
            () = crew.tasks.wait(), if ordered && crew.outbox.is_settled() => {}
        }
    }

    /// Nothing is in hand, and nothing is left to confirm.
    fn is_done(&self) -> bool {
        self.crew.tasks.is_empty() && self.crew.outbox.is_settled()
    }

    /// Ends attempts in hand, if there are any, without a queue that could be told.
    async fn finish_alone(&self) {
        let crew = &self.crew;
        crew.abort.cancel();
        crew.tasks.wait().await;
        if !crew.outbox.is_settled() {
            tracing::warn!(
                "the queue could not be told of the last attempts; they count as unknown"
            );
        }
    }
}

/// One conversation.
struct Conversation<'a> {
    worker: &'a Worker,
    leases: HashMap<u64, Arc<Lease>>,
    /// Leases that are over, and since when that is known.
    over: HashMap<u64, Instant>,
    lease_time: Duration,
    heartbeats: Heartbeats,
    /// Completions that the store could not take, and when they are told again.
    refused: Vec<(String, u64)>,
    repeat_at: Option<Instant>,
    drain: Option<Instant>,
    /// Everything is told and confirmed; the queue only has to end its stream too.
    farewell: bool,
}

impl<'a> Conversation<'a> {
    async fn hold(worker: &'a Worker, stop: &Stop) -> End {
        let asked = Instant::now();
        let leaving = stop.is_ordered();
        let begun = tokio::select! {
            begun = Self::begin(worker, leaving) => begun,
            () = stop.over() => Err("the time to stop is over".to_owned()),
        };
        let (mut stream, welcome) = match begun {
            Ok(begun) => begun,
            Err(why) => return End::Lost(why),
        };
        let begun = worker.crew.outbox.begun().unwrap_or(asked);
        let lease_time = Duration::from_millis(welcome.lease_ms.max(100));
        // Leases are granted from here on, and live so long without a word.
        worker.crew.pulse.beat(begun.into_std(), lease_time);
        let mut conversation = Self {
            worker,
            leases: HashMap::new(),
            over: HashMap::new(),
            lease_time,
            heartbeats: Heartbeats::new(begun, lease_time, welcome.answers_heartbeats),
            refused: Vec::new(),
            repeat_at: None,
            drain: leaving.then(|| stop.deadline()),
            farewell: false,
        };
        let end = conversation.converse(&mut stream, stop).await;
        conversation.let_go();
        metrics::handles().leases.set(0.0);
        end
    }

    async fn begin(
        worker: &Worker,
        leaving: bool,
    ) -> Result<(BoxStream<'static, api::Result<QueueFrame>>, Welcome), String> {
        let hello = Hello {
            instance: worker.instance.clone(),
            transports: TRANSPORTS.map(str::to_owned).to_vec(),
            slots: worker.slots,
        };
        let frames = worker.crew.outbox.converse(hello, leaving);
        let begin = async {
            let mut stream = worker.queue.work(frames).await.map_err(words)?;
            match stream.next().await {
                Some(Ok(QueueFrame {
                    frame: Some(Frame::Welcome(welcome)),
                })) => {
                    tracing::info!(queue = %welcome.instance, lease_ms = welcome.lease_ms, "working for the queue");
                    Ok((stream, welcome))
                }
                Some(Ok(_)) => Err("it did not begin with a welcome".to_owned()),
                Some(Err(error)) => Err(words(error)),
                None => Err("it ended at once".to_owned()),
            }
        };
        let begun = tokio::time::timeout(WELCOME, begin)
            .await
            .map_err(|_| "no welcome in time".to_owned())??;
        match leaving {
            true => worker.health.not_ready("stopping"),
            false => worker.health.ready(),
        }
        metrics::handles().connected.set(1.0);
        metrics::handles().conversations.increment(1);
        Ok(begun)
    }

    async fn converse(
        &mut self,
        stream: &mut BoxStream<'static, api::Result<QueueFrame>>,
        stop: &Stop,
    ) -> End {
        let crew = self.worker.crew.clone();
        let mut heartbeat = tokio::time::interval(self.lease_time / 3);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.drain.is_some() && self.worker.is_done() && !self.farewell {
                self.farewell = true;
                crew.outbox.end();
                self.drain = Some(Instant::now() + FAREWELL);
            }
            // Far away where there is nothing to wait for.
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                frame = stream.next() => match frame {
                    Some(Ok(frame)) => self.handle(frame),
                    Some(Err(error)) => return End::Lost(words(error)),
                    None if self.farewell => return End::Drained,
                    None => return End::Lost("the queue ended it".to_owned()),
                },
                _ = heartbeat.tick() => self.beat(),
                () = tokio::time::sleep_until(self.heartbeats.leases_end().unwrap_or(far)) => {
                    return End::Lost("it does not answer heartbeats".to_owned());
                }
                () = tokio::time::sleep_until(self.repeat_at.unwrap_or(far)) => self.repeat(),
                deadline = stop.ordered(), if self.drain.is_none() => self.leave(deadline),
                () = crew.tasks.wait(), if self.drain.is_some() && !crew.tasks.is_empty() => {}
                () = tokio::time::sleep_until(self.drain.unwrap_or(far)) => {
                    if let ControlFlow::Break(end) = self.give_up() {
                        return end;
                    }
                }
            }
        }
    }

    fn handle(&mut self, frame: QueueFrame) {
        match frame.frame {
            Some(Frame::Deliveries(batch)) => {
                for delivery in batch.deliveries {
                    self.deliver(delivery);
                }
            }
            Some(Frame::Acks(acks)) => acks.acks.into_iter().for_each(|ack| self.confirm(ack)),
            Some(Frame::Grant(grant)) => self.hold_lease(grant),
            Some(Frame::Revoked(list)) => {
                for token in list.tokens {
                    if let Some(lease) = self.leases.remove(&token) {
                        tracing::warn!(token, destination = %lease.destination, "a lease was revoked");
                        lease.change(Phase::Revoked);
                        self.over.insert(token, Instant::now());
                    }
                }
            }
            Some(Frame::WantedBack(list)) => {
                for lease in list
                    .tokens
                    .iter()
                    .filter_map(|token| self.leases.get(token))
                {
                    lease.change(Phase::WantedBack);
                }
            }
            Some(Frame::Heartbeat(answer)) => {
                if let Some(sent) = self.heartbeats.answered(answer.number) {
                    let pulse = &self.worker.crew.pulse;
                    pulse.beat(sent.into_std(), self.lease_time);
                }
            }
            // A second welcome, or a frame of a later version: nothing to do.
            Some(Frame::Welcome(_)) | None => {}
        }
    }

    fn hold_lease(&mut self, grant: Grant) {
        let outbox = &self.worker.crew.outbox;
        let Ok(destination) = grant.destination.parse::<Destination>() else {
            tracing::error!(destination = %grant.destination, "a lease for what is no destination");
            outbox.give_back(grant.token);
            return;
        };
        tracing::debug!(token = grant.token, %destination, slots = grant.slots, "lease granted");
        // A grant of more slots may cross with the lease on its way back: then it goes back as a whole,
        // and its slots are others'. What is granted after that has another token. Or the store did
        // not take it back, and has it still: it goes back once more. Where a grant crosses with the
        // stop, the slots that were added go back.
        let over = match self.leases.get(&grant.token) {
            Some(lease) => !lease.regrant(grant.slots),
            None if self.over.contains_key(&grant.token) => true,
            None => {
                self.begin_lease(grant.token, destination, grant.slots);
                false
            }
        };
        if over {
            self.worker.crew.outbox.give_back(grant.token);
        }
    }

    fn begin_lease(&mut self, token: u64, destination: Destination, slots: u32) {
        let outbox = self.worker.crew.outbox.clone();
        let lease = Lease::new(token, destination, slots, outbox);
        if self.drain.is_some() {
            lease.change(Phase::Leaving);
            return;
        }
        self.leases.insert(token, lease);
        metrics::handles().leases.set(self.leases.len() as f64);
    }

    fn deliver(&self, delivery: LeasedDelivery) {
        if self.drain.is_some() {
            // It crossed with the word that the worker stops.
            let outbox = &self.worker.crew.outbox;
            return outbox.give_back_delivery(delivery.token, delivery.delivery_id);
        }
        match self.leases.get(&delivery.token) {
            Some(lease) => self.worker.crew.take(lease, delivery),
            // It crossed with the lease on its way back, which made it due again.
            None => {
                tracing::debug!(delivery = %delivery.delivery_id, token = delivery.token, "a delivery under a lease that is over");
            }
        }
    }

    fn confirm(&mut self, ack: CompletionAck) {
        let outbox = &self.worker.crew.outbox;
        match ack.status() {
            Ack::Retry => {
                metrics::handles().repeated.increment(1);
                self.refused.push((ack.delivery_id, ack.token));
                self.repeat_at
                    .get_or_insert_with(|| Instant::now() + REPEAT);
                return;
            }
            Ack::Stale => {
                metrics::handles().stale.increment(1);
                tracing::warn!(
                    delivery = %ack.delivery_id,
                    token = ack.token,
                    "an attempt ended after its lease; the delivery is attempted again"
                );
            }
            Ack::Done | Ack::Unspecified => {}
        }
        outbox.confirmed(ack.delivery_id, ack.token);
    }

    fn repeat(&mut self) {
        self.repeat_at = None;
        for (delivery_id, token) in self.refused.drain(..) {
            self.worker.crew.outbox.send_again(delivery_id, token);
        }
    }

    fn beat(&mut self) {
        let crew = &self.worker.crew;
        let now = Instant::now();
        crew.outbox.heartbeat(self.heartbeats.next(now));
        if !self.heartbeats.are_answered() {
            crew.pulse.beat(now.into_std(), self.lease_time);
        }
        let idle = crew.live.load().config.idle.0;
        let over = self.leases.extract_if(|_, lease| lease.over_after(idle));
        self.over.extend(over.map(|(token, _)| (token, now)));
        // The queue knows by now, or the conversation is over.
        self.over
            .retain(|_, since| since.elapsed() < 2 * self.lease_time);
        metrics::handles().leases.set(self.leases.len() as f64);
    }

    /// The conversation is over. What is in hand may go on until the leases end at the queue; then
    /// their slots are others', and connections must not be open any more.
    fn let_go(&self) {
        let leases: Vec<Arc<Lease>> = self.leases.values().cloned().collect();
        for lease in &leases {
            lease.change(Phase::Lost);
        }
        if let Some(end) = self.heartbeats.leases_end() {
            tokio::spawn(async move {
                tokio::time::sleep_until(end).await;
                for lease in leases {
                    lease.change(Phase::Revoked);
                }
            });
        }
    }

    /// The stop: nothing new is begun, attempts in hand end, connections close.
    fn leave(&mut self, deadline: Instant) {
        let crew = &self.worker.crew;
        self.worker.health.not_ready("stopping");
        crew.outbox.drain();
        for lease in self.leases.values() {
            lease.change(Phase::Leaving);
        }
        self.drain = Some(deadline);
    }

    /// The drain's time is over.
    fn give_up(&mut self) -> ControlFlow<End> {
        let crew = &self.worker.crew;
        if self.farewell {
            return ControlFlow::Break(End::Drained);
        }
        if crew.abort.is_cancelled() {
            tracing::warn!("stopped with completions that the queue has not confirmed");
            return ControlFlow::Break(End::Drained);
        }
        tracing::warn!(
            attempts = crew.tasks.len(),
            "the drain's time is over; attempts are broken off"
        );
        crew.abort.cancel();
        self.drain = Some(Instant::now() + FAREWELL);
        ControlFlow::Continue(())
    }
}

fn words(error: Status) -> String {
    format!("{:?}: {}", error.code(), error.message())
}
