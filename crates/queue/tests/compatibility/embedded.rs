//! Folders of the embedded store.

use std::path::Path;
use std::sync::Arc;

use postrider_queue::store::Store;
use postrider_queue::store::clock::ManualClock;
use postrider_queue::store::embedded::{EmbeddedSettings, EmbeddedStore};

use crate::{new_recording, recorded, scenario};

const RECORDED_AT_US: u64 = 1_800_000_000_000_000;
const HOUR_US: u64 = 3_600_000_000;

async fn open(dir: &Path, now_us: u64) -> EmbeddedStore {
    let settings = EmbeddedSettings {
        // Small, so that the recording has several and an archive.
        segment_size: 8 << 10,
        reserve: 0,
        clock: Arc::new(ManualClock::at(now_us)),
        ..EmbeddedSettings::in_dir(dir)
    };
    EmbeddedStore::open(settings, scenario::settings())
        .await
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A clean stop in the middle, a crash at the end.
async fn play(dir: &Path) {
    let store = open(dir, RECORDED_AT_US).await;
    scenario::play(&store).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(dir, RECORDED_AT_US + 1).await;
    scenario::leave(&store).await;
    drop(store);
}

#[tokio::test]
async fn every_recorded_folder_opens_and_holds_what_it_held() {
    for recording in recorded("embedded-") {
        println!("{}", recording.display());
        let dir = tempfile::tempdir().unwrap();
        copy(&recording, dir.path());
        let store = open(dir.path(), RECORDED_AT_US + HOUR_US).await;
        scenario::check(&store).await;
        store.close().await.unwrap();
        // What today's code has written after it, it reads again.
        let store = open(dir.path(), RECORDED_AT_US + 2 * HOUR_US).await;
        let stats = store.stats().await.unwrap();
        assert_eq!((stats.accepted, stats.open), (26, 0));
    }
}

#[tokio::test]
async fn the_scenario_is_one_that_today_s_store_passes() {
    let dir = tempfile::tempdir().unwrap();
    play(dir.path()).await;
    let store = open(dir.path(), RECORDED_AT_US + HOUR_US).await;
    scenario::check(&store).await;
}

/// Writes a release's recording, if there is none.
#[tokio::test]
#[ignore = "writes into the repository: cargo xtask compatibility --record NAME"]
async fn record() {
    let Some(path) = new_recording("embedded-", "") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    play(dir.path()).await;
    copy(dir.path(), &path);
}
