//! Settings that change while services run as processes of their own: at SIGHUP, and when the file
//! changes.

use std::fs;
use std::time::{Duration, Instant};

use postrider_tests::peers;
use postrider_tests::server::Mode;

use crate::world::{World, settings};

/// Waits until every process has logged a text so many times.
fn wait_for(world: &World, text: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    for name in world.server.names() {
        while world.server.log(name).matches(text).count() < times {
            assert!(
                Instant::now() < end,
                "{name} does not say {text:?}: {}",
                world.server.log(name)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn every_service_takes_sighup_and_a_changed_file() {
    let mut settings = settings();
    settings.mode = Mode::Split;
    let mut world = World::start_with(&settings).unwrap();
    let file = world.dir.path().join("server/postrider.toml");
    let text = fs::read_to_string(&file).unwrap();

    for process in world.server.processes() {
        peers::signal(process, "HUP").unwrap();
    }
    wait_for(&world, "change=Signal", 1);
    wait_for(&world, " reloaded", 1);

    let renamed = text.replace(&settings.hostname, "renamed.test");
    assert_ne!(renamed, text);
    fs::write(&file, renamed).unwrap();
    wait_for(&world, "change=File", 1);
    wait_for(&world, "[server] has changed", 1);

    // A mistake changes nothing, and ends nothing.
    fs::write(&file, format!("{text}\n[telemetry]\nlgo = 1\n")).unwrap();
    wait_for(&world, "everything stays as it was", 1);

    for name in world.server.names() {
        world.server.stop(name, Duration::from_secs(30)).unwrap();
    }
}
