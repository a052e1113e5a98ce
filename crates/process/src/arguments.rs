//! The one thing that every process is told on its command line.

use std::path::PathBuf;

use clap::Args;

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The config file. Without one, defaults and the environment (POSTRIDER__EDGE__…) are used.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "POSTRIDER_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
}
