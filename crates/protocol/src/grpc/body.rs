//! Bodies as streams of pieces, with a deadline for each.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Status, Streaming};

use crate::api::BodyStream;

/// Waits for the next piece of a received stream, but not for ever.
pub(super) async fn next<T>(
    pieces: &mut Streaming<T>,
    deadline: Duration,
) -> Result<Option<T>, Status> {
    match tokio::time::timeout(deadline, pieces.message()).await {
        Ok(piece) => piece,
        Err(_) => Err(Status::deadline_exceeded("the next piece did not come")),
    }
}

/// A received stream as a body, with a deadline for each piece. An error ends it.
pub(super) fn received<T: Send + 'static>(
    pieces: Streaming<T>,
    deadline: Duration,
    content: impl Fn(T) -> Result<bytes::Bytes, Status> + Send + 'static,
) -> BodyStream {
    stream::unfold(Some((pieces, content)), move |state| async move {
        let (mut pieces, content) = state?;
        match next(&mut pieces, deadline).await {
            Ok(Some(piece)) => match content(piece) {
                Ok(data) => Some((Ok(data), Some((pieces, content)))),
                Err(status) => Some((Err(status), None)),
            },
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
    .boxed()
}

/// A body as the stream of a request, which cannot carry an error: at one, the request ends short and
/// `failed` gets the error.
pub(super) fn sent(
    body: BodyStream,
    failed: tokio::sync::oneshot::Sender<Status>,
) -> impl Stream<Item = bytes::Bytes> + Send + 'static {
    stream::unfold(Some((body, failed)), |state| async {
        let (mut body, failed) = state?;
        match body.next().await? {
            Ok(data) => Some((data, Some((body, failed)))),
            Err(status) => {
                // Nobody listens only if the call has ended already.
                drop(failed.send(status));
                // A request that ends is complete; one that never ends is cancelled with its call.
                std::future::pending().await
            }
        }
    })
}

/// Runs a call that sends a body, and cancels it when the body fails: what was sent by then must
/// not be taken for the whole.
pub(super) async fn call<T>(
    call: impl Future<Output = Result<T, Status>>,
    failed: tokio::sync::oneshot::Receiver<Status>,
) -> Result<T, Status> {
    tokio::select! {
        biased;
        Ok(status) = failed => Err(status),
        result = call => result,
    }
}
