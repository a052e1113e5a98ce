//! What a failed command means.

use redis::RedisError;

use crate::store::StoreError;

/// A command that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the caller is told.
    pub(super) error: StoreError,
    /// The connection is of no more use: another must be made before the next command.
    pub(super) broken: bool,
    /// The same command may succeed soon. It may also have been carried out already.
    pub(super) again: bool,
    /// The server does not know the script (any more): it was restarted or failed over.
    pub(super) unknown_script: bool,
    /// Perhaps another server takes the writes by now, and this one does not know.
    pub(super) suspect: bool,
    /// Where the slot is, in the server's words.
    pub(super) moved: Option<String>,
}

impl Failure {
    /// The server's or the client library's error.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            // A transaction was refused when it was to be carried out, for a reason of these.
            Some("EXECABORT") => {
                let text = error.to_string();
                match error.detail().and_then(refusal) {
                    Some(code) => Self::answered(code, &text),
                    None => Self::answered("EXECABORT", &text),
                }
            }
            Some(code) => Self {
                moved: error
                    .detail()
                    .filter(|_| code == "MOVED")
                    .map(ToOwned::to_owned),
                ..Self::answered(code, &error.to_string())
            },
            // Everything else went wrong on the way: refused, cut off, timed out, garbled.
            None => Self::on_the_way(&error.to_string()),
        }
    }

    /// No answer came, and whether the command was carried out is unknown.
    pub(super) fn on_the_way(text: &str) -> Self {
        Self {
            broken: true,
            again: true,
            ..Self::new(StoreError::Unconfirmed(text.to_owned()))
        }
    }

    /// The write is done, but not where it was promised to be. Whoever asks again with the same ids
    /// is told so once it is.
    pub(super) fn too_few_copies() -> Self {
        Self {
            suspect: true,
            ..Self::new(StoreError::Unconfirmed(
                "too few replicas have confirmed the write".to_owned(),
            ))
        }
    }

    /// The write is done, and the wait for its copies was refused.
    pub(super) fn of_the_wait(self) -> Self {
        Self {
            error: StoreError::Unconfirmed(self.error.to_string()),
            suspect: true,
            ..self
        }
    }

    fn new(error: StoreError) -> Self {
        Self {
            error,
            broken: false,
            again: false,
            unknown_script: false,
            suspect: false,
            moved: None,
        }
    }

    /// The server answered with an error. Redis refuses a script as a whole, before its first
    /// write, for every reason that is listed here.
    fn answered(code: &str, text: &str) -> Self {
        let (broken, again) = match code {
            // A demoted or a restarted server, or a slot that is elsewhere: look for the one that
            // takes writes.
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" | "UNBLOCKED"
            | "MOVED" | "CLUSTERDOWN" => (true, true),
            // ASK and TRYAGAIN: the slot is just being moved, and no script runs on half of it.
            "ASK" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" => (false, true),
            "OOM" | "MISCONF" | "NOPERM" => (false, false),
            // A script that went wrong in the middle, a key of the wrong type.
            _ => {
                return Self {
                    unknown_script: code == "NOSCRIPT",
                    ..Self::new(StoreError::Damaged(text.to_owned()))
                };
            }
        };
        Self {
            broken,
            again,
            ..Self::new(StoreError::Unavailable(text.to_owned()))
        }
    }
}

/// The reason that Redis names for refusing a transaction, as a code: "Transaction discarded because of:
/// OOM command not allowed ...".
fn refusal(detail: &str) -> Option<&str> {
    let (_, reason) = detail.split_once("because of: ")?;
    reason.trim_start_matches('-').split(' ').next()
}

/// An answer that does not have the agreed form.
pub(super) fn malformed(what: &str) -> StoreError {
    StoreError::Damaged(format!("Redis answered in an unexpected form: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server said, as a failure.
    fn said(line: &str) -> Failure {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Failure::of(&value.extract_error().unwrap_err())
    }

    #[test]
    fn a_transaction_that_is_refused_fails_for_the_reason_that_is_named() {
        let discarded = "EXECABORT Transaction discarded because of";
        for (reason, broken, again) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                false,
                false,
            ),
            (
                "MISCONF Errors writing to the AOF file: No space left on device",
                false,
                false,
            ),
            (
                "READONLY You can't write against a read only replica.",
                true,
                true,
            ),
            ("NOREPLICAS Not enough good replicas to write.", false, true),
            ("BUSY Redis is busy running a script.", false, true),
            (
                "-LOADING Redis is loading the dataset in memory",
                true,
                true,
            ),
        ] {
            let failure = said(&format!("{discarded}: {reason}"));
            assert_eq!((failure.broken, failure.again), (broken, again), "{reason}");
            let StoreError::Unavailable(text) = failure.error else {
                panic!("{reason}");
            };
            assert!(text.contains(reason.split(' ').nth(1).unwrap()), "{text}");
        }
        // The commands' own answers say more, and come first.
        let failure = said(&format!("{discarded} previous errors."));
        assert!(matches!(failure.error, StoreError::Damaged(_)));
    }
}
