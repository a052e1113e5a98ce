//! Accepting messages.

use std::sync::Arc;

use bytes::Bytes;
use postrider_protocol::QueueId;
use postrider_protocol::queue_v1::NewMessage;

use super::EmbeddedStore;
use super::core::{Awaited, Commit, Core, Shared};
use super::frame::{Draft, Kind, Location};
use super::record::Accepted;
use super::stored::{self, Stored};
use crate::store::clock::micros;
use crate::store::{Enqueued, StoreError};

/// A message that is ready to be staged: what takes time was done outside of the lock.
pub(super) struct Prepared {
    pub(super) id: QueueId,
    pub(super) stored: Arc<Stored>,
    draft: Draft,
}

impl Prepared {
    pub(super) fn new(
        mut message: NewMessage,
        accepted_us: u64,
        instance: &str,
    ) -> Result<Self, StoreError> {
        let id = stored::queue_id(&message)
            .ok_or_else(|| StoreError::Invalid("the queue id is not one".to_owned()))?;
        let envelope = message.envelope.as_ref();
        if envelope.is_none_or(|envelope| envelope.recipients.is_empty()) {
            return Err(StoreError::Invalid("there is no recipient".to_owned()));
        }
        let content = stored::take_content(&mut message);
        let accepted = Accepted {
            message,
            accepted_us,
            instance: instance.to_owned(),
        };
        let draft = Draft::new(Kind::Accepted, &accepted, content.clone());
        let stored = Arc::new(Stored {
            accepted,
            record: draft.record.clone(),
            content,
        });
        Ok(Self { id, stored, draft })
    }
}

impl EmbeddedStore {
    /// See [`crate::store::Store::enqueue`].
    pub(super) async fn enqueue_all(
        &self,
        messages: Vec<NewMessage>,
    ) -> Vec<Result<Enqueued, StoreError>> {
        let shared = &self.shared;
        let now_us = shared.now_us();
        let prepared = messages
            .into_iter()
            .map(|message| Prepared::new(message, now_us, &shared.settings.instance))
            .map(|prepared| match prepared {
                Ok(prepared) => self
                    .is_archived(prepared.id, now_us)
                    .map(|archived| (prepared, archived)),
                Err(error) => Err(error),
            })
            .collect();
        let (mut results, commit) = accept(shared, prepared, now_us);
        if let Some(commit) = commit
            && let Err(error) = commit.durable().await
        {
            for result in &mut results {
                if result.is_ok() {
                    *result = Err(error.clone());
                }
            }
        }
        results
    }

    /// Whether a message with this id has ended before. Most ids are new, and that shows without
    /// a look at the disk.
    fn is_archived(&self, id: QueueId, now_us: u64) -> Result<bool, StoreError> {
        self.shared
            .archive
            .find_id(id.as_u128(), now_us)
            .map(|entry| entry.is_some())
            .map_err(|error| super::core::unavailable(&error))
    }
}

type Accepts = Vec<Result<Enqueued, StoreError>>;

fn accept(
    shared: &Shared,
    prepared: Vec<Result<(Prepared, bool), StoreError>>,
    now_us: u64,
) -> (Accepts, Option<Commit>) {
    let bytes = prepared
        .iter()
        .flatten()
        .map(|(prepared, _)| prepared.draft.len())
        .sum();
    let mut core = shared.lock();
    let room = match core.log.is_low_on_space() {
        true => Err(StoreError::Unavailable(
            "the disk is nearly full".to_owned(),
        )),
        false => core.make_room(bytes, now_us),
    };
    let mut wait = false;
    let results = prepared
        .into_iter()
        .map(|prepared| {
            let (prepared, archived) = prepared?;
            let id = prepared.id.as_u128();
            if let Some(message) = core.state.messages.get(&id) {
                wait |= !message.durable;
                return Ok(Enqueued::AlreadyAccepted);
            }
            if archived || has_ended(shared, &core, id, now_us)? {
                return Ok(Enqueued::AlreadyAccepted);
            }
            room.clone()?;
            stage(&mut core, prepared);
            wait = true;
            Ok(Enqueued::Accepted)
        })
        .collect();
    if room.is_err() {
        // Let the disk be tried again.
        shared.wanted.notify_one();
    }
    let commit = wait.then(|| shared.commit(&mut core));
    (results, commit)
}

/// Whether a message has ended just now. It may have moved to the archive since that was asked.
pub(super) fn has_ended(
    shared: &Shared,
    core: &Core,
    id: u128,
    now_us: u64,
) -> Result<bool, StoreError> {
    let kept_us = micros(shared.settings.journey_retention);
    if let Some(ended) = core.state.ending.get(&id) {
        return Ok(ended.ended_us + kept_us >= now_us);
    }
    if !shared.archive.just_added(id) {
        return Ok(false);
    }
    shared
        .archive
        .find_id(id, now_us)
        .map(|entry| entry.is_some())
        .map_err(|error| super::core::unavailable(&error))
}

fn stage(core: &mut Core, prepared: Prepared) {
    let id = prepared.id;
    let len = prepared.draft.len();
    let at = core.stage_linked(prepared.draft, Location::NONE, vec![id.as_u128()]);
    let arrival = Awaited::Message(id.as_u128());
    admit(core, id, prepared.stored, at, len, arrival);
}

/// Takes a staged message into memory. It is scheduled when its record is durable.
pub(super) fn admit(
    core: &mut Core,
    id: QueueId,
    stored: Arc<Stored>,
    at: Location,
    len: usize,
    arrival: Awaited,
) {
    core.state.accept(id, &stored.accepted, at, len);
    core.state.cache.insert(id.as_u128(), stored);
    let number = core.log.last();
    core.arrivals.push_back((number, arrival));
}

/// The content of a prepared message.
pub(super) fn content(prepared: &Prepared) -> Bytes {
    prepared.stored.content.clone()
}
