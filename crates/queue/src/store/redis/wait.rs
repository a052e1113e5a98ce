//! Waiting until replicas have what was written.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value, cmd};

/// How long the barrier's key lives from each use on, in milliseconds: a hundred years.
const BARRIER_MS: u64 = 100 * 366 * 24 * 3600 * 1000;

/// What follows a command on the same connection, so that its answer means copies.
///
/// `WAIT` is about what its own connection has written last. A command that is repeated on a new
/// connection may find its work done and write nothing, and there would be nothing to wait for
/// although the first one's writes are nowhere else yet. So a small write goes in between: giving a
/// key a time to live, which is always carried on to replicas, and allowed when the memory is full.
pub(super) struct Wait {
    barrier: Cmd,
    wait: Cmd,
    key: String,
    copies: i64,
    disks: bool,
}

impl Wait {
    pub(super) fn new(copies: u8, disks: bool, most: Duration, key: String) -> Self {
        let wait_ms = most.as_millis().max(1) as u64;
        let mut wait;
        if disks {
            wait = cmd("WAITAOF");
            wait.arg(1).arg(copies).arg(wait_ms);
        } else {
            wait = cmd("WAIT");
            wait.arg(copies).arg(wait_ms);
        }
        let mut barrier = cmd("PEXPIRE");
        barrier.arg(&key).arg(BARRIER_MS);
        Self {
            barrier,
            wait,
            key,
            copies: copies.into(),
            disks,
        }
    }

    /// Sees to it that there is a key to be given a time to live.
    pub(super) async fn prepare(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> redis::RedisResult<()> {
        let exists: bool = cmd("EXISTS").arg(&self.key).query_async(connection).await?;
        if !exists {
            let mut set = cmd("SET");
            set.arg(&self.key).arg("for waits");
            set.query_async::<()>(connection).await?;
        }
        Ok(())
    }

    /// Commands with the wait for them: two answers more.
    pub(super) fn follow<'a>(&self, commands: impl IntoIterator<Item = &'a Cmd>) -> Pipeline {
        let mut all = Pipeline::new();
        for cmd in commands {
            all.add_command(cmd.clone());
        }
        all.add_command(self.barrier.clone())
            .add_command(self.wait.clone());
        all
    }

    /// Whether the answers to barrier and wait say that there are copies enough.
    pub(super) fn is_enough(&self, barrier: &Value, wait: &Value) -> bool {
        if !matches!(barrier, Value::Int(1)) {
            return false;
        }
        match (wait, self.disks) {
            // WAIT n: the replicas that have it.
            (Value::Int(replicas), false) => *replicas >= self.copies,
            // WAITAOF local n: how many synced it here, and on replicas.
            (Value::Array(counts), true) => match counts.as_slice() {
                [Value::Int(local), Value::Int(replicas)] => {
                    *local >= 1 && *replicas >= self.copies
                }
                _ => false,
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_copies() {
        let wait = |copies, disks| Wait::new(copies, disks, Duration::from_secs(1), "b".to_owned());
        let set = Value::Int(1);
        assert!(wait(2, false).is_enough(&set, &Value::Int(2)));
        assert!(!wait(2, false).is_enough(&set, &Value::Int(1)));
        assert!(!wait(2, false).is_enough(&set, &Value::Nil));
        assert!(!wait(1, false).is_enough(&Value::Int(0), &Value::Int(1)));
        let answer = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert!(wait(1, true).is_enough(&set, &answer(1, 1)));
        assert!(!wait(1, true).is_enough(&set, &answer(0, 1)));
        assert!(!wait(1, true).is_enough(&set, &answer(1, 0)));
        assert!(!wait(1, true).is_enough(&set, &Value::Int(1)));
    }
}
