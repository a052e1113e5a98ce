//! Operators' acts over all partitions.
//!
//! An act goes to all of them; one of them has each delivery. One that moves between two while they are
//! asked is followed to where it goes.

use futures_util::future::try_join_all;
use postrider_protocol::DeliveryId;

use super::admin::{self, Acted};
use super::moves;
use super::part::Part;
use super::partition::Partitions;
use crate::store::{Act, By, StoreError};

/// How often a delivery is followed.
const ROUNDS: usize = 16;

/// A delivery, its place among those that are acted on, and what was said of it last.
struct Asked {
    place: usize,
    id: DeliveryId,
    told: Vec<Acted>,
}

/// Deliveries that leave, by the partition that they leave.
struct OnTheWay {
    /// Those that left before the act.
    before: Vec<Vec<DeliveryId>>,
    /// Those that the act itself has re-routed.
    now: Vec<Vec<DeliveryId>>,
}

impl OnTheWay {
    fn new(partitions: usize) -> Self {
        let none = vec![Vec::new(); partitions];
        Self {
            before: none.clone(),
            now: none,
        }
    }

    /// The older move of a delivery ends before the newer one begins.
    fn in_order(&self) -> impl Iterator<Item = (usize, &Vec<DeliveryId>)> {
        let before = self.before.iter().enumerate();
        before.chain(self.now.iter().enumerate())
    }
}

pub(super) async fn act(
    partitions: Partitions,
    parts: &[Part],
    act: &Act,
    on: &[DeliveryId],
    by: &By,
) -> Result<Vec<bool>, StoreError> {
    let to = match act {
        Act::Reroute { to } => Some(partitions.of(to.as_str())),
        _ => None,
    };
    if let Some(to) = to
        && !parts[to].core.safe.is_up()
    {
        return Err(StoreError::Unavailable(
            "the partition of that destination is away".to_owned(),
        ));
    }
    let mut changed = vec![false; on.len()];
    let asked = on.iter().enumerate().map(|(place, id)| Asked {
        place,
        id: *id,
        told: Vec::new(),
    });
    let mut asked: Vec<Asked> = asked.collect();
    for _ in 0..ROUNDS {
        let ids: Vec<DeliveryId> = asked.iter().map(|one| one.id).collect();
        let acted = parts.iter().enumerate().map(|(partition, part)| {
            part.hint.something_came();
            let foreign = to.filter(|to| *to != partition);
            let ids = &ids;
            async move { admin::act(&part.core, act, foreign, ids, by).await }
        });
        let told = try_join_all(acted).await?;
        let mut again = Vec::new();
        let mut on_the_way = OnTheWay::new(parts.len());
        for (at, one) in asked.into_iter().enumerate() {
            let told: Vec<Acted> = told.iter().map(|each| each[at]).collect();
            for (partition, told) in told.iter().enumerate() {
                match told {
                    Acted::Leaves => on_the_way.before[partition].push(one.id),
                    // It may have been re-routed by this very act.
                    Acted::Changed if to.is_some_and(|to| to != partition) => {
                        on_the_way.now[partition].push(one.id);
                    }
                    Acted::Changed | Acted::Not | Acted::Gone(_) => {}
                }
            }
            let is_new = told != one.told;
            if told.contains(&Acted::Changed) {
                changed[one.place] = true;
            } else if told.contains(&Acted::Leaves)
                // Where it went may have been asked before it came. Told the same twice, it has ended there,
                // or there is nothing to change.
                || (is_new && told.iter().any(|it| matches!(it, Acted::Gone(_))))
            {
                again.push(Asked { told, ..one });
            }
        }
        for (partition, ids) in on_the_way.in_order() {
            if let Err(error) = moves::carry(parts, partition, ids).await {
                // What this act re-routed goes on by itself; what it was to act on does not.
                if !again.is_empty() {
                    return Err(error);
                }
                tracing::debug!(%error, "deliveries wait on their way to another partition");
            }
        }
        if again.is_empty() {
            return Ok(changed);
        }
        asked = again;
    }
    Err(StoreError::Unavailable(
        "a delivery does not stay in one partition; ask again".to_owned(),
    ))
}
