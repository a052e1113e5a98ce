//! What every process of Postrider does alike, be it one service or all of them: where its config file
//! is ([`ConfigFile`]), how it stops ([`StopSignals`]), when it reads its settings again
//! ([`Changes`], [`reload`]), and how many files it may open ([`raise_open_files`]).

mod arguments;
mod changes;
mod open_files;
mod reload;
mod signals;

pub use arguments::ConfigFile;
pub use changes::{Change, Changes};
pub use open_files::raise_open_files;
pub use reload::{needs_restart, reload};
pub use signals::StopSignals;
