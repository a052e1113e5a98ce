//! Messages that were just accepted, so that they need not be read back from disk when they are
//! delivered at once.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::stored::Stored;

/// Keeps the newest messages up to a number of bytes.
#[derive(Debug)]
pub(super) struct Cache {
    most: usize,
    bytes: usize,
    by_id: HashMap<u128, Arc<Stored>>,
    /// In order of arrival; may hold ids that are gone already.
    order: VecDeque<u128>,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            bytes: 0,
            by_id: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn insert(&mut self, id: u128, stored: Arc<Stored>) {
        if stored.size() > self.most / 4 {
            return;
        }
        self.bytes += stored.size();
        self.order.push_back(id);
        if let Some(old) = self.by_id.insert(id, stored) {
            self.bytes -= old.size();
        }
        while self.bytes > self.most || self.order.len() > 2 * self.by_id.len() + 64 {
            match self.order.pop_front() {
                Some(oldest) => self.remove(oldest),
                None => break,
            }
        }
    }

    pub(super) fn get(&self, id: u128) -> Option<Arc<Stored>> {
        self.by_id.get(&id).cloned()
    }

    pub(super) fn remove(&mut self, id: u128) {
        if let Some(stored) = self.by_id.remove(&id) {
            self.bytes -= stored.size();
        }
    }
}
