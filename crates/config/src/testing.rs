//! For the tests of config structs.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::Document;
use crate::schema::{Keys, Schema};

/// Renames each key of `example` in turn, a whole config file of which the section `section` is a
/// `T`, and makes sure that the loader objects, names the key and its line, and knows the right name. Some
/// forms of enums make serde ignore `deny_unknown_fields`: this shows that no key gets past us.
///
/// # Panics
/// The example itself is not accepted, has no keys in the section, or a wrong key is accepted.
pub fn every_key_is_checked<T: DeserializeOwned + JsonSchema + Default>(
    section: &str,
    example: &str,
) {
    let read = |text: &str| Document::parse(text).and_then(|d| d.section::<T>(section));
    if let Err(error) = read(example) {
        panic!("the example is not accepted:\n{error}");
    }
    let schema = schemars::schema_for!(T);
    let mut known = BTreeSet::new();
    collect(Schema::new(&schema), &mut known);
    let lines: Vec<&str> = example.lines().collect();
    let mut renamed = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, rest)) = line.split_once(" = ") else {
            continue;
        };
        if !known.contains(key) || !in_section(&lines[..at], section) {
            continue;
        }
        let wrong = format!("{key}x");
        let mut changed = lines.clone();
        let replaced = format!("{wrong} = {rest}");
        changed[at] = &replaced;
        match read(&changed.join("\n")) {
            Ok(_) => panic!("line {}: {wrong} is accepted", at + 1),
            Err(error) => {
                let error = error.to_string();
                let place = format!("postrider.toml:{}: ", at + 1);
                assert!(
                    error.contains(&place) && error.contains(&wrong) && error.contains(key),
                    "line {}: {error}",
                    at + 1
                );
            }
        }
        renamed += 1;
    }
    assert!(renamed > 0, "the example has no keys in [{section}]");
}

/// Whether the last header of the lines is of this section.
fn in_section(lines: &[&str], section: &str) -> bool {
    let header = lines.iter().rev().find(|line| line.starts_with('['));
    header
        .map(|line| line.trim_matches(['[', ']']))
        .is_some_and(|name| name == section || name.starts_with(&format!("{section}.")))
}

/// Names of all keys of structs, however deep.
fn collect(schema: Schema<'_>, known: &mut BTreeSet<String>) {
    let inner: Vec<_> = match schema.keys() {
        Some(Keys::Fixed(keys)) => keys
            .into_iter()
            .filter(|(key, _)| known.insert((*key).to_owned()))
            .map(|(_, schema)| schema)
            .collect(),
        Some(Keys::Any(schema)) => vec![schema],
        None => Vec::new(),
    };
    for schema in inner
        .into_iter()
        .chain(schema.items())
        .chain(schema.branches())
    {
        collect(schema, known);
    }
}
