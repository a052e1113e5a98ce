//! Who holds which destination, with how many slots, until when.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::DeliveryId;
use postrider_protocol::queue_v1::RecipientOutcome;

use super::stored::Stored;

/// A live lease of a destination.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) token: u64,
    pub(super) worker: String,
    pub(super) destination: u32,
    pub(super) slots: u32,
    pub(super) expires_us: u64,
    /// What was handed out under it; `None` while it is still being read from disk.
    pub(super) leased: HashMap<DeliveryId, Option<Arc<HandedOut>>>,
}

/// What is kept of a delivery while a worker has it.
#[derive(Debug)]
pub(super) struct HandedOut {
    pub(super) stored: Arc<Stored>,
    /// Open recipients, by their place in the envelope.
    pub(super) open: Vec<u32>,
    /// The latest outcome of each open recipient that has had one.
    pub(super) outcomes: Vec<RecipientOutcome>,
}

/// All live leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_token: HashMap<u64, Lease>,
    by_expiry: BTreeSet<(u64, u64)>,
    /// The epoch in the upper half; it grows with each opening of the store.
    last_token: u64,
}

impl Leases {
    /// Tokens of this epoch follow.
    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        self.last_token = epoch << 32;
    }

    /// A new, greater token.
    pub(super) fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    pub(super) fn insert(&mut self, lease: Lease) {
        self.by_expiry.insert((lease.expires_us, lease.token));
        self.by_token.insert(lease.token, lease);
    }

    /// The lease, if it is live now.
    pub(super) fn live(&mut self, token: u64, now_us: u64) -> Option<&mut Lease> {
        self.by_token
            .get_mut(&token)
            .filter(|lease| lease.expires_us > now_us)
    }

    pub(super) fn get(&self, token: u64) -> Option<&Lease> {
        self.by_token.get(&token)
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Lease> {
        self.by_token.get_mut(&token)
    }

    /// Prolongs a live lease; `false` if it is stale.
    pub(super) fn renew(&mut self, token: u64, now_us: u64, expires_us: u64) -> bool {
        let Some(lease) = self
            .by_token
            .get_mut(&token)
            .filter(|lease| lease.expires_us > now_us)
        else {
            return false;
        };
        self.by_expiry.remove(&(lease.expires_us, token));
        lease.expires_us = expires_us;
        self.by_expiry.insert((expires_us, token));
        true
    }

    /// Ends a lease.
    pub(super) fn remove(&mut self, token: u64) -> Option<Lease> {
        let lease = self.by_token.remove(&token)?;
        self.by_expiry.remove(&(lease.expires_us, token));
        Some(lease)
    }

    /// Leases whose time is over.
    pub(super) fn expired(&self, now_us: u64) -> Vec<u64> {
        self.by_expiry
            .range(..=(now_us, u64::MAX))
            .map(|(_, token)| *token)
            .collect()
    }

    /// When the next lease expires if nobody renews it.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.by_expiry.first().map(|(at_us, _)| *at_us)
    }
}
