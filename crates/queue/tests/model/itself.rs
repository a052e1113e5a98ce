//! The model as subject: it passes its own test, and so does the simulation's store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_model::{Faults, ModelStore};
use postrider_queue::store::clock::ManualClock;
use postrider_queue::store::{Store, StoreSettings};

use crate::history::{Plan, Stage, play_all};
use crate::kind::LOCAL;
use crate::subject::{BEGIN_US, Crash, Subject, settings};

#[test]
fn the_model_does_what_the_model_does() {
    let plan = Plan {
        histories: 500,
        steps: 60,
        crashes: 0,
        server_crashes: 0,
        faults: 15,
        abandons: 10,
        kind: LOCAL,
    };
    play_all(plan, || ModelStage);
}

struct ModelStage;

impl Stage for ModelStage {
    type Subject = ModelSubject;

    async fn fresh(&mut self) -> ModelSubject {
        let clock = Arc::new(ManualClock::at(BEGIN_US));
        let store = ModelStore::new(settings(), clock.clone(), 0);
        ModelSubject {
            clock,
            store: Arc::new(store),
        }
    }
}

struct ModelSubject {
    clock: Arc<ManualClock>,
    store: Arc<ModelStore>,
}

#[async_trait]
impl Subject for ModelSubject {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    async fn crash(&mut self, _how: Crash) {}

    async fn break_down(&mut self, writes: u64) {
        let (refused, lost_answers) = match writes {
            0 => (1000, 0),
            _ => (0, 1000),
        };
        self.store.set_faults(Faults {
            refused,
            lost_answers,
            ..Faults::default()
        });
    }

    async fn mend(&mut self) {
        self.store.set_faults(Faults::default());
    }

    async fn replace(&mut self) {
        self.store = Arc::new(ModelStore::new(settings(), self.clock.clone(), 0));
    }

    fn leases_survive(&self) -> bool {
        true
    }

    fn forgets(&self) -> bool {
        true
    }

    fn settings(&self) -> StoreSettings {
        settings()
    }
}
