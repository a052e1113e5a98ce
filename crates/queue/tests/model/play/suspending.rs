//! Suspensions and records.

use postrider_protocol::queue_v1::Suspension;
use postrider_queue::store::Record;

use super::{Outcome, World, check};

impl World {
    pub(super) fn resumed(&mut self, id: &str, was: bool) -> Outcome {
        let wanted = self.model.resume(id);
        check!(was == wanted, "resume of {id}: {was}");
        Ok(())
    }

    pub(super) fn suspensions_are(&self, told: &[Suspension]) -> Outcome {
        let oldest_first = told.is_sorted_by_key(|suspension| suspension.created_us);
        let mut told = told.to_vec();
        told.sort_by(|one, other| one.id.cmp(&other.id));
        let wanted: Vec<Suspension> = self.model.suspensions.values().cloned().collect();
        check!(
            oldest_first && told == wanted,
            "suspensions: {told:#?}, not {wanted:#?}"
        );
        Ok(())
    }

    pub(super) fn put(&mut self, record: &Record, put: bool) -> Outcome {
        let place = (record.kind.clone(), record.key.clone());
        let is_there = self.model.records.get(&place) == Some(record);
        let wanted = self.model.put_record(record.clone());
        // To a store that asks twice it may be what it put itself, and was not told of.
        let repeated = self.kind.asks_twice && is_there;
        check!(put == wanted || repeated, "put of {record:?}: {put}");
        Ok(())
    }

    pub(super) fn records_are(&self, kind: &str, told: &[Record]) -> Outcome {
        let all = self.model.records.values();
        let wanted: Vec<&Record> = all.filter(|record| record.kind == kind).collect();
        check!(
            told.iter().eq(wanted.iter().copied()),
            "records: {told:?}, not {wanted:?}"
        );
        Ok(())
    }
}
