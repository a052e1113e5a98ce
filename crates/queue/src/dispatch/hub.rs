//! Which conversation a wake is for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use postrider_protocol::Destination;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::timer::Timer;
use crate::store::Wake;

/// What a conversation is asked to do.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// Destinations that it holds, with something due.
    pub(super) pull: HashSet<Destination>,
    /// Ask for leases.
    pub(super) lease: bool,
    /// Somewhere mail waits and every worker is full: idle leases are wanted back.
    pub(super) make_way: bool,
    /// Another conversation took this worker's name.
    pub(super) replaced: bool,
}

/// A conversation's letter box.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    errands: Mutex<Errands>,
    pub(super) notify: Notify,
}

impl Inbox {
    /// Takes what is there.
    pub(super) fn take(&self) -> Errands {
        std::mem::take(&mut *self.errands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, ask: impl FnOnce(&mut Errands)) {
        ask(&mut self.errands.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }
}

/// What the router knows of a conversation.
#[derive(Debug)]
struct Member {
    inbox: Arc<Inbox>,
    worker: String,
    transports: Vec<String>,
    free: u32,
}

/// All conversations, and who holds what.
#[derive(Debug, Default)]
pub(super) struct Hub {
    state: Mutex<State>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    members: HashMap<u64, Member>,
    /// Conversations with a lease of a destination that have room for more of its deliveries.
    holders: HashMap<Destination, Vec<u64>>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker is here. An earlier conversation under its name ends.
    pub(super) fn join(&self, worker: &str, transports: &[String], free: u32) -> (u64, Arc<Inbox>) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::new(Inbox::default());
        inbox.ask(|errands| errands.lease = true);
        let mut state = self.state();
        for member in state
            .members
            .values()
            .filter(|member| member.worker == worker)
        {
            member.inbox.ask(|errands| errands.replaced = true);
        }
        state.members.insert(
            id,
            Member {
                inbox: inbox.clone(),
                worker: worker.to_owned(),
                transports: transports.to_vec(),
                free,
            },
        );
        (id, inbox)
    }

    /// A worker is gone. What it was asked to lease, another one is.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state();
        state.members.remove(&id);
        state.holders.retain(|_, holders| {
            holders.retain(|holder| *holder != id);
            !holders.is_empty()
        });
        state.ask_for_lease(None);
    }

    /// So many slots of a worker are free now.
    pub(super) fn set_free(&self, id: u64, free: u32) {
        if let Some(member) = self.state().members.get_mut(&id) {
            member.free = free;
        }
    }

    /// Whether a worker takes deliveries of a destination under a lease that it has.
    pub(super) fn set_holder(&self, id: u64, destination: &Destination, takes: bool) {
        let mut state = self.state();
        if takes {
            let holders = state.holders.entry(destination.clone()).or_default();
            if !holders.contains(&id) {
                holders.push(id);
            }
        } else if let Some(holders) = state.holders.get_mut(destination) {
            holders.retain(|holder| *holder != id);
            if holders.is_empty() {
                state.holders.remove(destination);
            }
        }
    }

    /// A worker that was asked to lease has no slot free any more: somebody else may.
    pub(super) fn pass_on(&self) {
        self.state().ask_for_lease(None);
    }

    fn wake(&self, destination: &Destination) {
        let state = self.state();
        let holder = state
            .holders
            .get(destination)
            .and_then(|holders| holders.first())
            .and_then(|id| state.members.get(id));
        match holder {
            Some(holder) => holder.inbox.ask(|errands| {
                errands.pull.insert(destination.clone());
            }),
            None => state.ask_for_lease(Some(destination.transport())),
        }
    }

    fn wake_all(&self) {
        let state = self.state();
        for (destination, holders) in &state.holders {
            for holder in holders.iter().filter_map(|id| state.members.get(id)) {
                holder.inbox.ask(|errands| {
                    errands.pull.insert(destination.clone());
                });
            }
        }
        for member in state.members.values() {
            member.inbox.ask(|errands| errands.lease = true);
        }
    }
}

impl State {
    /// Asks the worker with the most free slots to lease. If all are full, they are asked to make
    /// way; who then gets a slot back asks by itself.
    fn ask_for_lease(&self, transport: Option<&str>) {
        let able = self.members.values().filter(|member| {
            transport.is_none_or(|transport| member.transports.iter().any(|own| own == transport))
        });
        match able
            .clone()
            .filter(|member| member.free > 0)
            .max_by_key(|member| member.free)
        {
            Some(member) => member.inbox.ask(|errands| errands.lease = true),
            None => able.for_each(|member| member.inbox.ask(|errands| errands.make_way = true)),
        }
    }
}

/// Passes the store's wakes on until told to stop.
pub(super) async fn route(
    mut wakes: Receiver<Wake>,
    hub: Arc<Hub>,
    timer: Arc<Timer>,
    stop: CancellationToken,
) {
    loop {
        let wake = tokio::select! {
            wake = wakes.recv() => wake,
            () = stop.cancelled() => return,
        };
        match wake {
            Ok(Wake::Destination(destination)) => hub.wake(&destination),
            Ok(Wake::Timer) => timer.at_most(std::time::Duration::ZERO),
            Ok(Wake::Journey(_)) => {}
            Ok(Wake::Everything) | Err(RecvError::Lagged(_)) => {
                timer.at_most(std::time::Duration::ZERO);
                hub.wake_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}
