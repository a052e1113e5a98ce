//! From the log back to the queue in memory.
//!
//! Every segment is read from its start, and every record applied by the same functions as when
//! it was written. A torn end is normal after a crash and is cut off. Damage before a whole record
//! is not normal: it is reported with its place, and what is whole behind it is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;

use super::frame::{Header, Kind, Location};
use super::record::{
    Accepted, AcceptedBrief, Changed, Completed, Head, LeaseEnded, Leased, Moved, Withdrawn,
};
use super::scan::{Found, Scanner};
use super::segment::Segment;
use super::state::State;
use super::stored;
use crate::metrics;

/// What the log told.
pub(super) struct Recovered {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    pub(super) key: u64,
    /// The number of the next record.
    pub(super) next: u64,
    /// The epoch that begins now.
    pub(super) epoch: u64,
    pub(super) state: State,
    /// Deliveries that a worker had when the process died.
    pub(super) lapsed: Vec<(DeliveryId, String)>,
    /// Messages whose content is damaged, with what is wrong.
    pub(super) damaged: Vec<QueueId>,
}

/// Reads the log in a folder.
pub(super) fn recover(dir: &Path, state: State, archived: u64) -> io::Result<Recovered> {
    let (segments, key) = open_segments(dir)?;
    let heads: Vec<(u32, Head)> = segments
        .values()
        .map(|segment| Ok((segment.number, first_head(segment)?)))
        .filter_map(|head: io::Result<_>| match head {
            Ok((number, head)) => head.map(|head| Ok((number, head))),
            Err(error) => Some(Err(error)),
        })
        .collect::<io::Result<_>>()?;
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
        suspects: Vec::new(),
        damaged: Vec::new(),
    };
    let last_two: Vec<u32> = segments.keys().rev().take(2).copied().collect();
    for segment in segments.values() {
        replay.segment(segment, last_two.contains(&segment.number))?;
    }
    for (id, ..) in std::mem::take(&mut replay.suspects) {
        tracing::warn!(queue_id = %id, "the log ends in a message that was not whole; its sender was not told that it was accepted");
    }
    let mut state = replay.state;
    state.balance();
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
        next: replay.newest.max(archived) + 1,
        epoch: heads.iter().map(|(_, head)| head.epoch).max().unwrap_or(0) + 1,
        segments,
        state,
        lapsed,
        damaged: replay.damaged,
    })
}

fn open_segments(dir: &Path) -> io::Result<(BTreeMap<u32, Arc<Segment>>, u64)> {
    let mut paths = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            paths.insert(number, path);
        }
    }
    let known_key = paths
        .iter()
        .find_map(|(number, path)| Segment::open(path, *number, None).ok())
        .map(|segment| segment.key);
    let mut segments = BTreeMap::new();
    for (number, path) in &paths {
        let segment = Segment::open(path, *number, known_key).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        segments.insert(*number, segment);
    }
    Ok((segments, known_key.unwrap_or_else(rand::random)))
}

fn first_head(segment: &Arc<Segment>) -> io::Result<Option<Head>> {
    let head = match Scanner::new(segment.clone(), false).next()? {
        Found::Record { header, record, .. } if header.kind == Kind::Head => record,
        _ => return Ok(None),
    };
    Ok(Head::decode(head).ok())
}

type Suspect = (QueueId, Accepted, Location, usize);

struct Replay {
    state: State,
    /// Segments whose head voids records of earlier ones from a number on.
    voids: Vec<(u32, u64)>,
    newest: u64,
    /// The next head's counts are taken over: at the start, and after damage.
    trust_totals: bool,
    /// Who was handed what, by token.
    holders: HashMap<u64, (String, Vec<DeliveryId>)>,
    /// Messages with content that is not whole, until a whole record is found behind them.
    suspects: Vec<Suspect>,
    damaged: Vec<QueueId>,
}

