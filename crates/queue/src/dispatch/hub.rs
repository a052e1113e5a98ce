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
    /// It has not been heard for a while: it may be dead, so others come first.
    quiet: bool,
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
    /// Conversations with a lease of a destination.
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
                quiet: false,
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

    /// Whether a worker has been silent for so long that it may be dead.
    pub(super) fn set_quiet(&self, id: u64, quiet: bool) {
        if let Some(member) = self.state().members.get_mut(&id) {
            member.quiet = quiet;
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

    /// A worker that was asked to lease has no slot free any more: for each transport that it
    /// carries, somebody else may.
    pub(super) fn pass_on(&self, transports: &[String]) {
        let state = self.state();
        for transport in transports {
            state.ask_for_lease(Some(transport));
        }
    }

    /// More is due at a destination than the slots take that this worker holds of it. If another
    /// worker has free slots and none of these, it is asked to share; false if there is none.
    pub(super) fn share(&self, id: u64, destination: &Destination) -> bool {
        let state = self.state();
        let holders = state.holders.get(destination);
        let other = state
            .able(Some(destination.transport()))
            .filter(|(other, member)| {
                **other != id
                    && member.free > 0
                    && !holders.is_some_and(|holders| holders.contains(other))
            })
            .max_by_key(|(_, member)| member.free);
        if let Some((_, member)) = other {
            member.inbox.ask(|errands| errands.lease = true);
        }
        other.is_some()
    }

    /// How many live workers carry a transport.
    pub(super) fn workers(&self, transport: &str) -> u32 {
        u32::try_from(self.state().able(Some(transport)).count()).unwrap_or(u32::MAX)
    }

    fn wake(&self, destination: &Destination) {
        let state = self.state();
        let holder = state
            .holders
            .get(destination)
            .into_iter()
            .flatten()
            .filter_map(|id| state.members.get(id))
            .find(|member| !member.quiet);
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
    /// Workers that carry a transport and can be expected to act.
    fn able<'a>(
        &'a self,
        transport: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a u64, &'a Member)> + Clone {
        self.members.iter().filter(move |(_, member)| {
            let carries = |transport: &str| {
                member
                    .transports
                    .iter()
                    .any(|own| own.as_str() == transport)
            };
            !member.quiet && transport.is_none_or(carries)
        })
    }

    /// Asks the worker with the most free slots to lease. If all are full, they are asked to make
    /// way; who then gets a slot back asks by itself.
    fn ask_for_lease(&self, transport: Option<&str>) {
        let able = self.able(transport).map(|(_, member)| member);
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
    records: Arc<Notify>,
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
            Ok(Wake::Records) => records.notify_one(),
            Ok(Wake::Journey(_)) => {}
            Ok(Wake::Everything) | Err(RecvError::Lagged(_)) => {
                timer.at_most(std::time::Duration::ZERO);
                records.notify_one();
                hub.wake_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Worker {
        id: u64,
        inbox: Arc<Inbox>,
    }

    impl Worker {
        fn join(hub: &Hub, name: &str, transport: &str, free: u32) -> Self {
            let (id, inbox) = hub.join(name, &[transport.to_owned()], free);
            inbox.take();
            Self { id, inbox }
        }
    }

    fn destination() -> Destination {
        "smtp:a.test".parse().unwrap()
    }

    #[test]
    fn the_holder_is_woken_and_without_one_the_freest() {
        let hub = Hub::default();
        let small = Worker::join(&hub, "small", "smtp", 1);
        let large = Worker::join(&hub, "large", "smtp", 9);
        let local = Worker::join(&hub, "local", "mailbox", 99);
        hub.wake(&destination());
        assert!(large.inbox.take().lease);
        assert!(!small.inbox.take().lease && !local.inbox.take().lease);
        hub.set_holder(small.id, &destination(), true);
        hub.wake(&destination());
        assert!(small.inbox.take().pull.contains(&destination()));
        assert!(!large.inbox.take().lease);
    }

    #[test]
    fn a_quiet_holder_is_passed_over() {
        let hub = Hub::default();
        let quiet = Worker::join(&hub, "quiet", "smtp", 9);
        let other = Worker::join(&hub, "other", "smtp", 1);
        hub.set_holder(quiet.id, &destination(), true);
        hub.set_quiet(quiet.id, true);
        hub.wake(&destination());
        let errands = quiet.inbox.take();
        assert!(errands.pull.is_empty() && !errands.lease);
        assert!(other.inbox.take().lease);
        hub.set_quiet(quiet.id, false);
        hub.wake(&destination());
        assert!(!quiet.inbox.take().pull.is_empty());
    }

    #[test]
    fn full_workers_are_asked_to_make_way() {
        let hub = Hub::default();
        let one = Worker::join(&hub, "one", "smtp", 0);
        let two = Worker::join(&hub, "two", "smtp", 0);
        hub.wake(&destination());
        assert!(one.inbox.take().make_way && two.inbox.take().make_way);
        hub.set_free(two.id, 1);
        hub.pass_on(&["smtp".to_owned()]);
        assert!(two.inbox.take().lease && !one.inbox.take().make_way);
    }

    #[test]
    fn only_those_share_that_hold_nothing_of_it() {
        let hub = Hub::default();
        let one = Worker::join(&hub, "one", "smtp", 5);
        let two = Worker::join(&hub, "two", "smtp", 5);
        assert_eq!(hub.workers("smtp"), 2);
        hub.set_holder(one.id, &destination(), true);
        assert!(hub.share(one.id, &destination()));
        assert!(two.inbox.take().lease);
        hub.set_holder(two.id, &destination(), true);
        assert!(!hub.share(one.id, &destination()));
        hub.leave(two.id);
        assert!(!hub.share(one.id, &destination()));
        assert!(one.inbox.take().lease, "what the other was asked for");
    }

    #[test]
    fn a_second_of_a_name_replaces_the_first() {
        let hub = Hub::default();
        let first = Worker::join(&hub, "w", "smtp", 1);
        let second = Worker::join(&hub, "w", "smtp", 1);
        assert!(first.inbox.take().replaced);
        assert!(!second.inbox.take().replaced);
    }
}
