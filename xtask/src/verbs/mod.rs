//! One file a verb.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod chaos;
pub(crate) mod compatibility;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod e2e;
pub(crate) mod fuzz;
pub(crate) mod lint;
pub(crate) mod proof;
pub(crate) mod test;
