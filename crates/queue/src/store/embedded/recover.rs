//! From the log back to the queue in memory.
//!
//! Every segment is read from its start, and every record applied by the same functions as when
//! it was written. A torn end is normal after a crash. Damage before a whole record is not: it is
//! a finding with its place, and what is whole behind it is kept. Nothing is changed here: what
//! to do about findings is decided by who opens the store (`opening`) or checks it (`check`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;

use super::continuity::Continuity;
use super::faults::Faults;
use super::finding::{Finding, FindingKind};
use super::frame::{Header, Kind, Location};
use super::inventory::{self, Inventory};
use super::record::{
    Accepted, AcceptedBrief, Change, Changed, Completed, Head, Keep, LeaseEnded, Leased, Moved,
    Withdrawn,
};
use super::scan::{Found, Scanner};
use super::segment::{Access, Segment};
use super::state::State;
use super::stored;
use super::strays::Strays;
use crate::store::StoreError;

/// What the log told.
pub(super) struct Recovered {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    pub(super) key: Option<u64>,
    /// The number of the next record.
    pub(super) next: u64,
    /// The epoch that begins now.
    pub(super) epoch: u64,
    pub(super) state: State,
    /// Deliveries that a worker had when the process died.
    pub(super) lapsed: Vec<(DeliveryId, String)>,
    /// Messages whose content is damaged, with what is wrong.
    pub(super) damaged: Vec<QueueId>,
    /// Where the records end in each segment, and what comes then.
    pub(super) ends: Vec<SegmentEnd>,
    pub(super) findings: Vec<Finding>,
}

/// Epochs that are passed over where records may be missing: a lease's token is never used twice.
const LOST_EPOCHS: u64 = 10_000;

/// The end of a segment's records.
pub(super) struct SegmentEnd {
    pub(super) segment: Arc<Segment>,
    pub(super) records: u64,
    /// Behind this there is no record.
    pub(super) at: u64,
    /// Behind this nothing was ever written.
    pub(super) data_end: u64,
    /// What is between is zeros.
    pub(super) clean: bool,
}

/// How the log is read.
pub(super) struct Reading<'a> {
    pub(super) dir: &'a Path,
    pub(super) access: Access,
    /// Check all content. Otherwise only that of the newest segments is: the rest is checked when
    /// it is read.
    pub(super) all_content: bool,
    /// The newest record that the journeys know of.
    pub(super) archived: u64,
    pub(super) faults: &'a Arc<dyn Faults>,
}

/// Reads the log in a folder. Changes nothing in it.
pub(super) fn recover(reading: &Reading<'_>, state: State) -> Result<Recovered, StoreError> {
    let archived = reading.archived;
    let mut findings = Vec::new();
    let Inventory { segments, key } =
        inventory::take(reading.dir, reading.access, reading.faults, &mut findings)?;
    let heads: Vec<(u32, Head)> = segments
        .values()
        .filter_map(|segment| Some((segment.number, first_head(segment)?)))
        .collect();
    let mut replay = Replay {
        state,
        voids: heads
            .iter()
            .filter(|(_, head)| head.voids_from > 0)
            .map(|(number, head)| (*number, head.voids_from))
            .collect(),
        newest: 0,
        trust_totals: true,
        holders: HashMap::new(),
        epoch: 0,
        suspects: Vec::new(),
        damaged: Vec::new(),
        ends: Vec::new(),
        continuity: Continuity::default(),
        strays: Strays::default(),
        findings,
        segments: &segments,
    };
    let last_two: Vec<u32> = segments.keys().rev().take(2).copied().collect();
    for segment in segments.values() {
        let check = reading.all_content || last_two.contains(&segment.number);
        replay.segment(segment, check)?;
    }
    replay.drop_suspects();
    replay.continuity.finish(reading.dir, archived);
    replay.name_lost();
    let mut findings = replay.findings;
    findings.append(&mut replay.continuity.findings);
    let (ends, damaged, newest) = (replay.ends, replay.damaged, replay.newest);
    let is_hurt = findings.iter().any(|finding| !finding.kind.is_harmless());
    let epoch = replay.epoch + if is_hurt { LOST_EPOCHS } else { 1 };
    let mut state = replay.state;
    state.arrived.clear();
    state.balance();
    state.begin_suspensions();
    for (_, ended) in state.to_archive.clone() {
        state.end_body(&ended);
    }
    state
        .to_archive
        .retain(|(_, ended)| ended.number > archived);
    state.ending.retain(|_, ended| ended.number > archived);
    let mut lapsed: Vec<_> = replay
        .holders
        .into_iter()
        .flat_map(|(_, (worker, held))| held.into_iter().map(move |id| (id, worker.clone())))
        .filter(|(id, _)| {
            state
                .delivery(*id)
                .is_some_and(|delivery| delivery.state == super::message::DeliveryState::Leased)
        })
        .collect();
    lapsed.sort_unstable();
    lapsed.dedup_by_key(|(id, _)| *id);
    Ok(Recovered {
        key,
        next: newest.max(archived) + 1,
        epoch,
        state,
        lapsed,
        damaged,
        ends,
        findings,
        segments,
    })
}

