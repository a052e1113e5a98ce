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
        Self(format!(
            "local now = tonumber(redis.call('GET', '{}'))",
            quotable(name)
        ))
    }

    /// Whether it is time that passes by itself.
    pub(super) fn is_real(&self) -> bool {
        self.0 == Self::server().0
    }
}

fn quotable(name: &str) -> String {
    name.replace(['\\', '\'', '\n'], "")
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
    pub(super) give_back_part: Script,
    pub(super) complete: Script,
    pub(super) expire: Script,
    pub(super) act: Script,
    pub(super) import: Script,
    pub(super) remember: Script,
    pub(super) rows: Script,
    pub(super) suspend: Script,
    pub(super) resume: Script,
    pub(super) put_record: Script,
    pub(super) delete_record: Script,
    pub(super) stats: Script,
    pub(super) spread: Script,
    pub(super) outbox: Script,
    pub(super) carried: Script,
    pub(super) moving: Script,
    pub(super) arrive: Script,
    pub(super) arrived: Script,
}

impl Scripts {
    pub(super) fn new(time: &TimeSource) -> Self {
        const RULES: &str = include_str!("scripts/rules.lua");
        const PLACE: &str = include_str!("scripts/place.lua");
        const HOURS: &str = include_str!("scripts/hours.lua");
        const EXTEND: &str = include_str!("scripts/extend.lua");
        const ACCEPT: &str = include_str!("scripts/accept.lua");
        const POST: &str = include_str!("scripts/post.lua");
        const KNOWN: &str = include_str!("scripts/known.lua");
        const LEFT: &str = include_str!("scripts/left.lua");
        const LEAVE: &str = include_str!("scripts/leave.lua");
        const STAND: &str = include_str!("scripts/stand.lua");
        const FINISH: &str = include_str!("scripts/finish.lua");
        const PROGRESS: &str = include_str!("scripts/progress.lua");
        const RECLAIM: &str = include_str!("scripts/reclaim.lua");
        const TICK: &str = include_str!("scripts/tick.lua");
        let waiting = |parts: &[&str]| Script::new(time, &[&[RULES, PLACE], parts].concat());
        let ending =
            |parts: &[&str]| waiting(&[&[HOURS, KNOWN, LEAVE, FINISH, PROGRESS], parts].concat());
        Self {
            enqueue: waiting(&[
                HOURS,
                KNOWN,
                EXTEND,
                ACCEPT,
                include_str!("scripts/enqueue.lua"),
            ]),
            lease: ending(&[RECLAIM, TICK, include_str!("scripts/lease.lua")]),
            pull: waiting(&[include_str!("scripts/pull.lua")]),
            renew: Script::new(time, &[include_str!("scripts/renew.lua")]),
            give_back: ending(&[RECLAIM, include_str!("scripts/give_back.lua")]),
            give_back_part: ending(&[RECLAIM, include_str!("scripts/give_back_part.lua")]),
            complete: ending(&[EXTEND, ACCEPT, POST, include_str!("scripts/complete.lua")]),
            expire: ending(&[RECLAIM, TICK, include_str!("scripts/expire.lua")]),
            act: ending(&[include_str!("scripts/act.lua")]),
            import: ending(&[EXTEND, STAND, include_str!("scripts/import.lua")]),
            remember: Script::new(time, &[include_str!("scripts/remember.lua")]),
            spread: waiting(&[
                HOURS,
                KNOWN,
                EXTEND,
                ACCEPT,
                POST,
                include_str!("scripts/spread.lua"),
            ]),
            outbox: Script::new(time, &[LEFT, include_str!("scripts/outbox.lua")]),
            carried: Script::new(time, &[include_str!("scripts/carried.lua")]),
            moving: waiting(&[LEFT, include_str!("scripts/moving.lua")]),
            arrive: ending(&[EXTEND, STAND, include_str!("scripts/arrive.lua")]),
            arrived: ending(&[include_str!("scripts/arrived.lua")]),
            rows: waiting(&[include_str!("scripts/rows.lua")]),
            stats: Script::new(time, &[include_str!("scripts/stats.lua")]),
            suspend: waiting(&[TICK, include_str!("scripts/suspend.lua")]),
            resume: waiting(&[TICK, include_str!("scripts/resume.lua")]),
            put_record: Script::new(time, &[include_str!("scripts/put_record.lua")]),
            delete_record: Script::new(time, &[include_str!("scripts/delete_record.lua")]),
        }
    }
}
