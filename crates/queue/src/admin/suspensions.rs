//! Suspending and resuming.

use std::time::Duration;

use postrider_protocol::queue_v1::{
    Filter, ResumeRequest, ResumeResponse, SuspendRequest, SuspendResponse, Suspension, UndoRequest,
};
use postrider_protocol::{QueueId, Status, api};

use super::check::{destination, one_line, text};
use super::status;
use crate::acts::{Acts, count};
use crate::store::Store;

/// Suspensions in force at once: each is looked at for each delivery whose turn it is.
const MOST: usize = 1000;
/// How long a preview counts what matches.
const PREVIEW: Duration = Duration::from_secs(30);
/// How long the answer to a suspension that is made waits for such a count.
const ANSWER: Duration = Duration::from_millis(500);

/// Makes a suspension, or counts what it would stop.
pub(super) async fn suspend(
    store: &dyn Store,
    acts: &Acts,
    request: SuspendRequest,
) -> api::Result<SuspendResponse> {
    let now_us = store.now_us().await.map_err(status)?;
    let mut suspension = checked(request.suspension.unwrap_or_default(), now_us)?;
    let filter = Filter {
        destination: suspension.destination.clone(),
        sender: suspension.sender.clone(),
        tenant: suspension.tenant.clone(),
        ..Filter::default()
    };
    let patience = match request.preview {
        true => PREVIEW,
        false => {
            let there = store.suspensions().await.map_err(status)?;
            if there.len() >= MOST {
                return Err(Status::resource_exhausted(format!(
                    "there are {MOST} suspensions; one of them has to end first"
                )));
            }
            suspension.id = QueueId::new().to_string();
            suspension.created_us = now_us;
            store.suspend(suspension.clone()).await.map_err(status)?;
            tracing::info!(
                id = suspension.id,
                destination = suspension.destination,
                sender = suspension.sender,
                tenant = suspension.tenant,
                until_us = suspension.until_us,
                operator = suspension.operator,
                reason = suspension.reason,
                "suspended"
            );
            acts.suspended(&suspension).await?;
            ANSWER
        }
    };
    let counted = count(store, &filter, patience).await?;
    Ok(SuspendResponse {
        suspension: Some(suspension),
        matched: counted.matched,
        sample: counted.sample,
        more: counted.more,
    })
}

/// Ends a suspension.
pub(super) async fn resume(
    store: &dyn Store,
    acts: &Acts,
    request: ResumeRequest,
) -> api::Result<ResumeResponse> {
    text("the id", &request.id)?;
    text("the operator", &request.operator)?;
    text("the reason", &request.reason)?;
    let resumed = store.resume(&request.id).await.map_err(status)?;
    if resumed {
        tracing::info!(
            id = request.id,
            operator = request.operator,
            reason = request.reason,
            "resumed"
        );
        let by = UndoRequest {
            act_id: request.id.clone(),
            operator: request.operator,
            reason: request.reason,
        };
        acts.resumed(&request.id, by).await?;
    }
    Ok(ResumeResponse { resumed })
}

fn checked(suspension: Suspension, now_us: u64) -> api::Result<Suspension> {
    for (what, value) in [
        ("the destination", &suspension.destination),
        ("the sender", &suspension.sender),
        ("the tenant", &suspension.tenant),
        ("the operator", &suspension.operator),
        ("the reason", &suspension.reason),
    ] {
        text(what, value)?;
    }
    let Suspension {
        destination: to,
        sender,
        tenant,
        until_us,
        operator,
        reason,
        ..
    } = suspension;
    if to.is_empty() && sender.is_empty() && tenant.is_empty() {
        return Err(Status::invalid_argument(
            "a suspension is of a destination, a sender or a tenant",
        ));
    }
    if until_us > 0 && until_us <= now_us {
        return Err(Status::invalid_argument("its end is in the past"));
    }
    Ok(Suspension {
        destination: match to.as_str() {
            "" => String::new(),
            to => destination(to)?.to_string(),
        },
        sender,
        tenant,
        until_us,
        operator: one_line(&operator),
        reason: one_line(&reason),
        ..Suspension::default()
    })
}
