//! What a connection costs while it is idle.

use std::mem::size_of;

use postrider_smtp::{client, server};

#[test]
fn idle_sessions_are_small() {
    assert!(
        size_of::<server::Session>() <= 640,
        "{}",
        size_of::<server::Session>()
    );
    assert!(
        size_of::<client::Session>() <= 320,
        "{}",
        size_of::<client::Session>()
    );
}
