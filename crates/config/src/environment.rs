//! The environment's values, laid over a section. See the crate's page for the syntax.

use std::sync::Arc;

use toml::de::DeValue;

use crate::node::{Node, Origin, Value};
use crate::problem::did_you_mean;
use crate::schema::{Keys, Schema};

/// What all variables begin with.
pub(crate) const PREFIX: &str = "POSTRIDER__";

/// An environment variable that sets a value.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
}

impl Variable {
    /// The variables that are ours, in order of their names.
    pub(crate) fn ours(environment: impl Iterator<Item = (String, String)>) -> Vec<Self> {
        let mut ours: Vec<_> = environment
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, text)| Self {
                name: name.into(),
                text,
            })
            .collect();
        ours.sort_by(|one, other| one.name.cmp(&other.name));
        ours
    }

    /// The key's path, in lower case, the section first.
    pub(crate) fn path(&self) -> Vec<String> {
        self.name
            .get(PREFIX.len()..)
            .unwrap_or_default()
            .split("__")
            .map(str::to_lowercase)
            .collect()
    }

    /// Sets its value in `section`, whose schema says what it is.
    ///
    /// # Errors
    /// No such key, or the text is nothing of the kind; one problem.
    pub(crate) fn lay_over(&self, section: &mut Node, schema: Schema<'_>) -> Result<(), String> {
        let path = self.path();
        let origin = Origin::Environment(self.name.clone());
        set(section, schema, &path[1..], &self.text, &origin)
            .map_err(|problem| format!("{}: {problem}", self.name))
    }
}

fn set(
    node: &mut Node,
    schema: Schema<'_>,
    path: &[String],
    text: &str,
    origin: &Origin,
) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else {
        *node = parse(schema, text, origin)?;
        return Ok(());
    };
    if let (Some(items), Ok(index)) = (schema.items(), key.parse::<usize>()) {
        if !matches!(node.value, Value::List(_)) {
            node.value = Value::List(Vec::new());
            node.origin = origin.clone();
        }
        let Value::List(elements) = &mut node.value else {
            return Ok(());
        };
        if index > elements.len() {
            return Err(format!("there is no element {}", elements.len()));
        }
        if index == elements.len() {
            elements.push(Node::empty_table(origin.clone()));
        }
        return set(&mut elements[index], items, rest, text, origin);
    }
    let (inner, optional) = inside(schema, key)?;
    if rest.is_empty() && text.is_empty() && optional {
        if let Value::Table(entries) = &mut node.value {
            entries.retain(|entry| entry.key != *key);
        }
        return Ok(());
    }
    set(node.child(key, origin), inner, rest, text, origin)
}

/// The schema of a key, in whatever form of an enum has it, and whether it may be unset.
fn inside<'a>(schema: Schema<'a>, key: &str) -> Result<(Schema<'a>, bool), String> {
    let mut forms = schema.branches();
    forms.insert(0, schema);
    let mut known = Vec::new();
    for form in &forms {
        match form.keys() {
            Some(Keys::Any(inner)) => return Ok((inner, false)),
            Some(Keys::Fixed(keys)) => {
                if let Some((name, inner)) = keys.iter().find(|(name, _)| *name == key) {
                    let property = form.properties().and_then(|all| all.get(*name));
                    return Ok((*inner, property.is_some_and(Schema::is_optional)));
                }
                known.extend(keys.into_iter().map(|(name, _)| name));
            }
            None => {}
        }
    }
    let upper: Vec<_> = known.iter().map(|name| name.to_uppercase()).collect();
    let nearest = did_you_mean(&key.to_uppercase(), upper.iter().map(String::as_str));
    Err(format!("unknown key {}{nearest}", key.to_uppercase()))
}

/// The text as a value of this kind. A text that is none stays text, and the check says so.
fn parse(schema: Schema<'_>, text: &str, origin: &Origin) -> Result<Node, String> {
    let toml = |text: &str| {
        DeValue::parse(text)
            .map(|value| Node::from_toml(value, &|_| origin.clone()))
            .map_err(|error| error.message().to_owned())
    };
    let types = schema.types();
    let allows = |kind| types.contains(&kind);
    let trimmed = text.trim();
    if allows("array") && trimmed.starts_with('[') || allows("object") && trimmed.starts_with('{') {
        return toml(trimmed);
    }
    if allows("string") || types.is_empty() {
        return Ok(Node::text(origin.clone(), text));
    }
    if let Some(items) = schema.items().filter(|_| allows("array")) {
        let parts = trimmed.split(',').map(str::trim);
        let elements = parts
            .filter(|part| !part.is_empty())
            .map(|part| parse(items, part, origin))
            .collect::<Result<_, _>>()?;
        return Ok(Node {
            origin: origin.clone(),
            value: Value::List(elements),
        });
    }
    Ok(toml(trimmed).unwrap_or_else(|_| Node::text(origin.clone(), text)))
}
