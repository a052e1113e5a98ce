//! Batches that form by themselves: while one round trip is under way, the next gathers.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// One caller's ask, and where its answer goes.
pub(super) struct Asked<T, R> {
    pub(super) what: T,
    /// Rough size, so that no batch holds up the server for long.
    weight: usize,
    pub(super) answer: oneshot::Sender<R>,
}

/// Hands asks to a task that carries them out in batches.
pub(super) struct Gather<T, R> {
    queue: mpsc::Sender<Asked<T, R>>,
}

impl<T: Send + 'static, R: Send + 'static> Gather<T, R> {
    /// Starts the task. It ends, after what it has in hand, when the last `Gather` is dropped.
    pub(super) fn start<F>(
        most_weight: usize,
        mut carry_out: impl FnMut(Vec<Asked<T, R>>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (queue, mut asks) = mpsc::channel::<Asked<T, R>>(1024);
        tokio::spawn(async move {
            let mut next = None;
            loop {
                let first = match next.take() {
                    Some(ask) => ask,
                    None => match asks.recv().await {
                        Some(ask) => ask,
                        None => return,
                    },
                };
                let mut weight = first.weight;
                let mut batch = vec![first];
                while let Ok(ask) = asks.try_recv() {
                    weight += ask.weight;
                    if weight > most_weight {
                        next = Some(ask);
                        break;
                    }
                    batch.push(ask);
                }
                carry_out(batch).await;
            }
        });
        Self { queue }
    }

    /// Asks, and waits for the answer. What was asked is carried out even if this is dropped.
    pub(super) async fn ask(&self, what: T, weight: usize) -> Result<R, StoreError> {
        let closed = || "the store is closed".to_owned();
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            what,
            weight,
            answer,
        };
        let sent = self.queue.send(asked).await;
        sent.map_err(|_| StoreError::Unavailable(closed()))?;
        let answered = answered.await;
        answered.map_err(|_| StoreError::Unconfirmed(closed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_lone_ask_is_carried_out_at_once_and_the_rest_share() {
        let rounds = Arc::new(AtomicUsize::new(0));
        let seen = rounds.clone();
        let gather = Arc::new(Gather::<usize, usize>::start(100, move |batch| {
            let seen = seen.clone();
            async move {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                for ask in batch {
                    ask.answer.send(ask.what * 2).ok();
                }
            }
        }));
        assert_eq!(gather.ask(1, 1).await.unwrap(), 2);
        assert_eq!(rounds.load(Ordering::SeqCst), 1);
        let asks = (0..100).map(|n| {
            let gather = gather.clone();
            tokio::spawn(async move { gather.ask(n, 1).await.unwrap() })
        });
        for (n, ask) in asks.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(ask.await.unwrap(), n * 2);
        }
        assert!(rounds.load(Ordering::SeqCst) < 50);
    }

    #[tokio::test]
    async fn no_batch_grows_beyond_its_weight() {
        let gather = Arc::new(Gather::<(), usize>::start(10, |batch| async move {
            let size = batch.len();
            tokio::task::yield_now().await;
            for ask in batch {
                ask.answer.send(size).ok();
            }
        }));
        let asks: Vec<_> = (0..30)
            .map(|_| {
                let gather = gather.clone();
                tokio::spawn(async move { gather.ask((), 4).await.unwrap() })
            })
            .collect();
        for ask in asks {
            assert!(ask.await.unwrap() <= 2);
        }
    }
}
