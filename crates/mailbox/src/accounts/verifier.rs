//! Password checks that cost an attacker more than they cost the service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::password::{self, HashError};
use super::table::Account;

/// How long a check may wait for its turn before the client is told to try later.
const PATIENCE: Duration = Duration::from_secs(10);
/// Accounts whose last good password is remembered. Each takes about 150 bytes.
const MAX_REMEMBERED: usize = 16_384;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    Denied,
    /// Too many checks are under way.
    Busy,
}

/// A password that was right.
struct Proven {
    tag: [u8; 32],
    until: Instant,
}

/// Checks passwords off the runtime's threads, a bounded number at a time.
///
/// An unknown account takes the same time as a wrong password, so that the answer's time does
/// not tell who exists. A right password is remembered for a while as a digest under a key that
/// only this process has; the account's hash goes into it, so that a changed password ends it.
pub(crate) struct Verifier {
    slots: Arc<Semaphore>,
    memory: Duration,
    key: Zeroizing<[u8; 32]>,
    proven: Mutex<HashMap<String, Proven>>,
    /// The hash of a password that nobody knows.
    nobody: Arc<str>,
}

impl Verifier {
    /// Takes about 20 ms, for the hash that unknown accounts are checked against.
    pub(crate) fn new(checks: usize, memory: Duration) -> Result<Self, HashError> {
        let unknowable: [u8; 32] = rand::random();
        Ok(Self {
            slots: Arc::new(Semaphore::new(checks)),
            memory,
            key: Zeroizing::new(rand::random()),
            proven: Mutex::default(),
            nobody: password::hash(&unknowable)?.into(),
        })
    }

    /// Checks a password of an account, or spends the time for it if there is none.
    pub(crate) async fn verify(
        &self,
        account: Option<&Account>,
        password: Zeroizing<String>,
    ) -> Verdict {
        if password.len() > password::MAX_PASSWORD {
            return Verdict::Denied;
        }
        let account = account.filter(|account| account.can_log_in());
        let remembered =
            account.map(|account| (account.name.to_string(), self.tag(account, &password)));
        if let Some((name, tag)) = &remembered
            && self.recall(name, tag)
        {
            return Verdict::Granted;
        }
        let hash: Arc<str> = account.map_or_else(
            || self.nobody.clone(),
            |account| account.hash.as_str().into(),
        );
        let turn = tokio::time::timeout(PATIENCE, self.slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = turn else {
            return Verdict::Busy;
        };
        let right = tokio::task::spawn_blocking(move || {
            // Held by the check itself: a client that goes away does not free the memory.
            let _slot = slot;
            password::verify(password.as_bytes(), &hash)
        })
        .await;
        match (right, remembered) {
            (Ok(true), Some((name, tag))) => {
                self.remember(name, tag);
                Verdict::Granted
            }
            (Ok(_), _) => Verdict::Denied,
            (Err(_), _) => Verdict::Busy,
        }
    }

    /// A keyed digest (two nested hashes, as in HMAC) of what was proven.
    fn tag(&self, account: &Account, password: &str) -> [u8; 32] {
        let inner = Sha256::new()
            .chain_update(*self.key)
            .chain_update(account.hash.as_bytes())
            .chain_update([0])
            .chain_update(password.as_bytes())
            .finalize();
        Sha256::new()
            .chain_update(*self.key)
            .chain_update([1])
            .chain_update(inner)
            .finalize()
            .into()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Proven>> {
        // Nothing inside can be left half done.
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, name: &str, tag: &[u8; 32]) -> bool {
        self.lock().get(name).is_some_and(|proven| {
            proven.until > Instant::now() && bool::from(proven.tag.ct_eq(tag))
        })
    }

    fn remember(&self, name: String, tag: [u8; 32]) {
        if self.memory.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut proven = self.lock();
        if proven.len() >= MAX_REMEMBERED && !proven.contains_key(&name) {
            proven.retain(|_, proven| proven.until > now);
            if proven.len() >= MAX_REMEMBERED {
                return;
            }
        }
        let until = now + self.memory;
        proven.insert(name, Proven { tag, until });
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::AccountName;
    use super::*;

    fn account(name: &str, password: &str) -> Account {
        Account {
            name: AccountName::parse(name).unwrap(),
            aliases: Vec::new(),
            hash: password::hash(password.as_bytes()).unwrap(),
        }
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn right_is_granted_and_wrong_denied() {
        let verifier = Verifier::new(2, Duration::from_secs(60)).unwrap();
        let alice = account("alice@c.test", "one");
        for _ in 0..2 {
            assert_eq!(
                verifier.verify(Some(&alice), secret("one")).await,
                Verdict::Granted
            );
            assert_eq!(
                verifier.verify(Some(&alice), secret("two")).await,
                Verdict::Denied
            );
            assert_eq!(verifier.verify(None, secret("one")).await, Verdict::Denied);
        }
        let huge = secret(&"x".repeat(100_000));
        assert_eq!(verifier.verify(Some(&alice), huge).await, Verdict::Denied);
    }

    #[tokio::test]
    async fn memory_ends_with_the_password_and_with_time() {
        let verifier = Verifier::new(2, Duration::from_millis(200)).unwrap();
        let alice = account("alice@c.test", "one");
        assert_eq!(
            verifier.verify(Some(&alice), secret("one")).await,
            Verdict::Granted
        );
        let tag = verifier.tag(&alice, "one");
        assert!(verifier.recall("alice@c.test", &tag));
        let changed = account("alice@c.test", "two");
        assert_eq!(
            verifier.verify(Some(&changed), secret("one")).await,
            Verdict::Denied
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert!(!verifier.recall("alice@c.test", &tag));
    }

    /// Not by the clock, which a busy machine spoils: the same work in the same place.
    #[tokio::test]
    async fn unknown_accounts_take_as_long() {
        let verifier = Verifier::new(1, Duration::ZERO).unwrap();
        let alice = account("alice@c.test", "one");
        let parameters = |hash: &str| {
            hash.split('$')
                .take(4)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(parameters(&verifier.nobody), parameters(&alice.hash));
        let locked = Account {
            hash: password::LOCKED.to_owned(),
            ..alice.clone()
        };
        for account in [None, Some(&alice), Some(&locked)] {
            let slot = verifier.slots.clone().acquire_owned().await.unwrap();
            let check = verifier.verify(account, secret("wrong"));
            let early = tokio::time::timeout(Duration::from_millis(50), check).await;
            assert!(early.is_err(), "{account:?} was answered without a check");
            drop(slot);
            assert_eq!(
                verifier.verify(account, secret("wrong")).await,
                Verdict::Denied
            );
        }
    }
}
