//! Deliveries that move to another partition, since an operator re-routed them.
//!
//! What is decided by destination is decided in the destination's partition, so a delivery goes there:
//!
//! 1. A script marks it where it is: out of every order, in no lease's reach (`scripts/leave.lua`).
//! 2. The partition that it goes to takes it in, unless it knows this move (`scripts/arrive.lua`).
//! 3. Where it came from it ends, without counting as anything (`scripts/arrived.lua`).
//!
//! Moves of a delivery are numbered, and each partition remembers the numbers as long as the
//! journey, a day at least. So each step is safe to repeat, by anybody and however late, and every instance finishes what
//! was begun and left ([`sweep`]). It may come back before the third step: the newer move says that the older
//! one had arrived. Between the steps it is told of once: where it came from until
//! it has arrived, and from then on where it is ([`without_arrived`], [`settled`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use postrider_protocol::queue_v1::{JourneyEvent, journey_event};
use postrider_protocol::{DeliveryId, QueueId};
use prost::Message as _;
use redis::{Cmd, Value, cmd};

use super::answer::{bytes, items, numbers, parsed, required, text};
use super::content;
use super::core::{Core, micros};
use super::failure::malformed;
use super::find;
use super::left::{Page, Round};
use super::link::Repeat;
use super::part::Part;
use crate::store::StoreError;

/// Deliveries of one call.
const PIECE: usize = 32;
/// How long a reader tries to see all partitions with nothing arriving in between.
const PATIENCE: Duration = Duration::from_secs(5);

/// A delivery that leaves a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) id: DeliveryId,
    /// What the partition says of it: the number of the move and where to.
    mark: String,
    number: u64,
    pub(super) to: usize,
}

impl Leaving {
    pub(super) fn new(id: DeliveryId, mark: String) -> Result<Self, StoreError> {
        let parts = mark.split_once(' ');
        let parts = parts.and_then(|(number, to)| Some((number.parse().ok()?, to.parse().ok()?)));
        let (number, to) = parts.ok_or_else(|| malformed("a move"))?;
        Ok(Self {
            id,
            mark,
            number,
            to,
        })
    }
}

/// One that is to be carried: what is known of it where it is.
struct Load {
    leaving: Leaving,
    /// Of its message: z f r t p y a; then d<n> s<n> l<n>, when it is due, h<n>.
    fields: Vec<Option<Bytes>>,
    /// The items with which its journey begins.
    journey: Vec<Bytes>,
}

/// Fields of a [`Load`] that belong to the message.
const OF_MESSAGE: usize = 7;
const FIELDS: usize = 12;

impl Load {
    fn new(row: Value) -> Result<Self, StoreError> {
        let mut row = items(row, "a delivery that leaves")?.into_iter();
        let id = DeliveryId {
            queue_id: required(row.next(), "a queue id")?,
            number: required(row.next(), "a delivery's number")?,
        };
        let mark = text(row.next(), "a move")?.unwrap_or_default();
        let fields = (0..FIELDS)
            .map(|_| bytes(row.next(), "a field"))
            .collect::<Result<_, _>>()?;
        let journey = items(row.next().unwrap_or(Value::Nil), "a journey")?
            .into_iter()
            .map(|item| Ok(bytes(Some(item), "an event")?.unwrap_or_default()))
            .collect::<Result<Vec<Bytes>, StoreError>>()?;
        Ok(Self {
            leaving: Leaving::new(id, mark)?,
            fields,
            journey: beginning(journey),
        })
    }

    fn add_to(&self, cmd: &mut Cmd, content: Option<&Bytes>) -> Result<(), StoreError> {
        let id = self.leaving.id;
        let or = |at: usize, otherwise: &'static [u8]| {
            let field = self.fields.get(at).and_then(Option::as_ref);
            field.map_or(otherwise, Bytes::as_ref)
        };
        cmd.arg(id.queue_id.to_string())
            .arg(self.leaving.number)
            .arg(u8::from(content.is_none()));
        for (at, otherwise) in [b"0".as_slice(), b"", b"", b"", b"0", b"0", b"0"]
            .into_iter()
            .enumerate()
        {
            cmd.arg(or(at, otherwise));
        }
        let open = or(OF_MESSAGE, b"");
        let end = memchr::memchr(b'\n', open).ok_or_else(|| malformed("the recipients"))?;
        cmd.arg(id.number)
            .arg(&open[..end])
            .arg(memchr::memchr_iter(b'\n', open).count())
            .arg(open)
            .arg(or(OF_MESSAGE + 1, b"0"))
            .arg(or(OF_MESSAGE + 2, b""))
            .arg(or(OF_MESSAGE + 3, b"0"))
            .arg(or(OF_MESSAGE + 4, b""));
        let message = content.and_then(|content| content::decode(content).ok());
        let names = message.map(|message| find::names(id.queue_id, &message));
        add_all(cmd, &names.unwrap_or_default());
        add_all(cmd, &self.journey);
        Ok(())
    }
}

