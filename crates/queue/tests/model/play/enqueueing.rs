//! Messages come in.

use postrider_protocol::queue_v1::{ExportedMessage, NewMessage};
use postrider_queue::store::{Enqueued, StoreError};

use super::{Outcome, World, check};

type Each = [Result<Enqueued, StoreError>];

impl World {
    pub(super) fn enqueued(&mut self, messages: &[NewMessage], each: &Each) -> Outcome {
        let wanted = messages.iter();
        let wanted: Vec<bool> = wanted.map(|new| self.model.enqueue(new)).collect();
        let ids: Vec<&str> = messages.iter().map(|new| new.queue_id.as_str()).collect();
        self.accepted(&ids, &wanted, each)
    }

    pub(super) fn imported(&mut self, messages: &[ExportedMessage], each: &Each) -> Outcome {
        let wanted = messages.iter();
        let wanted: Vec<bool> = wanted.map(|moved| self.model.import(moved)).collect();
        let new = messages.iter().filter_map(|moved| moved.message.as_ref());
        let ids: Vec<&str> = new.map(|new| new.queue_id.as_str()).collect();
        self.accepted(&ids, &wanted, each)
    }

    fn accepted(&self, ids: &[&str], are_new: &[bool], each: &Each) -> Outcome {
        check!(each.len() == are_new.len(), "{} results", each.len());
        for (at, (result, is_new)) in each.iter().zip(are_new).enumerate() {
            let fits = match result {
                Ok(Enqueued::Accepted) => *is_new || self.came_first(at, ids, are_new, each),
                Ok(Enqueued::AlreadyAccepted) => !is_new || self.kind.asks_twice,
                Err(_) => false,
            };
            check!(fits, "message {at}, new: {is_new}: {result:?}");
        }
        Ok(())
    }

    /// In partitions the messages of a batch go their own ways: of those that are the same and new,
    /// any one comes first.
    fn came_first(&self, at: usize, ids: &[&str], are_new: &[bool], each: &Each) -> bool {
        let same = |other: &usize| ids[*other] == ids[at];
        let accepted = |other: &usize| matches!(each[*other], Ok(Enqueued::Accepted));
        let mut all = (0..ids.len()).filter(same);
        !self.kind.whole
            && all.clone().any(|other| are_new[other])
            && all.all(|other| other == at || !accepted(&other))
    }
}
