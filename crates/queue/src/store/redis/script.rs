//! The server-side scripts: put together from their parts, called by digest.

use redis::{Cmd, Script as Digest};

/// Where a script's `now` comes from, as Lua that sets it.
#[derive(Debug, Clone)]
pub struct TimeSource(String);

impl TimeSource {
    /// Redis' own clock: one time for all instances, whatever their hosts believe.
    #[must_use]
    pub fn server() -> Self {
        Self("local t = redis.call('TIME')\nlocal now = t[1] * 1000000 + t[2]".to_owned())
    }

    /// The number in a key, so that a test can set the time forward.
    #[must_use]
    pub fn key(name: &str) -> Self {
        let quoted = name.replace(['\\', '\'', '\n'], "");
        Self(format!(
            "local now = tonumber(redis.call('GET', '{quoted}'))"
        ))
    }
}

/// One script.
#[derive(Debug)]
pub(super) struct Script {
    source: String,
    digest: String,
}

impl Script {
    fn new(time: &TimeSource, parts: &[&str]) -> Self {
        let mut source = format!("{}\n{}", time.0, include_str!("scripts/common.lua"));
        for part in parts {
            source.push('\n');
            source.push_str(part);
        }
        let digest = Digest::new(&source).get_hash().to_owned();
        Self { source, digest }
    }

    /// A call of the script, to be completed with its arguments from `ARGV[2]` on.
    pub(super) fn call(&self, prefix: &str, slots_per_destination: u32) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.digest)
            .arg(1)
            .arg(prefix)
            .arg(slots_per_destination);
        cmd
    }

    /// The command that makes the server know the script.
    pub(super) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.source);
        cmd
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) enqueue: Script,
    pub(super) lease: Script,
    pub(super) pull: Script,
    pub(super) renew: Script,
    pub(super) give_back: Script,
    pub(super) complete: Script,
    pub(super) expire: Script,
    pub(super) act: Script,
    pub(super) rows: Script,
    pub(super) find: Script,
    pub(super) stats: Script,
}

impl Scripts {
    pub(super) fn new(time: &TimeSource) -> Self {
        const ACCEPT: &str = include_str!("scripts/accept.lua");
        const FINISH: &str = include_str!("scripts/finish.lua");
        const RECLAIM: &str = include_str!("scripts/reclaim.lua");
        Self {
            enqueue: Script::new(time, &[ACCEPT, include_str!("scripts/enqueue.lua")]),
            lease: Script::new(time, &[FINISH, RECLAIM, include_str!("scripts/lease.lua")]),
            pull: Script::new(time, &[include_str!("scripts/pull.lua")]),
            renew: Script::new(time, &[include_str!("scripts/renew.lua")]),
            give_back: Script::new(
                time,
                &[FINISH, RECLAIM, include_str!("scripts/give_back.lua")],
            ),
            complete: Script::new(
                time,
                &[ACCEPT, FINISH, include_str!("scripts/complete.lua")],
            ),
            expire: Script::new(time, &[FINISH, RECLAIM, include_str!("scripts/expire.lua")]),
            act: Script::new(time, &[FINISH, include_str!("scripts/act.lua")]),
            rows: Script::new(time, &[include_str!("scripts/rows.lua")]),
            find: Script::new(time, &[include_str!("scripts/find.lua")]),
            stats: Script::new(time, &[include_str!("scripts/stats.lua")]),
        }
    }
}
