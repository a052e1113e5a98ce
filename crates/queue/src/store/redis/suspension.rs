//! Suspensions.

use postrider_protocol::Destination;
use postrider_protocol::queue_v1::Suspension;
use prost::Message as _;
use redis::cmd;

use super::answer::{bytes, parsed};
use super::core::Core;
use super::failure::malformed;
use super::link::Repeat;
use super::records::pairs;
use crate::store::StoreError;

/// Each script that looks for suspensions reads them all.
const MOST: usize = 1000;

pub(super) async fn suspend(core: &Core, suspension: &Suspension) -> Result<(), StoreError> {
    let invalid = |what: &str| Err(StoreError::Invalid(what.to_owned()));
    let Suspension {
        id,
        destination,
        sender,
        tenant,
        until_us,
        ..
    } = suspension;
    if id.is_empty() || id.len() > 128 {
        return invalid("the suspension has no proper id");
    }
    if destination.is_empty() && sender.is_empty() && tenant.is_empty() {
        return invalid("the suspension would stop everything");
    }
    if !destination.is_empty() && destination.parse::<Destination>().is_err() {
        return invalid("the suspension's destination is none");
    }
    if sender.contains('\n') {
        return invalid("the suspension's sender is no address");
    }
    let sender = sender.to_ascii_lowercase();
    let mut cmd = core.call(&core.scripts.suspend);
    cmd.arg(id)
        .arg(format!("{destination}\n{sender}\n{tenant}"))
        .arg(*until_us)
        .arg(MOST)
        .arg(suspension.encode_to_vec());
    let answer = core.safe.run(&core.scripts.suspend, &cmd, Repeat::Safe);
    match parsed(Some(answer.await?), "a suspension")? {
        Some(1_u8) => Ok(()),
        _ => Err(StoreError::Invalid(format!(
            "there are {MOST} suspensions already"
        ))),
    }
}

pub(super) async fn resume(core: &Core, id: &str) -> Result<bool, StoreError> {
    let mut cmd = core.call(&core.scripts.resume);
    cmd.arg(id);
    let answer = core.safe.run(&core.scripts.resume, &cmd, Repeat::Safe);
    Ok(parsed(Some(answer.await?), "a suspension")? == Some(1_u8))
}

/// Those that have not ended, oldest first.
pub(super) async fn all(core: &Core) -> Result<Vec<Suspension>, StoreError> {
    let mut read = cmd("HGETALL");
    read.arg(core.key("suspensions"));
    let mut pairs = pairs(core.link.query(&read).await?)?.into_iter();
    let mut suspensions = Vec::new();
    while let (Some(_), Some(value)) = (pairs.next(), pairs.next()) {
        let value = bytes(Some(value), "a suspension")?.unwrap_or_default();
        suspensions.push(Suspension::decode(value).map_err(|_| malformed("a suspension"))?);
    }
    suspensions.sort_by(|one, other| (one.created_us, &one.id).cmp(&(other.created_us, &other.id)));
    Ok(suspensions)
}