fn add_all(cmd: &mut Cmd, all: &[Bytes]) {
    cmd.arg(all.len());
    for one in all {
        cmd.arg(one.as_ref());
    }
}

/// Its header, and what happened until it was queued: every partition tells of that.
fn beginning(mut items: Vec<Bytes>) -> Vec<Bytes> {
    let is_queued = |item: &Bytes| {
        let end = memchr::memchr(b'\n', item)?;
        let event = JourneyEvent::decode(item.slice(end + 1..)).ok()?;
        matches!(event.what, Some(journey_event::What::Queued(_))).then_some(())
    };
    let queued = items
        .iter()
        .skip(1)
        .position(|item| is_queued(item).is_some());
    items.truncate(queued.map_or(1, |at| at + 2));
    items
}

/// What leaves a partition, by the script's arguments.
async fn read(core: &Core, cmd: &Cmd) -> Result<(Page, Vec<Load>), StoreError> {
    // Not before the mark is where it was promised to be: were it lost with a failover after the
    // delivery has arrived, it would be in two places.
    let answer = core.safe.run(&core.scripts.moving, cmd, Repeat::Safe);
    let mut answer = items(answer.await?, "what leaves")?.into_iter();
    let next: Option<u64> = parsed(answer.next(), "a time")?;
    let page = Page {
        next: next.map(Duration::from_micros),
        go_on: parsed(answer.next(), "a place")?,
    };
    // One that cannot be read stays, and the others are not held up by it.
    let loads = answer.map(Load::new).filter_map(|load| {
        load.inspect_err(|error| tracing::error!(%error, "a delivery that leaves cannot be read"))
            .ok()
    });
    Ok((page, loads.collect()))
}

/// Carries those of these deliveries that leave a partition.
pub(super) async fn carry(
    parts: &[Part],
    from: usize,
    ids: &[DeliveryId],
) -> Result<(), StoreError> {
    let core = &parts[from].core;
    for ids in ids.chunks(PIECE) {
        let mut cmd = core.call(&core.scripts.moving);
        cmd.arg("these");
        for id in ids {
            cmd.arg(id.queue_id.to_string()).arg(id.number);
        }
        let (_, loads) = read(core, &cmd).await?;
        let taken = take_over(parts, from, loads).await?;
        if let Some(error) = taken.failure {
            return Err(error);
        }
    }
    Ok(())
}

/// Carries what has been leaving a partition for so long. Returns how long until there may be something
/// to do again, if anything leaves.
pub(super) async fn sweep(
    parts: &[Part],
    from: usize,
    left: Duration,
) -> Result<Option<Duration>, StoreError> {
    let core = &parts[from].core;
    let mut round = Round::new(parts, &parts[from].leaving);
    loop {
        let mut cmd = core.call(&core.scripts.moving);
        cmd.arg("left").arg(micros(left)).arg(PIECE);
        round.add_to(&mut cmd);
        let (page, loads) = read(core, &cmd).await?;
        let taken = take_over(parts, from, loads).await?;
        if let Some(error) = taken.failure {
            tracing::debug!(%error, "deliveries wait on their way to another partition");
        }
        round.away.extend(taken.away);
        if let Some(next) = round.over(page, taken.carried) {
            return Ok(next);
        }
    }
}

/// What became of loads.
#[derive(Default)]
struct Taken {
    carried: usize,
    /// Partitions that did not answer.
    away: Vec<usize>,
    /// Why some stay where they are.
    failure: Option<StoreError>,
}

