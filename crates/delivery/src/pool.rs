//! The slots of destination leases, and what waits for them.
//!
//! A [`Lease`] allows so many connections to one destination. A delivery goes to a slot that
//! waits on an open connection, if there is one; a new slot is only opened while more
//! deliveries wait than such slots exist. A slot without work stays for the idle time, then
//! closes; with the last one the lease is given back. One that is left gives back at once what is not
//! begun, and with each slot that closes the right to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postrider_protocol::Destination;
use postrider_protocol::queue_v1::LeasedDelivery;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::outbox::Outbox;
use crate::transport::Slot;

/// A destination lease in this worker's hands.
pub(crate) struct Lease {
    pub(crate) token: u64,
    pub(crate) destination: Destination,
    /// Its slots are, or may be, another worker's: connections end where they are.
    pub(crate) ended: CancellationToken,
    slots: AtomicU32,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    wake: Notify,
}

struct State {
    waiting: VecDeque<LeasedDelivery>,
    /// Slots that exist; each makes an attempt, waits, or closes.
    open: u32,
    /// Slots among them that wait for work.
    idle: u32,
    /// Slots that are this worker's, as the queue knows.
    told: u32,
    phase: Phase,
    /// When it last had something to do.
    since: Instant,
}

/// How long a lease is to be held, from the longest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// While there is work, and for the idle time.
    Held,
    /// While there is work: others wait for the slots.
    WantedBack,
    /// Until the attempts in hand are over.
    Leaving,
    /// The same, and its conversation is over: it is given back to nobody, and lapses.
    Lost,
    /// It is the worker's no more; attempts in hand are broken off, nothing new begins.
    Revoked,
    /// It has ended.
    Over,
}

