//! Leases are kept alive, and called back where the store cannot keep them.
//!
//! The worker's clock runs for all of its leases at once: an answer to a heartbeat says that each of
//! them lasts for a lease time from when that heartbeat was sent. So a heartbeat is answered once every
//! lease that the worker still has was renewed after it. A lease that the store cannot reach (it lies
//! in a part of the store that is away) holds the answers up for a while, since it may be reached a
//! moment later; then it is called back, before the worker would have to let go of all of them.

use hashbrown::HashSet;
use postrider_protocol::queue_v1::queue_frame::Frame;
use postrider_protocol::queue_v1::{Heartbeat, LeaseList};
use tokio::time::Instant;

use super::super::grants::Sure;
use super::{AGAIN, Answer, Desk};
use crate::store::Renewed;

impl Desk {
    /// Renews all leases of a worker that was heard.
    pub(super) fn renew(&mut self) {
        // However often it beats, one renewal is under way.
        if self.renewing {
            self.renew_again = true;
            return;
        }
        self.renewed = Instant::now();
        let tokens = self.grants.tokens();
        if tokens.is_empty() {
            return self.say(Frame::Heartbeat(Heartbeat { number: self.beat }));
        }
        self.prolong(tokens);
    }

    /// Renews those that could not be reached, once more.
    pub(super) fn reach_again(&mut self) {
        // The answer that is under way says whether there are any.
        if self.renewing || self.quiet {
            return;
        }
        let tokens: Vec<u64> = self
            .unreached
            .drain(..)
            .filter(|token| self.grants.has(*token))
            .collect();
        if !tokens.is_empty() {
            self.prolong(tokens);
        }
    }

    fn prolong(&mut self, tokens: Vec<u64>) {
        self.renewing = true;
        let sure = Sure::after(self.beat);
        let store = self.with.store.clone();
        self.jobs.push(Box::pin(async move {
            let result = store.renew(tokens.clone()).await;
            Answer::Renewed {
                tokens,
                sure,
                result,
            }
        }));
    }

    /// Takes note of what was renewed, and answers the heartbeat that this is good for.
    pub(super) fn take_renewed(&mut self, tokens: Vec<u64>, sure: Sure, renewed: Renewed) {
        let Renewed { stale, unreached } = renewed;
        let not: HashSet<u64> = stale.iter().chain(&unreached).copied().collect();
        let good: HashSet<u64> = tokens
            .into_iter()
            .filter(|token| !not.contains(token))
            .collect();
        self.grants.renewed(&good, sure);
        self.revoke(stale);
        for token in self.grants.untold() {
            if good.contains(&token) {
                self.tell(token);
            }
        }
        self.call_back(unreached);
        let since = self.grants.sure_since().unwrap_or(sure.beat);
        let number = since.min(sure.beat);
        self.say(Frame::Heartbeat(Heartbeat { number }));
    }

    /// Calls back what was not reached for too long, and tries the rest again soon.
    fn call_back(&mut self, unreached: Vec<u64>) {
        let lease = self.with.settings.lease;
        // The worker lets go of everything at nine tenths of a lease, and one more try takes an
        // eighth at most.
        let (late, rest): (Vec<u64>, Vec<u64>) = unreached
            .into_iter()
            .filter(|token| self.grants.has(*token))
            .partition(|token| self.grants.is_unsure_for(*token, lease * 2 / 3));
        self.unreached = rest;
        if !self.unreached.is_empty() {
            let soon = Instant::now() + AGAIN.min(lease / 16);
            self.again = Some(self.again.map_or(soon, |again| again.min(soon)));
        }
        if late.is_empty() {
            return;
        }
        tracing::warn!(worker = self.worker, tokens = ?late, "leases could not be renewed; called back");
        for token in &late {
            self.let_go(*token);
        }
        // In the store they last until they end there: the worker may not have closed its connections.
        let now = Instant::now();
        self.called_back.retain(|_, at| now - *at < lease * 2);
        self.called_back
            .extend(late.iter().map(|token| (*token, now)));
        self.say(Frame::Revoked(LeaseList { tokens: late }));
        self.lease();
    }

    /// Whether a lease was called back from the worker. The store may still add slots to it.
    pub(super) fn is_called_back(&self, token: u64) -> bool {
        self.called_back.contains_key(&token)
    }
}