/// Carries deliveries to where they go. Those that cannot go now stay as they are.
async fn take_over(parts: &[Part], from: usize, loads: Vec<Load>) -> Result<Taken, StoreError> {
    if loads.is_empty() {
        return Ok(Taken::default());
    }
    let mut ids: Vec<QueueId> = loads.iter().map(|load| load.leaving.id.queue_id).collect();
    ids.dedup();
    let contents = content::read_raw(&parts[from].core, &ids).await?;
    let contents: HashMap<QueueId, Bytes> = ids
        .into_iter()
        .zip(contents)
        .filter_map(|(id, content)| Some((id, content?)))
        .collect();
    let mut by_partition: BTreeMap<usize, Vec<Load>> = BTreeMap::new();
    for load in loads {
        by_partition.entry(load.leaving.to).or_default().push(load);
    }
    let contents = &contents;
    let carried = by_partition.into_iter().map(|(to, loads)| async move {
        let carried = carry_to(parts, from, to, loads, contents).await;
        (to, carried)
    });
    let mut taken = Taken::default();
    // Each for itself: one partition that is away holds up no other.
    for (to, carried) in join_all(carried).await {
        match carried {
            Ok((number, failure)) => {
                taken.carried += number;
                taken.failure = taken.failure.or(failure);
            }
            Err(error) => {
                if error.is_passing() {
                    taken.away.push(to);
                }
                taken.failure = Some(error);
            }
        }
    }
    Ok(taken)
}

/// The same for those that go to one partition. How many got there, and why others did not.
async fn carry_to(
    parts: &[Part],
    from: usize,
    to: usize,
    loads: Vec<Load>,
    contents: &HashMap<QueueId, Bytes>,
) -> Result<(usize, Option<StoreError>), StoreError> {
    let to = parts.get(to).ok_or_else(|| malformed("a move"))?;
    let mut answers = arrive(to, &loads, contents).await?.into_iter();
    let all = loads.len();
    let mut there = loads;
    there.retain(|_| answers.next() != Some(NO_CONTENT));
    // What is there ends here, whatever becomes of the others.
    end(&parts[from].core, &there).await?;
    let missing = (there.len() < all)
        .then(|| StoreError::Unavailable("Redis did not take the content".to_owned()));
    Ok((there.len(), missing))
}

/// What the script says of a delivery whose content was not written.
const NO_CONTENT: i64 = 2;

/// Has a partition take deliveries in. What the script says of each.
async fn arrive(
    to: &Part,
    loads: &[Load],
    contents: &HashMap<QueueId, Bytes>,
) -> Result<Vec<i64>, StoreError> {
    let core = &to.core;
    if !core.safe.is_up() {
        return Err(StoreError::Unavailable(
            "a delivery is on its way to a partition that is away".to_owned(),
        ));
    }
    let mut cmd = core.call(&core.scripts.arrive);
    cmd.arg(loads.len());
    let mut written = HashSet::new();
    let mut commands = Vec::new();
    for load in loads {
        let id = load.leaving.id.queue_id;
        let content = contents.get(&id);
        if let (true, Some(content)) = (written.insert(id), content) {
            commands.push(content::write(core, id, content));
        }
        load.add_to(&mut cmd, content)?;
    }
    commands.push(cmd);
    let answer = core.safe.run_last(&core.scripts.arrive, commands).await?;
    to.hint.something_came();
    to.hint.time_came_nearer();
    numbers(answer, loads.len(), "arrive")
}

/// What has arrived ends where it came from.
async fn end(core: &Core, loads: &[Load]) -> Result<(), StoreError> {
    if loads.is_empty() {
        return Ok(());
    }
    let mut cmd = core.call(&core.scripts.arrived);
    for Load { leaving, .. } in loads {
        cmd.arg(leaving.id.queue_id.to_string())
            .arg(leaving.id.number)
            .arg(&leaving.mark);
    }
    let ended = core.safe.run(&core.scripts.arrived, &cmd, Repeat::Safe);
    ended.await.map(drop)
}

/// Which of them have arrived, perhaps without anybody having said so where they came from.
pub(super) async fn arrived(
    parts: &[Part],
    leaving: &[Leaving],
) -> Result<HashSet<DeliveryId>, StoreError> {
    let mut by_partition: BTreeMap<usize, Vec<&Leaving>> = BTreeMap::new();
    for one in leaving {
        by_partition.entry(one.to).or_default().push(one);
    }
    let asked = by_partition.into_iter().map(|(to, leaving)| async move {
        let core = &parts.get(to).ok_or_else(|| malformed("a move"))?.core;
        let reads: Vec<Cmd> = leaving.iter().map(|one| moves_of(core, one.id)).collect();
        let answers = core.link.query_all(&reads).await?;
        let known = leaving.into_iter().zip(answers).map(|(one, answer)| {
            let mark = text(Some(answer), "a move")?.unwrap_or_default();
            let number = mark
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok());
            Ok(number
                .is_some_and(|number: u64| number >= one.number)
                .then_some(one.id))
        });
        known.collect::<Result<Vec<_>, StoreError>>()
    });
    let known = try_join_all(asked).await?;
    Ok(known.into_iter().flatten().flatten().collect())
}

