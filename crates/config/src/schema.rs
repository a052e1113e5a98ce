//! A JSON schema as this crate reads it: what `schemars` makes of our config structs.

use serde_json::{Map, Value};

/// A place in a schema, with the definitions that it may refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a> {
    root: &'a Value,
    here: &'a Value,
}

/// What a table may hold.
pub(crate) enum Keys<'a> {
    /// These keys and no others.
    Fixed(Vec<(&'a str, Schema<'a>)>),
    /// Any key, with values of this kind.
    Any(Schema<'a>),
}

impl<'a> Schema<'a> {
    pub(crate) fn new(root: &'a schemars::Schema) -> Self {
        Self {
            root: root.as_value(),
            here: root.as_value(),
        }
        .resolved()
    }

    fn at(self, here: &'a Value) -> Self {
        Self { here, ..self }.resolved()
    }

    /// Follows a reference to a definition, and looks through "or null", which TOML cannot say.
    fn resolved(self) -> Self {
        let mut schema = self;
        loop {
            if let Some(pointer) = schema.str("$ref").and_then(|r| r.strip_prefix('#')) {
                match schema.root.pointer(pointer) {
                    Some(target) => schema.here = target,
                    None => return schema,
                }
                continue;
            }
            let mut branches = schema.alternatives("anyOf").filter(|b| !is_null(b));
            match (branches.next(), branches.next()) {
                (Some(only), None) => schema.here = only,
                _ => return schema,
            }
        }
    }

    fn get(self, key: &str) -> Option<&'a Value> {
        self.here.get(key)
    }

    fn str(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    fn alternatives(self, key: &str) -> impl Iterator<Item = &'a Value> {
        self.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    }

    /// The doc comment.
    pub(crate) fn description(self) -> Option<&'a str> {
        self.str("description")
    }

    /// A finer name of the type, e.g. "period".
    pub(crate) fn format(self) -> Option<&'a str> {
        self.str("format")
    }

    /// The alternatives of an enum or an untagged choice; none if there is no choice.
    pub(crate) fn branches(self) -> Vec<Self> {
        self.alternatives("oneOf")
            .chain(self.alternatives("anyOf"))
            .filter(|branch| !is_null(branch))
            .map(|branch| self.at(branch))
            .collect()
    }

    /// The texts that are allowed here by name, each with its doc comment.
    pub(crate) fn words(self) -> Vec<(&'a str, Option<&'a str>)> {
        let own = self
            .str("const")
            .into_iter()
            .chain(self.alternatives("enum").filter_map(Value::as_str))
            .map(|word| (word, self.description()));
        own.chain(self.branches().into_iter().flat_map(Self::words))
            .collect()
    }

    /// JSON names of the types that are allowed here; none if anything is.
    pub(crate) fn types(self) -> Vec<&'a str> {
        let mut types: Vec<&str> = match self.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => self.branches().into_iter().flat_map(Self::types).collect(),
        };
        types.retain(|name| *name != "null");
        types.dedup();
        types
    }

    pub(crate) fn allows(self, kind: &str) -> bool {
        let types = self.types();
        types.is_empty() || types.contains(&kind)
    }

    /// Whether a value that was set may be unset again.
    pub(crate) fn is_optional(property: &Value) -> bool {
        let null = |v: &Value| v.as_str() == Some("null");
        property
            .get("type")
            .and_then(Value::as_array)
            .is_some_and(|types| types.iter().any(null))
            || property
                .get("anyOf")
                .and_then(Value::as_array)
                .is_some_and(|branches| branches.iter().any(is_null))
    }

    /// What a list's elements are.
    pub(crate) fn items(self) -> Option<Self> {
        self.get("items").map(|items| self.at(items))
    }

    /// What a table may hold, if this is one. A struct's keys are fixed even where its enum form
    /// makes serde ignore `deny_unknown_fields`.
    pub(crate) fn keys(self) -> Option<Keys<'a>> {
        match (self.properties(), self.get("additionalProperties")) {
            (Some(properties), _) => Some(Keys::Fixed(
                properties
                    .iter()
                    .map(|(key, schema)| (key.as_str(), self.at(schema)))
                    .collect(),
            )),
            (None, Some(any @ Value::Object(_))) => Some(Keys::Any(self.at(any))),
            (None, _) => None,
        }
    }

    /// A struct's keys as they are declared, unresolved.
    pub(crate) fn properties(self) -> Option<&'a Map<String, Value>> {
        self.get("properties").and_then(Value::as_object)
    }

    /// The schema of a property, and its own description and default, which stand beside the
    /// reference to its type.
    pub(crate) fn property(self, key: &str) -> Option<(Self, Option<&'a str>)> {
        let property = self.properties()?.get(key)?;
        let description = property.get("description").and_then(Value::as_str);
        Some((self.at(property), description))
    }

    /// Smallest and largest whole number that is allowed, as far as the type says.
    pub(crate) fn range(self) -> (Option<i128>, Option<i128>) {
        let number = |key| self.get(key).and_then(Value::as_f64).map(|n| n as i128);
        let (low, high): (Option<i128>, Option<i128>) = match self.format() {
            Some("uint8") => (Some(0), Some(u8::MAX.into())),
            Some("uint16") => (Some(0), Some(u16::MAX.into())),
            Some("uint32") => (Some(0), Some(u32::MAX.into())),
            Some("uint64" | "uint") => (Some(0), Some(i64::MAX.into())),
            Some("int32") => (Some(i32::MIN.into()), Some(i32::MAX.into())),
            _ => (None, None),
        };
        (number("minimum").or(low), number("maximum").or(high))
    }

    /// Whether values must not be shown.
    pub(crate) fn is_secret(self) -> bool {
        self.get("writeOnly") == Some(&Value::Bool(true))
    }

    /// The text that a key must have for this branch of a tagged enum to be meant.
    pub(crate) fn tag(self) -> Option<(&'a str, &'a str)> {
        self.properties()?.iter().find_map(|(key, schema)| {
            Some((key.as_str(), schema.get("const").and_then(Value::as_str)?))
        })
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}
