//! Names of those who hold leases.
//!
//! A lease belongs to one conversation of a worker and not to the worker: another conversation under
//! its name, with this queue or another, must not give back what this one holds. So a holder's name is
//! the worker's with something behind it that no other conversation has. People know workers, and
//! nothing of their conversations.

/// Between a worker's name and what makes it a conversation's.
const MARK: char = '#';

/// A name of one conversation of a worker, unique among live ones.
pub(crate) fn of_worker(worker: &str) -> String {
    format!("{worker}{MARK}{:016x}", rand::random::<u64>())
}

/// The worker whose conversation has this name.
pub(crate) fn worker_of(holder: &str) -> &str {
    holder
        .rsplit_once(MARK)
        .map_or(holder, |(worker, _)| worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_by_its_worker() {
        let (one, other) = (of_worker("delivery@a#1"), of_worker("delivery@a#1"));
        assert_ne!(one, other);
        assert_eq!(worker_of(&one), "delivery@a#1");
        // As a store's own tests name them.
        assert_eq!(worker_of("w"), "w");
    }
}
