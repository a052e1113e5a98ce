//! What there is to say about a section, in order, however it is written then.

use super::Section;
use crate::node::join;
use crate::schema::{Keys, Schema};

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// "edge.limits"
    pub(super) path: String,
    pub(super) shape: Shape,
    pub(super) doc: String,
    /// The forms that it may have; more than one for an enum.
    pub(super) forms: Vec<Form>,
    /// `None` if it is absent unless it is set.
    pub(super) default: Option<toml::Value>,
}

/// How often the table may stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Once,
    /// `[[path]]`
    List,
    /// `[path.NAME]`
    Map,
}

/// The keys of one form of a table.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) doc: String,
    /// The key and the word by which the form is chosen.
    pub(super) tag: Option<(String, String)>,
    pub(super) keys: Vec<Key>,
}

/// A key that holds a value, not a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) doc: String,
    /// "whole number", "list of text".
    pub(super) kind: String,
    /// The words that it may be, with their meaning.
    pub(super) words: Vec<(String, String)>,
    /// `None` if it is unset.
    pub(super) default: Option<toml::Value>,
}

/// The tables of a section, itself first.
pub(super) fn tables(section: &Section) -> Vec<Table> {
    let mut tables = Vec::new();
    add(
        Schema::new(&section.schema),
        section.name,
        None,
        Some(&section.defaults),
        &mut tables,
    );
    tables
}

fn add(
    schema: Schema<'_>,
    path: &str,
    doc: Option<&str>,
    default: Option<&toml::Value>,
    tables: &mut Vec<Table>,
) {
    let doc = doc.or(schema.description()).unwrap_or_default().to_owned();
    let (shape, inner) = match (schema.items(), schema.keys()) {
        (Some(items), _) => (Shape::List, items),
        (None, Some(Keys::Any(inner))) => (Shape::Map, inner),
        _ => (Shape::Once, schema),
    };
    let at = tables.len();
    tables.push(Table {
        path: path.to_owned(),
        shape,
        doc,
        forms: Vec::new(),
        default: default.cloned(),
    });
    let default = default.filter(|_| shape == Shape::Once);
    let below = match shape {
        Shape::Map => join(path, "NAME"),
        Shape::Once | Shape::List => path.to_owned(),
    };
    let mut schemas = inner.branches();
    schemas.retain(|form| form.keys().is_some());
    if schemas.is_empty() {
        schemas.push(inner);
    }
    let forms = schemas
        .into_iter()
        .map(|schema| form(schema, &below, default, tables))
        .collect();
    tables[at].forms = forms;
}

fn form(
    schema: Schema<'_>,
    path: &str,
    default: Option<&toml::Value>,
    tables: &mut Vec<Table>,
) -> Form {
    let tag = schema.tag();
    let mut keys = Vec::new();
    let names = schema.properties().into_iter().flat_map(|p| p.keys());
    for name in names {
        let Some((inner, doc)) = schema.property(name) else {
            continue;
        };
        if tag.is_some_and(|(tag, _)| tag == name) {
            continue;
        }
        let default = default.and_then(|default| default.get(name));
        if is_table(inner) {
            add(inner, &join(path, name), doc, default, tables);
        } else {
            keys.push(Key {
                name: name.clone(),
                doc: doc.or(inner.description()).unwrap_or_default().to_owned(),
                kind: kind(inner),
                words: words(inner),
                default: default.cloned(),
            });
        }
    }
    Form {
        doc: schema.description().unwrap_or_default().to_owned(),
        tag: tag.map(|(key, word)| (key.to_owned(), word.to_owned())),
        keys,
    }
}

/// Whether it is written as a table of its own.
fn is_table(schema: Schema<'_>) -> bool {
    let holds_keys = |schema: Schema<'_>| {
        schema.keys().is_some() || schema.branches().iter().any(|form| form.keys().is_some())
    };
    holds_keys(schema) || schema.items().is_some_and(holds_keys)
}

fn words(schema: Schema<'_>) -> Vec<(String, String)> {
    let schema = schema.items().unwrap_or(schema);
    schema
        .words()
        .into_iter()
        .map(|(word, doc)| (word.to_owned(), doc.unwrap_or_default().to_owned()))
        .collect()
}

fn kind(schema: Schema<'_>) -> String {
    if let Some(items) = schema.items() {
        return format!("list of {}", kind(items));
    }
    if !schema.words().is_empty() {
        return "one of the words below".to_owned();
    }
    if schema.is_secret() {
        return "secret".to_owned();
    }
    let named = match schema.format() {
        Some("period") => Some("length of time"),
        Some("size") => Some("size"),
        Some("ip") => Some("IP address"),
        _ => None,
    };
    named.map_or_else(
        || {
            let kinds: Vec<_> = schema
                .types()
                .into_iter()
                .map(|name| crate::check::in_words(name).trim_start_matches("a "))
                .collect();
            kinds.join(" or ")
        },
        str::to_owned,
    )
}