impl Replay {
    fn segment(&mut self, segment: &Arc<Segment>, is_last: bool) -> io::Result<()> {
        // Content of older segments is checked when it is read. In the newest ones it may never
        // have reached the disk.
        let mut scanner = Scanner::new(segment.clone(), is_last);
        loop {
            match scanner.next()? {
                Found::Record {
                    offset,
                    header,
                    record,
                    content_whole,
                } => {
                    let at = Location {
                        segment: segment.number,
                        offset: offset as u32,
                    };
                    let voided = self
                        .voids
                        .iter()
                        .any(|(by, from)| *by > segment.number && header.number >= *from);
                    if voided {
                        continue;
                    }
                    self.newest = self.newest.max(header.number);
                    self.state.record = header.number;
                    if let Err(error) = self.record(at, &header, record, content_whole) {
                        report(segment, offset, &error.to_string());
                    }
                }
                Found::Damage { from, to } => {
                    report(segment, from, &format!("{} bytes are damaged", to - from));
                    self.trust_totals = true;
                }
                Found::End { at, clean } => {
                    if !clean {
                        tracing::info!(
                            path = %segment.path.display(), offset = at,
                            "the end of the segment is not a whole record, as is normal after a crash: cut off"
                        );
                    }
                    return segment.trim(at);
                }
            }
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
                self.accepted(id, accepted, at, len, content_whole);
            }
            return Ok(());
        }
        self.believe_suspects();
        match header.kind {
            Kind::Head => {
                let head = Head::decode(record)?;
                // A head that voids stands before records that its counts include already.
                if self.trust_totals && head.voids_from == 0 {
                    self.state.totals = head.totals;
                    self.trust_totals = false;
                }
            }
            Kind::Accepted => {}
            Kind::Leased => self.leased(Leased::decode(record)?),
            Kind::LeaseEnded => {
                let ended = LeaseEnded::decode(record)?;
                for id in self.holders.remove(&ended.token).unwrap_or_default().1 {
                    let held = self.state.delivery(id).map(|delivery| delivery.token);
                    if held == Some(ended.token) {
                        self.state.untake(id, ended.at_us);
                    }
                }
            }
            Kind::Completed => self.completed(Completed::decode(record)?, at),
            Kind::Changed => {
                let changed = Changed::decode(record)?;
                for number in &changed.deliveries {
                    let id = DeliveryId {
                        queue_id: changed.id.into(),
                        number: *number,
                    };
                    self.state.apply(id, changed.change(), at, changed.at_us);
                }
            }
            Kind::Moved => {
                let moved = Moved::decode(record)?;
                if let Some(id) = stored::queue_id(&moved.accepted.message) {
                    self.state.restore(id, &moved, at, len);
                }
            }
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
        len: usize,
        content_whole: bool,
    ) {
        if !content_whole {
            self.suspects.push((id, accepted, at, len));
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
        for (id, accepted, at, len) in std::mem::take(&mut self.suspects) {
            tracing::error!(queue_id = %id, segment = at.segment, offset = at.offset, "the content of a queued message is damaged");
            metrics::damaged_record();
            self.admit(id, &accepted, at, len);
            self.damaged.push(id);
        }
    }

    fn leased(&mut self, leased: Leased) {
        let ids: Vec<DeliveryId> = leased
            .deliveries
            .into_iter()
            .map(DeliveryId::from)
            .collect();
        for id in &ids {
            self.state.take(*id, leased.token);
        }
        let (worker, held) = self.holders.entry(leased.token).or_default();
        *worker = leased.worker;
        held.extend(ids);
    }

    fn completed(&mut self, completed: Completed, at: Location) {
        let id = DeliveryId::from(completed.delivery);
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

fn report(segment: &Segment, offset: u64, problem: &str) {
    tracing::error!(
        path = %segment.path.display(), offset, problem,
        "the queue's log is damaged; what is whole is kept"
    );
    metrics::damaged_record();
}