fn first_head(segment: &Arc<Segment>) -> Option<Head> {
    match Scanner::new(segment.clone(), false).next() {
        Found::Record { header, record, .. } if header.kind == Kind::Head => {
            Head::decode(record).ok()
        }
        _ => None,
    }
}

type Suspect = (QueueId, Accepted, Location, usize, u64);

struct Replay<'a> {
    state: State,
    /// Segments whose head voids records of earlier ones from a number on.
    voids: Vec<(u32, u64)>,
    newest: u64,
    /// The next head's counts are taken over: at the start, and after damage.
    trust_totals: bool,
    /// Who was handed what, by token.
    holders: HashMap<u64, (String, Vec<DeliveryId>)>,
    /// The newest epoch that a record tells of.
    epoch: u64,
    /// Messages with content that is not whole, until a whole record is found behind them.
    suspects: Vec<Suspect>,
    damaged: Vec<QueueId>,
    ends: Vec<SegmentEnd>,
    continuity: Continuity,
    strays: Strays,
    findings: Vec<Finding>,
    segments: &'a BTreeMap<u32, Arc<Segment>>,
}

impl Replay<'_> {
    /// Reads one segment.
    ///
    /// # Errors
    /// A later version wrote some of it.
    fn segment(&mut self, segment: &Arc<Segment>, check_content: bool) -> Result<(), StoreError> {
        let mut scanner = Scanner::new(segment.clone(), check_content);
        let mut records = 0;
        loop {
            match scanner.next() {
                Found::Record {
                    offset,
                    header,
                    record,
                    content_whole,
                } => {
                    records += 1;
                    self.place(segment, offset, &header, record, content_whole);
                }
                Found::Foreign { offset, what } => {
                    return Err(StoreError::Damaged(format!(
                        "{}: the record at offset {offset} was written by a later version of \
                         Postrider (kind {}, layout {}); start that version, nothing was changed",
                        segment.path.display(),
                        what.kind,
                        what.version
                    )));
                }
                Found::Damage { from, to } => {
                    self.continuity.damage(&segment.path, from, to);
                    self.trust_totals = true;
                }
                Found::End { at, clean } => {
                    let data_end = scanner.data_end();
                    if !clean {
                        self.continuity.unclean_end(&segment.path, at, data_end);
                    }
                    self.findings
                        .extend(scanner.unreadable.drain(..).map(|range| {
                            let detail = format!("the disk refuses to read it: {}", range.error);
                            Finding::new(FindingKind::Unreadable, &segment.path, detail)
                                .range(range.from, range.to)
                        }));
                    self.ends.push(SegmentEnd {
                        segment: segment.clone(),
                        records,
                        at,
                        data_end,
                        clean,
                    });
                    return Ok(());
                }
            }
        }
    }

    /// Takes a whole record in, unless a later segment has it again.
    fn place(
        &mut self,
        segment: &Segment,
        offset: u64,
        header: &Header,
        record: bytes::Bytes,
        content_whole: bool,
    ) {
        let mut voids = self.voids.iter();
        if voids.any(|(by, from)| *by > segment.number && header.number >= *from) {
            return;
        }
        self.continuity.record(&segment.path, offset, header.number);
        self.newest = self.newest.max(header.number);
        self.state.record = header.number;
        let at = Location {
            segment: segment.number,
            offset: offset as u32,
        };
        if let Err(error) = self.record(at, header, record, content_whole) {
            let detail = format!("record {} ({:?}): {error}", header.number, header.kind);
            self.findings
                .push(Finding::new(FindingKind::SenselessRecord, &segment.path, detail).at(offset));
        }
    }

    /// The log ends in messages whose content is not whole: they belong to what a crash tore.
    fn drop_suspects(&mut self) {
        let suspects = std::mem::take(&mut self.suspects);
        let Some((_, _, first, _, number)) = suspects.first() else {
            return;
        };
        let Some(end) = self
            .ends
            .iter_mut()
            .rev()
            .find(|end| end.segment.number == first.segment)
        else {
            return;
        };
        for (id, ..) in &suspects {
            tracing::warn!(queue_id = %id, "the log ends in a message that is not whole; its sender was not told that it was accepted");
        }
        let from = u64::from(first.offset);
        self.newest = number - 1;
        self.continuity
            .unclean_end(&end.segment.path, from, end.at.max(end.data_end));
        end.at = from;
        end.clean = false;
    }

    /// Says which messages are lost as far as later records name them.
    fn name_lost(&mut self) {
        for (id, seen, said) in std::mem::take(&mut self.strays).lost() {
            let Some(segment) = self.segments.get(&seen.segment) else {
                continue;
            };
            let detail = format!("queued message {id} is lost; its last record here says: {said}");
            self.findings.push(
                Finding::new(FindingKind::LostMessage, &segment.path, detail)
                    .at(u64::from(seen.offset))
                    .about(vec![id]),
            );
        }
    }

    fn record(
        &mut self,
        at: Location,
        header: &Header,
        record: bytes::Bytes,
        content_whole: bool,
    ) -> Result<(), prost::DecodeError> {
        let len = header.frame_len() as usize;
        if header.kind == Kind::Accepted {
            let accepted = Accepted::from(AcceptedBrief::decode(record)?);
            if let Some(id) = stored::queue_id(&accepted.message) {
                self.accepted(id, accepted, at, (len, header.number), content_whole);
            }
            return Ok(());
        }
        self.believe_suspects();
        match header.kind {
            Kind::Head => {
                let head = Head::decode(record)?;
                self.epoch = self.epoch.max(head.epoch);
                // A head that voids stands before records that its counts include already.
                if self.trust_totals && head.voids_from == 0 {
                    self.state.totals = head.totals;
                    self.trust_totals = false;
                }
            }
            Kind::Accepted => {}
            Kind::Leased => self.leased(Leased::decode(record)?, at),
            Kind::LeaseEnded => {
                self.lease_ended(LeaseEnded::decode(record)?);
            }
            Kind::Completed => self.completed(Completed::decode(record)?, at),
            Kind::Changed => {
                let changed = Changed::decode(record)?;
                for number in &changed.deliveries {
                    let id = DeliveryId {
                        queue_id: changed.id.into(),
                        number: *number,
                    };
                    if !self.is_known(id.queue_id) {
                        match changed.change() {
                            Change::Remove => self.strays.removed(id),
                            _ => self.strays.open(id, at, "changed, and still queued"),
                        }
                    }
                    self.state.apply(id, &changed, at);
                }
            }
            Kind::Moved => {
                let moved = Moved::decode(record)?;
                if let Some(id) = stored::queue_id(&moved.accepted.message) {
                    self.strays.found(id);
                    match moved.arrived.is_some() {
                        true => {
                            self.state.arrive(id, &moved, at, len);
                            self.state.make_durable(id.as_u128(), 0, &mut Vec::new());
                        }
                        false => self.state.restore(id, &moved, at, len),
                    }
                }
            }
            Kind::Kept => self.state.keeping.apply(Keep::decode(record)?, at),
            Kind::Withdrawn => {
                let id: QueueId = Withdrawn::decode(record)?.id.into();
                self.state.withdraw(id.as_u128());
            }
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        id: QueueId,
        accepted: Accepted,
        at: Location,
        (len, number): (usize, u64),
        content_whole: bool,
    ) {
        if !content_whole {
            self.suspects.push((id, accepted, at, len, number));
            return;
        }
        self.believe_suspects();
        self.admit(id, &accepted, at, len);
    }

    fn admit(&mut self, id: QueueId, accepted: &Accepted, at: Location, len: usize) {
        if self.state.messages.contains_key(&id.as_u128()) {
            return;
        }
        self.state.accept(id, accepted, at, len);
        self.state.make_durable(id.as_u128(), 0, &mut Vec::new());
    }

    /// A whole record stands behind messages whose content is not whole: so they are not a torn
    /// end, but damaged. They are kept, and held.
    fn believe_suspects(&mut self) {
        for (id, accepted, at, len, _) in std::mem::take(&mut self.suspects) {
            if let Some(segment) = self.segments.get(&at.segment) {
                let detail = format!("the content of message {id} does not match its checksum");
                self.findings.push(
                    Finding::new(FindingKind::DamagedContent, &segment.path, detail)
                        .range(u64::from(at.offset), u64::from(at.offset) + len as u64)
                        .about(vec![id]),
                );
            }
            self.admit(id, &accepted, at, len);
            self.damaged.push(id);
        }
    }

    fn is_known(&self, id: QueueId) -> bool {
        let id = id.as_u128();
        self.state.messages.contains_key(&id) || self.state.ending.contains_key(&id)
    }

    fn leased(&mut self, leased: Leased, at: Location) {
        // The upper half of a token is its epoch.
        self.epoch = self.epoch.max(leased.token >> 32);
        let ids: Vec<DeliveryId> = leased
            .deliveries
            .into_iter()
            .map(DeliveryId::from)
            .collect();
        for id in &ids {
            self.state.take(*id, leased.token);
            if !self.is_known(id.queue_id) {
                self.strays.open(*id, at, "handed to a worker");
            }
        }
        let (worker, held) = self.holders.entry(leased.token).or_default();
        *worker = leased.worker;
        held.extend(ids);
    }

    /// A lease, or a part of it, was given back.
    fn lease_ended(&mut self, ended: LeaseEnded) {
        let returned: Vec<DeliveryId> = match ended.deliveries.is_empty() {
            true => self.holders.remove(&ended.token).unwrap_or_default().1,
            false => ended.deliveries.into_iter().map(Into::into).collect(),
        };
        if let Some((_, held)) = self.holders.get_mut(&ended.token) {
            held.retain(|id| !returned.contains(id));
        }
        for id in returned {
            let held = self.state.delivery(id).map(|delivery| delivery.token);
            if held == Some(ended.token) {
                self.state.untake(id, ended.at_us);
            }
        }
    }

    fn completed(&mut self, completed: Completed, at: Location) {
        let id = DeliveryId::from(completed.delivery);
        if !self.is_known(id.queue_id) {
            match completed.rest.open.is_empty() {
                true => self.strays.ended(id),
                false => self.strays.open(id, at, "attempted, and due again"),
            }
        }
        let held = self.holders.get_mut(&completed.token);
        if let Some(place) = held.and_then(|(_, held)| {
            let place = held.iter().position(|held| *held == id)?;
            Some((held, place))
        }) {
            place.0.swap_remove(place.1);
        }
        self.state.complete(&completed, at);
        for dsn in &completed.dsn {
            if let Some(id) = stored::queue_id(&dsn.accepted.message) {
                let len = dsn.encoded_len();
                self.admit(id, &dsn.accepted, at, len);
            }
        }
    }
}
