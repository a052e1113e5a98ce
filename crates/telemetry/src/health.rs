//! Whether the process does its work: what `/health/ready` shows.
//!
//! Each part of a process registers itself once and says when it is ready; the process is
//! ready when all of its parts are. Liveness needs no registry: a process that answers lives.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The states of the parts of a process.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<RwLock<BTreeMap<&'static str, State>>>);

/// How it stands with one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not ready yet, not ready now, or not ready any more, and why, e.g. "Redis is away".
    NotReady(String),
    /// Does its work.
    Ready,
}

static GLOBAL: std::sync::LazyLock<Registry> = std::sync::LazyLock::new(Registry::default);

/// The registry that this process' HTTP server shows.
#[must_use]
pub fn global() -> &'static Registry {
    &GLOBAL
}

impl Registry {
    /// Registers a part, not ready. Its name is short: "edge", "queue".
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component {
            registry: self.clone(),
            name,
        };
        component.not_ready("starting");
        component
    }

    /// Every part with its state, by name.
    #[must_use]
    pub fn states(&self) -> Vec<(&'static str, State)> {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        states
            .iter()
            .map(|(name, state)| (*name, state.clone()))
            .collect()
    }

    /// Whether every part is ready. A process without parts is not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !states.is_empty() && states.values().all(|state| *state == State::Ready)
    }
}

/// A part's own handle. The part stays registered, with its last state, when it is dropped.
#[derive(Debug, Clone)]
pub struct Component {
    registry: Registry,
    name: &'static str,
}

impl Component {
    /// The part does its work.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// The part does not do its work now, and why.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(State::NotReady(why.into()));
    }

    fn set(&self, state: State) {
        self.registry
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_part_is() {
        let registry = Registry::default();
        assert!(!registry.is_ready());
        let edge = registry.component("edge");
        let queue = registry.component("queue");
        edge.ready();
        assert!(!registry.is_ready());
        queue.ready();
        assert!(registry.is_ready());
        queue.not_ready("the disk is full");
        assert!(!registry.is_ready());
        assert_eq!(
            registry.states(),
            [
                ("edge", State::Ready),
                ("queue", State::NotReady("the disk is full".to_owned()))
            ]
        );
    }
}
