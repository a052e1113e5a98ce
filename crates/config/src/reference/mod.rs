//! The reference of all sections, written from the structs themselves: their doc comments, types and
//! defaults. [`markdown`] is a page to read, [`sample`] a config file to start from, and [`dump`] is
//! what is in force.

mod markdown;
mod model;
mod sample;

use schemars::JsonSchema;
use serde::Serialize;

pub use markdown::markdown;
pub use sample::sample;

/// A section with what its struct says about it.
#[derive(Debug, Clone)]
pub struct Section {
    name: &'static str,
    schema: schemars::Schema,
    defaults: toml::Value,
}

impl Section {
    /// The section `name`, which a `T` holds.
    ///
    /// # Panics
    /// The default of `T` cannot be written as TOML; a test of the reference shows this.
    #[must_use]
    pub fn of<T: JsonSchema + Serialize + Default>(name: &'static str) -> Self {
        let defaults = match toml::Value::try_from(T::default()) {
            Ok(defaults) => defaults,
            Err(error) => panic!("the default of [{name}] is no TOML: {error}"),
        };
        Self {
            name,
            schema: schemars::schema_for!(T),
            defaults,
        }
    }
}

/// A section as it is in force, as TOML. Secrets are masked, also in addresses that hold a password.
///
/// # Errors
/// It cannot be written as TOML.
pub fn dump<T: Serialize>(name: &str, section: &T) -> Result<String, toml::ser::Error> {
    let mut value = toml::Value::try_from(section)?;
    mask(&mut value);
    let table = toml::Table::from_iter([(name.to_owned(), value)]);
    toml::to_string(&table)
}

/// Masks passwords in addresses such as "redis://user:password@host".
fn mask(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((user_info, host)) = rest.split_once('@')
                && !user_info.contains('/')
            {
                let user = user_info.split(':').next().unwrap_or_default();
                *text = format!("{scheme}://{user}:{}@{host}", crate::values::HIDDEN);
            }
        }
        toml::Value::Array(elements) => elements.iter_mut().for_each(mask),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask(value)),
        _ => {}
    }
}
