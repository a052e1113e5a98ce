//! Calls of a store, and what it answers.

use std::time::Duration;

use postrider_protocol::queue_v1::{
    DeliveryStatus, ExportedMessage, Filter, LeasedDelivery, NewMessage, Suspension,
};
use postrider_protocol::{DeliveryId, QueueId};
use postrider_queue::store::{
    Act, By, Completed, Completion, Enqueued, Find, Grant, LeaseRequest, PartialReturn, Record,
    Renewed, Store, StoreError,
};

/// One call, or one that goes through pages.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Enqueue(Vec<NewMessage>),
    Lease {
        request: LeaseRequest,
        most: usize,
    },
    Pull {
        token: u64,
        most: usize,
    },
    Renew(Vec<u64>),
    GiveBack(Vec<u64>),
    GiveBackPart(PartialReturn),
    Complete(Vec<Completion>),
    Expire,
    Act {
        act: Act,
        on: Vec<DeliveryId>,
        by: By,
    },
    List {
        filter: Filter,
        page: usize,
    },
    Find {
        what: Find,
        limit: usize,
    },
    Suspend(Suspension),
    Resume(String),
    Suspensions,
    PutRecord(Record),
    DeleteRecord {
        kind: String,
        key: String,
    },
    Records(String),
    Export {
        page: usize,
    },
    Import(Vec<ExportedMessage>),
    BodiesInUse(Vec<String>),
    EndedBodies,
    ForgetBodies(Vec<String>),
}

type Result<T> = std::result::Result<T, StoreError>;

/// What it answered, in the order of [`Call`].
#[derive(Debug)]
pub(crate) enum Answer {
    Accepted(Vec<Result<Enqueued>>),
    Grants(Result<Vec<Grant>>),
    Pulled(Result<Option<Vec<LeasedDelivery>>>),
    Stale(Result<Vec<u64>>),
    Completed(Vec<Result<Completed>>),
    Next(Result<Option<Duration>>),
    Changed(Result<Vec<bool>>),
    Listed(Result<Vec<DeliveryStatus>>),
    Found(Result<Vec<QueueId>>),
    Done(Result<()>),
    Was(Result<bool>),
    Suspensions(Result<Vec<Suspension>>),
    Records(Result<Vec<Record>>),
    Exported(Result<Vec<ExportedMessage>>),
    Bodies(Result<Vec<String>>),
}

impl Answer {
    /// Whether any of it is an error.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Accepted(each) => each.iter().any(Result::is_err),
            Self::Completed(each) => each.iter().any(Result::is_err),
            Self::Grants(all) => all.is_err(),
            Self::Pulled(all) => all.is_err(),
            Self::Stale(all) => all.is_err(),
            Self::Next(next) => next.is_err(),
            Self::Changed(all) => all.is_err(),
            Self::Listed(all) => all.is_err(),
            Self::Found(all) => all.is_err(),
            Self::Done(done) => done.is_err(),
            Self::Was(was) => was.is_err(),
            Self::Suspensions(all) => all.is_err(),
            Self::Records(all) => all.is_err(),
            Self::Exported(all) => all.is_err(),
            Self::Bodies(all) => all.is_err(),
        }
    }
}

/// Makes a call.
pub(crate) async fn ask(store: &dyn Store, call: Call) -> Answer {
    match call {
        Call::Enqueue(messages) => Answer::Accepted(store.enqueue(messages).await),
        Call::Lease { request, most } => Answer::Grants(store.lease(request, most).await),
        Call::Pull { token, most } => Answer::Pulled(store.pull(token, most).await),
        Call::Renew(tokens) => Answer::Stale(store.renew(tokens).await.map(stale)),
        Call::GiveBack(tokens) => Answer::Done(store.give_back(tokens).await),
        Call::GiveBackPart(part) => Answer::Done(store.give_back_part(vec![part]).await),
        Call::Complete(batch) => Answer::Completed(store.complete(batch).await),
        Call::Expire => Answer::Next(store.expire().await),
        Call::Act { act, on, by } => Answer::Changed(store.act(&act, &on, &by).await),
        Call::List { filter, page } => Answer::Listed(list(store, &filter, page).await),
        Call::Find { what, limit } => Answer::Found(store.find(&what, limit).await),
        Call::Suspend(suspension) => Answer::Done(store.suspend(suspension).await),
        Call::Resume(id) => Answer::Was(store.resume(&id).await),
        Call::Suspensions => Answer::Suspensions(store.suspensions().await),
        Call::PutRecord(record) => Answer::Was(store.put_record(record).await),
        Call::DeleteRecord { kind, key } => Answer::Done(store.delete_record(&kind, &key).await),
        Call::Records(kind) => Answer::Records(store.records(&kind).await),
        Call::Export { page } => Answer::Exported(export(store, page).await),
        Call::Import(messages) => Answer::Accepted(store.import(messages).await),
        Call::BodiesInUse(names) => Answer::Bodies(store.bodies_in_use(names).await),
        Call::EndedBodies => Answer::Bodies(store.ended_bodies(100).await),
        Call::ForgetBodies(names) => Answer::Done(store.forget_bodies(names).await),
    }
}

/// Where the whole store answers, each lease is prolonged or over.
fn stale(renewed: Renewed) -> Vec<u64> {
    assert_eq!(renewed.unreached, [0_u64; 0]);
    renewed.stale
}

/// All pages of a list.
pub(crate) async fn list(
    store: &dyn Store,
    filter: &Filter,
    page: usize,
) -> Result<Vec<DeliveryStatus>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let some = store.list(filter, after, page).await?;
        assert!(some.len() <= page, "a page of {}, not {page}", some.len());
        let Some(last) = some.last() else {
            return Ok(all);
        };
        after = Some(last.delivery_id.parse().unwrap());
        all.extend(some);
    }
}

/// All pages of an export.
pub(crate) async fn export(store: &dyn Store, page: usize) -> Result<Vec<ExportedMessage>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let some = store.export(after, page).await?;
        assert!(some.len() <= page, "a page of {}, not {page}", some.len());
        let Some(last) = some.last().and_then(|last| last.message.as_ref()) else {
            return Ok(all);
        };
        after = Some(last.queue_id.parse().unwrap());
        all.extend(some);
    }
}
