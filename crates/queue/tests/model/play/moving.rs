//! Messages move from store to store.

use postrider_model::{Model, State, view};
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::ExportedMessage;

use super::comparing::same_journey;
use super::{Outcome, Play, World, check};
use crate::call::{Call, ask, export};

impl World {
    pub(super) fn exported(&self, all: &[ExportedMessage]) -> Outcome {
        let queued = self.model.messages.iter();
        let queued = queued.filter(|(_, message)| message.ended_us.is_none());
        let wanted: Vec<QueueId> = queued.map(|(id, _)| *id).collect();
        check!(
            all.len() == wanted.len(),
            "{} messages exported, not {}",
            all.len(),
            wanted.len()
        );
        for (exported, id) in all.iter().zip(wanted) {
            self.exported_right(exported, id)?;
        }
        Ok(())
    }

    fn exported_right(&self, exported: &ExportedMessage, id: QueueId) -> Outcome {
        let message = &self.model.messages[&id];
        same_journey(id, &exported.journey, &message.events, self)?;
        let without_journey = |exported: &ExportedMessage| {
            let mut exported = exported.clone();
            exported.journey = Vec::new();
            for delivery in &mut exported.deliveries {
                // What was asked for while it is leased may come along, or not.
                let known = &message.deliveries[delivery.number as usize];
                if known.pending.is_some() {
                    delivery.held = false;
                    delivery.held_until_us = 0;
                    delivery.bounce = false;
                    delivery.destination.clear();
                }
            }
            exported
        };
        let got = without_journey(exported);
        let wanted = without_journey(&view::exported(&self.model, id));
        check!(got == wanted, "exported {got:#?}\nnot {wanted:#?}");
        Ok(())
    }
}

impl Play<'_> {
    /// Everything goes to a new store, which goes on from there.
    pub(super) async fn change_stores(&mut self, page: usize) -> Outcome {
        self.look_at_the_clock().await?;
        let exported = export(&*self.store(), page).await;
        let exported = exported.map_err(|error| error.to_string())?;
        self.world.exported(&exported)?;
        self.subject.replace().await;
        let mut model = Model::new(self.subject.settings(), self.world.model.now_us);
        // Suspensions, records and counts of attempts do not move.
        std::mem::swap(&mut model, &mut self.world.model);
        self.world.tokens.clear();
        self.world.completions.clear();
        let some = exported.chunks(page.max(1));
        for messages in some {
            let call = Call::Import(messages.to_vec());
            let answer = ask(&*self.store(), call.clone()).await;
            self.world.judge(&call, &answer)?;
        }
        // The model took over what the store said; that must be what it knew itself.
        for (id, delivery) in self.world.model.open() {
            let before = model.delivery(id).unwrap();
            let leased = matches!(before.state, State::Leased(_));
            check!(
                leased || before.state == delivery.state,
                "{id} was {:?}, and moved as {:?}",
                before.state,
                delivery.state
            );
        }
        Ok(())
    }
}
