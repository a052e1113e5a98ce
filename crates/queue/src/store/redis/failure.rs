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
}

impl Failure {
    /// The server's or the client library's error.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some(code) => Self::answered(code, &error.to_string()),
            // Everything else went wrong on the way: refused, cut off, timed out, garbled.
            None => Self::on_the_way(&error.to_string()),
        }
    }

    /// No answer came, and whether the command was carried out is unknown.
    pub(super) fn on_the_way(text: &str) -> Self {
        Self {
            error: StoreError::Unavailable(text.to_owned()),
            broken: true,
            again: true,
            unknown_script: false,
        }
    }

    /// The server answered with an error. Redis refuses a script as a whole, before its first
    /// write, for every reason that is listed here.
    fn answered(code: &str, text: &str) -> Self {
        let (broken, again) = match code {
            // A demoted or a restarted server: look for the one that takes writes.
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS" | "UNBLOCKED" => {
                (true, true)
            }
            "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" => (false, true),
            "OOM" | "MISCONF" | "NOPERM" | "MOVED" | "ASK" => (false, false),
            // A script that went wrong in the middle, a key of the wrong type.
            _ => {
                return Self {
                    error: StoreError::Damaged(text.to_owned()),
                    broken: false,
                    again: false,
                    unknown_script: code == "NOSCRIPT",
                };
            }
        };
        Self {
            error: StoreError::Unavailable(text.to_owned()),
            broken,
            again,
            unknown_script: false,
        }
    }
}

/// An answer that does not have the agreed form.
pub(super) fn malformed(what: &str) -> StoreError {
    StoreError::Damaged(format!("Redis answered in an unexpected form: {what}"))
}
