//! The config file with the environment laid over it.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// What is wrong with a configuration, every problem at once, each with file and line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// A parsed config file, with the environment's values (`POSTRIDER__EDGE__HOSTNAME=…`) laid over it.
#[derive(Debug, Clone, Default)]
pub struct Document {
    table: toml::Table,
}

impl Document {
    /// Reads the file, if any, and this process' environment.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        Self::parse(&text)
    }

    /// A document from text, without the environment.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError(error.to_string()))?;
        Ok(Self { table })
    }

    /// One section, with defaults for what it leaves out.
    ///
    /// # Errors
    /// Unknown keys, wrong types, values out of range: all of them, with their lines.
    pub fn section<T: DeserializeOwned + JsonSchema + Default>(
        &self,
        name: &str,
    ) -> Result<T, ConfigError> {
        match self.table.get(name) {
            None => Ok(T::default()),
            Some(value) => value
                .clone()
                .try_into()
                .map_err(|error: toml::de::Error| ConfigError(format!("[{name}]: {error}"))),
        }
    }
}