impl Lease {
    pub(crate) fn new(
        token: u64,
        destination: Destination,
        slots: u32,
        outbox: Arc<Outbox>,
    ) -> Arc<Self> {
        Arc::new(Self {
            token,
            destination,
            ended: CancellationToken::new(),
            slots: AtomicU32::new(slots.max(1)),
            outbox,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                open: 0,
                idle: 0,
                told: slots.max(1),
                phase: Phase::Held,
                since: Instant::now(),
            }),
            wake: Notify::new(),
        })
    }

    /// Takes a delivery. Returns the seat of a new slot, with what it begins with, if one is
    /// to be opened.
    pub(crate) fn push(
        self: &Arc<Self>,
        delivery: LeasedDelivery,
    ) -> Option<(Seat, LeasedDelivery)> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Held | Phase::WantedBack) {
            // The lease is, or will be, given back, and the delivery with it.
            return None;
        }
        state.since = Instant::now();
        if state.waiting.len() < state.idle as usize
            || state.open >= self.slots.load(Ordering::Relaxed)
        {
            state.waiting.push_back(delivery);
            drop(state);
            // The slot that worked last: its connection is the warmest, and the others may
            // reach the end of their idle time.
            self.wake.notify_last();
            return None;
        }
        state.open += 1;
        // First come, first served.
        let first = match state.waiting.pop_front() {
            None => delivery,
            Some(first) => {
                state.waiting.push_back(delivery);
                first
            }
        };
        Some((
            Seat {
                lease: self.clone(),
                left: false,
            },
            first,
        ))
    }

    /// The queue granted the lease again, with another number of slots. That is nothing to one that is
    /// over. One that is left gives them back. False if it has gone back as a whole.
    pub(crate) fn regrant(&self, slots: u32) -> bool {
        let mut state = self.lock();
        match state.phase {
            Phase::Held | Phase::WantedBack => {
                self.slots.store(slots.max(1), Ordering::Relaxed);
                state.told = slots.max(1);
                state.phase = Phase::Held;
                state.since = Instant::now();
            }
            Phase::Leaving => {
                state.told = slots.max(1);
                self.give_back_slots(&mut state);
            }
            Phase::Lost | Phase::Revoked | Phase::Over => {}
        }
        state.phase != Phase::Over
    }

    /// Shortens how long the lease is held. What waits under a lease that is left is given back.
    pub(crate) fn change(&self, phase: Phase) {
        let mut state = self.lock();
        if phase <= state.phase {
            return;
        }
        state.phase = phase;
        let not_begun = match phase {
            Phase::Leaving | Phase::Lost | Phase::Revoked => std::mem::take(&mut state.waiting),
            Phase::Held | Phase::WantedBack | Phase::Over => VecDeque::new(),
        };
        if phase == Phase::Revoked {
            self.ended.cancel();
        }
        if state.open == 0 && state.waiting.is_empty() {
            self.finish(&mut state);
        } else if phase == Phase::Leaving {
            for delivery in not_begun {
                self.outbox
                    .give_back_delivery(self.token, delivery.delivery_id);
            }
            self.give_back_slots(&mut state);
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// Of a lease that is left, gives back the slots without a connection. No other is opened, so this
    /// stays true, however long it is on its way.
    fn give_back_slots(&self, state: &mut State) {
        if state.phase == Phase::Leaving && state.open < state.told {
            state.told = state.open;
            self.outbox.give_back_slots(self.token, state.open);
        }
    }

    /// Ends a lease that has had no slot open for so long. True if it is over.
    pub(crate) fn over_after(&self, idle: Duration) -> bool {
        let mut state = self.lock();
        if state.open == 0 && state.phase != Phase::Over && state.since.elapsed() >= idle {
            self.finish(&mut state);
        }
        state.phase == Phase::Over
    }

    /// A slot is no more.
    fn close_one(&self, state: &mut State) {
        state.open -= 1;
        if state.open > 0 {
            self.give_back_slots(state);
        }
    }

    fn finish(&self, state: &mut State) {
        if !matches!(state.phase, Phase::Lost | Phase::Revoked) {
            self.outbox.give_back(self.token);
        }
        state.waiting.clear();
        state.phase = Phase::Over;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot's place in its lease. If it is dropped without [`Seat::leave`], e.g. because its
/// task was aborted, its place is free all the same.
pub(crate) struct Seat {
    lease: Arc<Lease>,
    left: bool,
}

impl Seat {
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The next delivery for the slot, or `None` if it should close: the idle time is over, the
    /// connection is lost, or the lease is to be left.
    ///
    /// `tell` reports what the slot did before. The slot counts as free when that happens, so
    /// that what follows from the report does not open another connection.
    pub(crate) async fn next(
        &self,
        slot: &mut dyn Slot,
        idle: Duration,
        tell: impl FnOnce(),
    ) -> Option<LeasedDelivery> {
        let lease = &*self.lease;
        let next = {
            let mut state = lease.lock();
            let next = state.waiting.pop_front();
            let stays = state.phase == Phase::Held && slot.is_warm() && !idle.is_zero();
            if next.is_none() && stays {
                state.idle += 1;
                None
            } else {
                Some(next)
            }
        };
        let waiting = next.is_none().then(|| Waiting(lease));
        tell();
        if let Some(next) = next {
            return next;
        }
        let wait = async {
            let mut wake = std::pin::pin!(lease.wake.notified());
            loop {
                wake.as_mut().enable();
                {
                    let mut state = lease.lock();
                    if let Some(delivery) = state.waiting.pop_front() {
                        return Some(delivery);
                    }
                    if state.phase != Phase::Held {
                        return None;
                    }
                }
                wake.as_mut().await;
                wake.set(lease.wake.notified());
            }
        };
        let next = tokio::select! {
            biased;
            next = wait => next,
            () = slot.lost() => None,
            () = tokio::time::sleep(idle) => None,
        };
        drop(waiting);
        next
    }

    /// Gives the place up after the connection was closed, unless work has come meanwhile that
    /// no other slot will take. With the last slot the lease ends, unless it had work within the
    /// idle time: what follows a failed connection may be on its way.
    pub(crate) fn leave(&mut self, idle: Duration) -> Option<LeasedDelivery> {
        let mut state = self.lease.lock();
        if let Some(delivery) = state.waiting.pop_front() {
            return Some(delivery);
        }
        self.left = true;
        self.lease.close_one(&mut state);
        let keep = state.phase == Phase::Held && state.since.elapsed() < idle;
        if state.open == 0 && !keep {
            self.lease.finish(&mut state);
        }
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.lease.lock();
        self.lease.close_one(&mut state);
        if state.open == 0 {
            // What still waits is due again as soon as the lease has ended.
            self.lease.finish(&mut state);
        }
    }
}

/// Counts a slot as idle.
struct Waiting<'a>(&'a Lease);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().idle -= 1;
    }
}

#[cfg(test)]
mod tests;
