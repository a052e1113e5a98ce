//! Operators act on deliveries.

use postrider_model::Ruling;
use postrider_protocol::DeliveryId;
use postrider_queue::store::{Act, By};

use super::{Outcome, World, check};

impl World {
    pub(super) fn acted(
        &mut self,
        act: &Act,
        on: &[DeliveryId],
        by: &By,
        changed: &[bool],
    ) -> Outcome {
        check!(changed.len() == on.len(), "{} results", changed.len());
        for (id, changed) in on.iter().zip(changed) {
            let ruling = self.model.rule(*id, act);
            let right = match ruling {
                Ruling::Changes => *changed,
                Ruling::Leaves => !*changed,
                Ruling::Either => true,
            };
            check!(
                right,
                "{act:?} of {id}: {changed}, but it {ruling:?}: {:?}",
                self.model.delivery(*id)
            );
            if *changed {
                self.model.act(*id, act, by);
            }
        }
        Ok(())
    }
}
