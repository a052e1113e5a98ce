//! Where the configuration comes from, to be read at the start and again at every reload.

use std::path::{Path, PathBuf};

use postrider_config::{ConfigError, Document};

use crate::settings::Settings;
use crate::tryout;

/// A config file, the try-out's own configuration, or the defaults; the environment over it.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// That of try-out mode.
    TryOut,
    /// None.
    Defaults,
}

impl Source {
    /// The source that the command line names.
    #[must_use]
    pub fn of(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Defaults, Self::File)
    }

    /// Try-out mode, if no file is named.
    #[must_use]
    pub fn or_tryout(self) -> Self {
        match self {
            Self::Defaults => Self::TryOut,
            other => other,
        }
    }

    /// Whether this is try-out mode.
    #[must_use]
    pub fn is_tryout(&self) -> bool {
        matches!(self, Self::TryOut)
    }

    /// The file, if there is one to watch.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::TryOut | Self::Defaults => None,
        }
    }

    /// Reads it with the environment laid over it, and checks it.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn read(&self) -> Result<Settings, ConfigError> {
        let document = match self {
            Self::TryOut => {
                let mut document = Document::parse(tryout::CONFIG)?;
                // A variable that is not Unicode is none of ours.
                document.lay_over(std::env::vars_os().filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                }));
                document
            }
            other => Document::load(other.path())?,
        };
        Settings::read(&document)
    }
}