fn moves_of(core: &Core, id: DeliveryId) -> Cmd {
    let mut read = cmd("HGET");
    read.arg(core.key(&format!("v:{}", id.queue_id)))
        .arg(id.number);
    read
}

/// Place of a row's first delivery, and of a delivery's mark; as in `scripts/rows.lua`.
const FIRST: usize = 3;
const MARK: usize = 8;

/// Leaves out of rows, as `scripts/rows.lua` answers, deliveries that have arrived elsewhere; and messages
/// of which nothing else is left.
pub(super) async fn without_arrived(
    parts: &[Part],
    mut rows: Vec<Value>,
) -> Result<Vec<Value>, StoreError> {
    let mut leaving = Vec::new();
    for row in &rows {
        let Value::Array(row) = row else {
            return Err(malformed("a message"));
        };
        for delivery in row.iter().skip(FIRST) {
            leaving.extend(mark_of(row, delivery)?);
        }
    }
    if leaving.is_empty() {
        return Ok(rows);
    }
    let gone = arrived(parts, &leaving).await?;
    rows.retain_mut(|row| {
        let Value::Array(row) = row else {
            return true;
        };
        let mut at = FIRST;
        while at < row.len() {
            match mark_of(row, &row[at]) {
                Ok(Some(leaving)) if gone.contains(&leaving.id) => drop(row.remove(at)),
                _ => at += 1,
            }
        }
        row.len() > FIRST
    });
    Ok(rows)
}

fn mark_of(row: &[Value], delivery: &Value) -> Result<Option<Leaving>, StoreError> {
    let Value::Array(delivery) = delivery else {
        return Err(malformed("a delivery"));
    };
    let Some(mark) = text(delivery.get(MARK).cloned(), "a move")? else {
        return Ok(None);
    };
    let id = DeliveryId {
        queue_id: required(row.first().cloned(), "a queue id")?,
        number: required(delivery.first().cloned(), "a delivery's number")?,
    };
    Leaving::new(id, mark).map(Some)
}

/// Reads over partitions, again if anything moved meanwhile: it may have been looked for where it went to
/// before it arrived, and where it came from after it had left.
pub(super) async fn settled<T, F>(parts: &[Part], read: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let give_up = Instant::now() + PATIENCE;
    let mut before = counts(parts).await?;
    loop {
        let answer = read().await?;
        let after = counts(parts).await?;
        if before == after {
            return Ok(answer);
        }
        if Instant::now() >= give_up {
            return Err(StoreError::Unavailable(
                "too many deliveries are moving between partitions; ask again".to_owned(),
            ));
        }
        before = after;
    }
}

/// How often anything has left or arrived, by partition.
async fn counts(parts: &[Part]) -> Result<Vec<Value>, StoreError> {
    let asked = parts.iter().map(|part| {
        let mut read = cmd("HGET");
        read.arg(part.core.key("count")).arg("moves");
        async move { part.core.link.query(&read).await }
    });
    try_join_all(asked).await
}

#[cfg(test)]
mod tests {
    use postrider_protocol::queue_v1::{Notice, Queued};

    use super::super::message::timed_event;
    use super::*;

    #[test]
    fn a_mark_says_which_move_and_where_to() {
        let id = DeliveryId {
            queue_id: QueueId::new(),
            number: 3,
        };
        let leaving = Leaving::new(id, "12 15".to_owned()).unwrap();
        assert_eq!((leaving.number, leaving.to), (12, 15));
        for bad in ["", "12", "x 1", "1 x"] {
            assert!(Leaving::new(id, bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_journey_begins_up_to_its_being_queued() {
        let event = |what| {
            timed_event(&JourneyEvent {
                time_us: 7,
                instance: String::new(),
                what: Some(what),
            })
        };
        let header = Bytes::from_static(b"header");
        let received = event(journey_event::What::Received(Default::default()));
        let queued = event(journey_event::What::Queued(Queued::default()));
        let notice = event(journey_event::What::Notice(Notice::default()));
        let all = vec![
            header.clone(),
            received.clone(),
            queued.clone(),
            notice.clone(),
        ];
        assert_eq!(beginning(all.clone()), all[..3]);
        assert_eq!(beginning(vec![header.clone(), notice]), [header]);
    }
}
