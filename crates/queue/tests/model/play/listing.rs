//! Lists, searches, bodies.

use std::collections::BTreeSet;

use postrider_model::view;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::{DeliveryStatus, Filter};
use postrider_queue::store::{Find, StoreError};

use super::{Outcome, Play, World, check};
use crate::call::{Answer, Call, ask};

impl World {
    pub(super) fn listed(
        &self,
        filter: &Filter,
        listed: Result<&Vec<DeliveryStatus>, &StoreError>,
    ) -> Outcome {
        let ids = |all: &[DeliveryStatus]| -> Vec<String> {
            all.iter()
                .map(|status| status.delivery_id.clone())
                .collect()
        };
        let found = ids(listed.map_err(ToString::to_string)?);
        let wanted = ids(&self.matching(filter));
        check!(
            found == wanted,
            "list of {filter:?}: {found:?}, not {wanted:?}"
        );
        Ok(())
    }

    pub(super) fn found(&self, what: &Find, limit: usize, found: &[QueueId]) -> Outcome {
        check!(found.len() <= limit, "{} found of {limit}", found.len());
        let all = view::found(&self.model, what);
        let forgotten = |id: &QueueId| self.model.may_be_forgotten(*id);
        // Newest first is by time of acceptance or by id, which agree but for the ids of this test.
        let told: BTreeSet<QueueId> = found.iter().copied().collect();
        let known: BTreeSet<QueueId> = all.iter().copied().collect();
        let needed: BTreeSet<QueueId> = all.iter().filter(|id| !forgotten(id)).copied().collect();
        check!(
            told.len() == found.len()
                && told.is_subset(&known)
                && (needed.is_subset(&told) || found.len() == limit),
            "find {what:?}: {found:?}, not {needed:?}"
        );
        Ok(())
    }

    pub(super) fn bodies_used(&self, used: &[String]) -> Outcome {
        let mut used = used.to_vec();
        used.sort();
        let wanted = self.model.bodies_in_use();
        check!(used == wanted, "bodies in use: {used:?}, not {wanted:?}");
        Ok(())
    }

    pub(super) fn bodies_ended(&mut self, ended: &[String]) -> Outcome {
        let mut ended = ended.to_vec();
        ended.sort();
        self.model.ended_bodies.sort();
        check!(
            ended == self.model.ended_bodies,
            "ended bodies: {ended:?}, not {:?}",
            self.model.ended_bodies
        );
        Ok(())
    }
}

impl Play<'_> {
    /// What the service does with bodies: it deletes those that ended, and says so.
    pub(super) async fn bodies(&mut self, forget: usize) -> Outcome {
        let all: Vec<String> = (0..4).map(|name| format!("body-{name}")).collect();
        self.call(Call::BodiesInUse(all)).await?;
        let answer = ask(&*self.store(), Call::EndedBodies).await;
        self.world.judge(&Call::EndedBodies, &answer)?;
        if let Answer::Bodies(Ok(mut ended)) = answer {
            ended.sort();
            ended.truncate(forget);
            self.call(Call::ForgetBodies(ended)).await?;
        }
        Ok(())
    }
}
