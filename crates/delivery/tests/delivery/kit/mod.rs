//! What the tests share.

pub(crate) mod queue;
pub(crate) mod sink;
pub(crate) mod world;

pub(crate) use queue::FakeQueue;
pub(crate) use sink::{Line, Say, Sink};
pub(crate) use world::World;
