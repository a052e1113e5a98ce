//! Handing a message to the queue: the one place that decides whether a client hears 250.

use std::sync::Arc;
use std::time::Duration;

use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::{EnqueueResult, NewMessage, enqueue_result};
use postrider_protocol::{Code, Status};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

/// Waits before the second and the third try.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// It is durable: 250.
    Accepted,
    /// It is not, or nobody knows: 4yz, and the client keeps it.
    Unavailable,
    /// It can never be stored: 5yz.
    Invalid,
}

/// What one try came to.
enum Tried {
    Accepted,
    /// The queue has not stored it, and says so.
    Refused,
    /// The message may be stored.
    Unconfirmed,
    Invalid,
}

/// Enqueues a message, all tries together within `wait`.
///
/// Where the answer of a try was lost, or the queue itself does not know, the message may be stored or
/// not. It is sent again under the same id, which makes it the same message: the client hears 250
/// for what is stored, and a 451 that makes it send a second copy is the last resort.
pub(crate) async fn enqueue(
    queue: &Arc<dyn Queue>,
    message: impl Fn() -> NewMessage,
    wait: Duration,
) -> Enqueued {
    // Equal shares, so that a try that hangs leaves time for another.
    let share = wait / (PAUSES.len() as u32 + 1);
    let mut pauses = PAUSES.iter();
    // What a later try is refused says nothing of an earlier one.
    let mut may_be_stored = false;
    loop {
        match try_once(queue, message(), share).await {
            Tried::Accepted => return Enqueued::Accepted,
            Tried::Invalid => return Enqueued::Invalid,
            Tried::Unconfirmed => may_be_stored = true,
            Tried::Refused => {}
        }
        match pauses.next() {
            Some(pause) if may_be_stored => sleep(*pause).await,
            _ => return Enqueued::Unavailable,
        }
    }
}

async fn try_once(queue: &Arc<dyn Queue>, message: NewMessage, most: Duration) -> Tried {
    let id = message.queue_id.clone();
    let status = match timeout(most, queue.enqueue(vec![message])).await {
        Ok(Ok(results)) => return outcome(&id, results.first()),
        Ok(Err(status)) => status,
        Err(_) => Status::deadline_exceeded("the queue took too long"),
    };
    warn!(queue_id = id, code = ?status.code(), error = status.message(), "enqueue failed");
    match status.code() {
        Code::InvalidArgument => Tried::Invalid,
        code if answer_was_lost(code) => Tried::Unconfirmed,
        _ => Tried::Refused,
    }
}

fn outcome(id: &str, result: Option<&EnqueueResult>) -> Tried {
    use enqueue_result::Status as S;
    let Some(result) = result else {
        error!(queue_id = id, "the queue answered without a result");
        return Tried::Refused;
    };
    match result.status() {
        S::Accepted | S::AlreadyAccepted => Tried::Accepted,
        S::Invalid => {
            error!(queue_id = id, detail = result.detail, "the queue refused");
            Tried::Invalid
        }
        S::Unavailable | S::Unspecified => {
            warn!(
                queue_id = id,
                detail = result.detail,
                "the queue cannot store now"
            );
            Tried::Refused
        }
        S::Unconfirmed => {
            warn!(
                queue_id = id,
                detail = result.detail,
                "the queue does not know whether it has stored the message"
            );
            Tried::Unconfirmed
        }
    }
}

/// Whether the queue may have stored the message although the call failed: the connection to it
/// broke, or it ran out of time.
fn answer_was_lost(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
    )
}
