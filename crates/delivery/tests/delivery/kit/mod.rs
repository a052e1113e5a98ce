//! What the tests share.

pub mod queue;
pub mod sink;
pub mod world;

pub use queue::FakeQueue;
pub use sink::{Line, Say, Sink};
pub use world::World;
