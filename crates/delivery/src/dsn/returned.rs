//! What of the original message a DSN returns.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use memchr::memmem;
use postrider_protocol::api::Queue;
use postrider_protocol::queue_v1::{Body, body};

use crate::config::DsnConfig;
use crate::cutoff::Cutoff;

/// For reading a stored body; a DSN without it is better than none.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Original {
    /// All of it.
    Whole(Bytes),
    /// Its header section, complete or the beginning of it, ending in CRLF.
    Headers(Bytes),
    /// It could not be read.
    Missing,
}

/// Reads no more of the body than goes back.
pub(super) async fn of(
    queue: &Arc<dyn Queue>,
    body: Option<&Body>,
    whole: bool,
    config: &DsnConfig,
    cutoff: &Cutoff,
) -> Original {
    let Some(body) = body else {
        return Original::Missing;
    };
    let whole = whole && body.size <= config.full_up_to.0;
    let limit = if whole {
        config.full_up_to.0
    } else {
        config.headers_up_to.0
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let start = match &body.content {
        Some(body::Content::Inline(content)) => content.slice(..content.len().min(limit)),
        Some(body::Content::Stored(name)) => {
            let beginning = tokio::time::timeout(DEADLINE, beginning(queue, name, limit));
            match cutoff.or(beginning).await {
                Some(Ok(Ok(start))) => start,
                problem => {
                    tracing::warn!(body = %name, ?problem, "a DSN goes out without the message that it is about");
                    return Original::Missing;
                }
            }
        }
        None => return Original::Missing,
    };
    if whole {
        Original::Whole(start)
    } else {
        Original::Headers(headers(&start))
    }
}

async fn beginning(
    queue: &Arc<dyn Queue>,
    name: &str,
    limit: usize,
) -> Result<Bytes, postrider_protocol::Status> {
    let mut start = BytesMut::new();
    let mut stream = queue.get_body(name.to_owned()).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        start.extend_from_slice(&piece[..piece.len().min(limit - start.len())]);
        if start.len() == limit {
            break;
        }
    }
    Ok(start.freeze())
}

/// The header section without the empty line; if its end is not in sight, its whole lines.
fn headers(start: &Bytes) -> Bytes {
    if start.starts_with(b"\r\n") {
        return Bytes::new();
    }
    let end = memmem::find(start, b"\r\n\r\n")
        .or_else(|| memmem::rfind(start, b"\r\n"))
        .map_or(0, |at| at + 2);
    start.slice(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_section_ends_at_the_empty_line() {
        for (content, section) in [
            ("A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n"),
            ("A: 1\r\nB: cut of", "A: 1\r\n"),
            ("\r\nbody", ""),
            ("", ""),
        ] {
            assert_eq!(headers(&Bytes::from_static(content.as_bytes())), section);
        }
    }
}
