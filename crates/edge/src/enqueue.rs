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

/// Enqueues a message, all tries together within `wait`.
///
/// Where the answer of a try was lost, the message may be stored or not. It is sent again under
/// the same id, which makes it the same message: the client hears 250 for what is stored, and a
/// 451 that makes it send a second copy is the last resort.
pub(crate) async fn enqueue(
    queue: &Arc<dyn Queue>,
    message: impl Fn() -> NewMessage,
    wait: Duration,
) -> Enqueued {
    // Equal shares, so that a try that hangs leaves time for another.
    let share = wait / (PAUSES.len() as u32 + 1);
    let mut pauses = PAUSES.iter();
    loop {
        let message = message();
        let id = message.queue_id.clone();
        let status = match timeout(share, queue.enqueue(vec![message])).await {
            Ok(Ok(results)) => return outcome(&id, results.first()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("the queue took too long"),
        };
        warn!(queue_id = id, code = ?status.code(), error = status.message(), "enqueue failed");
        match pauses.next() {
            Some(pause) if answer_was_lost(&status) => sleep(*pause).await,
            _ if status.code() == Code::InvalidArgument => return Enqueued::Invalid,
            _ => return Enqueued::Unavailable,
        }
    }
}

fn outcome(id: &str, result: Option<&EnqueueResult>) -> Enqueued {
    use enqueue_result::Status as S;
    let Some(result) = result else {
        error!(queue_id = id, "the queue answered without a result");
        return Enqueued::Unavailable;
    };
    match result.status() {
        S::Accepted | S::AlreadyAccepted => Enqueued::Accepted,
        S::Invalid => {
            error!(queue_id = id, detail = result.detail, "the queue refused");
            Enqueued::Invalid
        }
        S::Unavailable | S::Unspecified => {
            warn!(
                queue_id = id,
                detail = result.detail,
                "the queue cannot store now"
            );
            Enqueued::Unavailable
        }
    }
}

/// Whether the queue may have stored the message although the call failed: the connection to it
/// broke, or it ran out of time.
fn answer_was_lost(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
    )
}
