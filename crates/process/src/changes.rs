//! Noticing that the configuration is to be read again: SIGHUP, or a changed file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Config, PollWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Between two looks at the file. The kernel could tell of changes instead, but only of all that
/// happens in the folder, and a log that grows there would keep this process busy.
const LOOK: Duration = Duration::from_secs(1);
/// An editor writes a file in several steps; they are one change if they are this close.
const QUIET: Duration = Duration::from_millis(200);
/// A file that never comes to rest is read nevertheless.
const RESTLESS: Duration = Duration::from_secs(2);

/// Why the configuration is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// SIGHUP: also certificates and whatever else is read from files.
    Signal,
    /// The file has other content than before.
    File,
}

/// A stream of changes.
#[derive(Debug)]
pub struct Changes {
    hangup: Signal,
    file: Option<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    content: Option<Vec<u8>>,
    events: mpsc::Receiver<()>,
    /// When something was first and last heard that was not looked at yet.
    heard: Option<(Instant, Instant)>,
    _watcher: PollWatcher,
}

impl Changes {
    /// Watches for SIGHUP and, if there is a file, for its changes. A file that cannot be watched (a
    /// limit of the system) is only logged: SIGHUP still works.
    ///
    /// # Errors
    /// The process cannot handle signals.
    pub fn watch(path: Option<&Path>) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let file = path.and_then(|path| match File::watch(path) {
            Ok(file) => Some(file),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "changes of the file are not seen; use SIGHUP");
                None
            }
        });
        Ok(Self { hangup, file })
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) -> Change {
        tokio::select! {
            biased;
            Some(()) = self.hangup.recv() => Change::Signal,
            () = changed(&mut self.file) => Change::File,
        }
    }
}

async fn changed(file: &mut Option<File>) {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

impl File {
    fn watch(path: &Path) -> notify::Result<Self> {
        let (heard, events) = mpsc::channel(1);
        let config = Config::default()
            .with_poll_interval(LOOK)
            .with_compare_contents(true);
        let heard = move |_| {
            // A full channel means that the reader will look anyway.
            heard.try_send(()).unwrap_or_default();
        };
        let mut watcher = PollWatcher::new(heard, config)?;
        watcher.watch(path, RecursiveMode::NonRecursive)?;
        Ok(Self {
            content: std::fs::read(path).ok(),
            path: path.to_owned(),
            events,
            heard: None,
            _watcher: watcher,
        })
    }

    /// Waits until the file has come to rest with another content.
    async fn changed(&mut self) {
        loop {
            match self.heard {
                None => {
                    if self.events.recv().await.is_none() {
                        return std::future::pending().await;
                    }
                    let now = Instant::now();
                    self.heard = Some((now, now));
                }
                Some((first, last)) => {
                    let rest = (last + QUIET).min(first + RESTLESS);
                    match tokio::time::timeout_at(rest, self.events.recv()).await {
                        Ok(_) => self.heard = Some((first, Instant::now())),
                        Err(_) => {
                            self.heard = None;
                            if self.look() {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Whether the content is another one than before. A file that is missing for a moment has
    /// not changed.
    fn look(&mut self) -> bool {
        let Ok(content) = std::fs::read(&self.path) else {
            return false;
        };
        let changed = self.content.as_ref() != Some(&content);
        self.content = Some(content);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn within(changes: &mut Changes, time: Duration) -> Option<Change> {
        tokio::time::timeout(time, changes.next()).await.ok()
    }

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_has_changed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postrider.toml");
        std::fs::write(&path, "one").unwrap();
        let mut changes = Changes::watch(Some(&path)).unwrap();

        // An editor: cut, then write in pieces.
        std::fs::write(&path, "").unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(within(&mut changes, SOON).await, Some(Change::File));

        let other = folder.path().join("new");
        std::fs::write(&other, "three").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(within(&mut changes, SOON).await, Some(Change::File));

        // Touched, and something beside it changed.
        std::fs::write(&path, "three").unwrap();
        std::fs::write(&other, "x").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(within(&mut changes, 2 * LOOK + 2 * QUIET).await, None);
    }
}
