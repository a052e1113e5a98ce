//! A configuration as a tree that remembers where each value came from.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the file, on this line.
    File(Arc<str>, usize),
    /// In this environment variable.
    Environment(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name, line) => write!(f, "{name}:{line}"),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    /// As it was written, e.g. "0x1f"; it is valid TOML.
    Integer(String),
    /// As it was written, e.g. "1e6"; it is valid TOML.
    Float(String),
    Boolean(bool),
    Datetime(Datetime),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) origin: Origin,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn empty_table(origin: Origin) -> Self {
        Self {
            origin,
            value: Value::Table(Vec::new()),
        }
    }

    pub(crate) fn text(origin: Origin, text: &str) -> Self {
        Self {
            origin,
            value: Value::Text(text.to_owned()),
        }
    }

    /// A parsed TOML value; `origin` turns a byte offset into a place.
    pub(crate) fn from_toml(value: Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Self {
        let here = origin(value.span().start);
        let value = match value.into_inner() {
            DeValue::Table(table) => return Self::from_table(here, table, origin),
            DeValue::Array(array) => Value::List(
                array
                    .into_iter()
                    .map(|element| Self::from_toml(element, origin))
                    .collect(),
            ),
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => Value::Integer(number.to_string()),
            DeValue::Float(number) => Value::Float(number.to_string()),
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(datetime) => Value::Datetime(datetime),
        };
        Self {
            origin: here,
            value,
        }
    }

    /// A parsed TOML table.
    pub(crate) fn from_table(
        here: Origin,
        table: DeTable<'_>,
        origin: &dyn Fn(usize) -> Origin,
    ) -> Self {
        let entries = table
            .into_iter()
            .map(|(key, value)| Entry {
                origin: origin(key.span().start),
                key: key.into_inner().into_owned(),
                node: Self::from_toml(value, origin),
            })
            .collect();
        Self {
            origin: here,
            value: Value::Table(entries),
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of `key`, made as an empty table if it is missing. A value that is no table
    /// becomes one.
    pub(crate) fn child(&mut self, key: &str, origin: &Origin) -> &mut Self {
        if !matches!(self.value, Value::Table(_)) {
            *self = Self::empty_table(origin.clone());
        }
        let Value::Table(entries) = &mut self.value else {
            unreachable!("it was made a table above");
        };
        let at = entries
            .iter()
            .position(|entry| entry.key == key)
            .unwrap_or_else(|| {
                entries.push(Entry {
                    key: key.to_owned(),
                    origin: origin.clone(),
                    node: Self::empty_table(origin.clone()),
                });
                entries.len() - 1
            });
        &mut entries[at].node
    }

    /// The origin of the key at a dotted path, or of the nearest table above it.
    pub(crate) fn origin_of(&self, path: &str) -> Option<&Origin> {
        let (mut node, mut origin) = (self, None);
        for key in path.split('.') {
            let Some(entry) = node.get(key) else { break };
            origin = Some(&entry.origin);
            node = &entry.node;
        }
        origin
    }

    /// The tree as TOML's deserializer takes it, each value marked by its number as its span.
    /// Numbers count values from the top, in order; see [`Node::remove`].
    pub(crate) fn numbered(&self) -> Spanned<DeValue<'_>> {
        number(self, &mut 0)
    }

    /// Takes out the value with this number. Tells where it was, by path from here, and its
    /// origin; `None` if it is the whole.
    pub(crate) fn remove(&mut self, number: usize) -> Option<(String, Origin)> {
        remove(self, number, &mut 0)
    }
}

fn number<'a>(node: &'a Node, next: &mut usize) -> Spanned<DeValue<'a>> {
    let here = *next;
    *next += 1;
    let value = match &node.value {
        Value::Text(text) => DeValue::String(Cow::Borrowed(text)),
        Value::Integer(number) | Value::Float(number) => DeValue::parse(number).map_or_else(
            |_| DeValue::String(Cow::Borrowed(number)),
            Spanned::into_inner,
        ),
        Value::Boolean(boolean) => DeValue::Boolean(*boolean),
        Value::Datetime(datetime) => DeValue::Datetime(*datetime),
        Value::List(elements) => {
            let mut array = toml::de::DeArray::new();
            for element in elements {
                array.push(number(element, next));
            }
            DeValue::Array(array)
        }
        Value::Table(entries) => {
            let mut table = DeTable::new();
            for entry in entries {
                // A key has its value's number: an error about either is about the entry.
                let key = Spanned::new(*next..*next + 1, Cow::Borrowed(entry.key.as_str()));
                let value = number(&entry.node, next);
                table.insert(key, value);
            }
            DeValue::Table(table)
        }
    };
    Spanned::new(here..here + 1, value)
}

fn remove(node: &mut Node, number: usize, next: &mut usize) -> Option<(String, Origin)> {
    *next += 1;
    match &mut node.value {
        Value::List(elements) => {
            for at in 0..elements.len() {
                if *next == number {
                    return Some((format!("[{at}]"), elements.remove(at).origin));
                }
                if let Some((path, origin)) = remove(&mut elements[at], number, next) {
                    return Some((join(&format!("[{at}]"), &path), origin));
                }
            }
            None
        }
        Value::Table(entries) => {
            for at in 0..entries.len() {
                if *next == number {
                    let entry = entries.remove(at);
                    return Some((entry.key, entry.origin));
                }
                if let Some((path, origin)) = remove(&mut entries[at].node, number, next) {
                    return Some((join(&entries[at].key, &path), origin));
                }
            }
            None
        }
        _ => None,
    }
}

/// A path one step down: "edge" and "limits" give "edge.limits", "listeners" and "\[0\]" "listeners\[0\]".
pub(crate) fn join(path: &str, step: &str) -> String {
    if path.is_empty() || step.starts_with('[') {
        format!("{path}{step}")
    } else {
        format!("{path}.{step}")
    }
}
