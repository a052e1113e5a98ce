//! Histories that once failed, as short as they got. Every store plays them before the random ones.

use crate::operation::{
    ActSpec, FilterSpec, NewSpec, Operation, Place, ReportSpec, SuspensionSpec, Twist,
};

/// A message of nobody to users at these domains.
fn message(id: u128, recipients: &[(u8, u8)]) -> NewSpec {
    NewSpec {
        id: id << 32,
        recipients: recipients.to_vec(),
        sender: 0,
        message_id: 0,
        stored: None,
        tenant: 0,
        priority: 0,
        release_ms: None,
    }
}

fn lease(slots: u32, grants: usize) -> Operation {
    Operation::Lease {
        worker: 0,
        slots,
        grants,
        transports: 0,
    }
}

/// An operator removes what a destination has waited for longest, and something younger is there.
fn the_oldest_before_a_younger_one_is_removed() -> Vec<Operation> {
    let oldest = FilterSpec {
        destination: Some(Place::One(0)),
        accepted_before_ms: Some(1),
        ..FilterSpec::default()
    };
    vec![
        Operation::Enqueue(vec![message(1, &[(0, 0)]), message(2, &[(0, 2)])]),
        Operation::Advance { ms: 4_000_000 },
        Operation::Enqueue(vec![message(3, &[(0, 0)])]),
        Operation::Act {
            act: ActSpec::Remove,
            filter: oldest,
            also: Vec::new(),
        },
        lease(1, 1),
    ]
}

/// An operator removes all that waited at a destination when it was served, and something younger is
/// there: it waits since then, and not since it was served.
fn what_was_served_is_removed_before_a_younger_one() -> Vec<Operation> {
    let served = FilterSpec {
        destination: Some(Place::One(3)),
        accepted_before_ms: Some(1),
        ..FilterSpec::default()
    };
    vec![
        Operation::Enqueue(vec![message(1, &[(0, 3)])]),
        Operation::Advance { ms: 70_000 },
        lease(1, 1),
        Operation::GiveBack(vec![0]),
        Operation::Enqueue(vec![message(2, &[(0, 1)])]),
        Operation::Advance { ms: 1 },
        Operation::Enqueue(vec![message(3, &[(0, 3)])]),
        Operation::Act {
            act: ActSpec::Remove,
            filter: served,
            also: Vec::new(),
        },
        lease(1, 1),
    ]
}

/// A file has a message twice that goes to all destinations: it is new once.
fn a_message_comes_twice_at_once() -> Vec<Operation> {
    let everywhere = message(1, &[(0, 0), (0, 1), (0, 2), (0, 3)]);
    let import = |id: u128| Operation::Import {
        which: 0,
        id: id << 32,
        again: 0,
    };
    let mut history = vec![Operation::Enqueue(vec![everywhere])];
    history.extend((2..12).map(import));
    history
}

/// The mail of a suspended tenant is removed, and other mail comes.
fn a_stopped_tenant_is_followed_by_another() -> Vec<Operation> {
    let suspension = SuspensionSpec {
        id: 1,
        domain: None,
        sender: None,
        tenant: Some(1),
        for_ms: None,
    };
    let stopped = NewSpec {
        tenant: 1,
        ..message(2, &[(0, 0)])
    };
    let delivered = ReportSpec {
        which: 0,
        outcomes: vec![0],
        retry_s: 0,
        dsn: None,
        delay_warned: false,
        worker: 0,
        twist: Twist::Nothing,
    };
    let pull = || Operation::Pull { lease: 0, most: 9 };
    vec![
        Operation::Suspend(suspension),
        Operation::Enqueue(vec![message(1, &[(0, 0)]), stopped]),
        lease(1, 1),
        pull(),
        Operation::Complete(vec![delivered]),
        Operation::Act {
            act: ActSpec::Remove,
            filter: FilterSpec::default(),
            also: Vec::new(),
        },
        Operation::Enqueue(vec![message(3, &[(0, 0)])]),
        pull(),
    ]
}

/// All of them, by name.
pub(crate) fn histories() -> [(&'static str, Vec<Operation>); 4] {
    [
        (
            "a stopped tenant is followed by another",
            a_stopped_tenant_is_followed_by_another(),
        ),
        (
            "the oldest before a younger one is removed",
            the_oldest_before_a_younger_one_is_removed(),
        ),
        (
            "what was served is removed before a younger one",
            what_was_served_is_removed_before_a_younger_one(),
        ),
        (
            "a message comes twice at once",
            a_message_comes_twice_at_once(),
        ),
    ]
}
