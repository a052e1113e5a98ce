//! A section against its schema: unknown keys, wrong types, words that are none of the allowed
//! ones, numbers out of range. Everything at once; what is wrong is taken out, so that the rest
//! can be read.

use crate::node::{Entry, Node, Origin, Value, join};
use crate::problem::did_you_mean;
use crate::schema::{Keys, Schema};

/// What a check has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<String>,
    /// Paths of what was taken out. What a table misses thereby is no problem of its own.
    pub(crate) taken_out: Vec<String>,
}

impl Findings {
    /// Records a problem for which the value at `path` is taken out.
    pub(crate) fn push(&mut self, origin: &Origin, path: &str, problem: &str) {
        self.problems.push(format!("{origin}: {path}: {problem}"));
        self.taken_out.push(path.to_owned());
    }

    /// Whether something was taken out of the value at `path`.
    pub(crate) fn is_torn(&self, path: &str) -> bool {
        let below = |taken: &String| {
            taken
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.taken_out.iter().any(below)
    }
}

/// Checks `node`, which stands at `path`, and takes out what is wrong. Says whether anything is left.
pub(crate) fn check(
    node: &mut Node,
    schema: Schema<'_>,
    path: &str,
    findings: &mut Findings,
) -> bool {
    if let Some(problem) = wrong_value(node, schema) {
        findings.push(&node.origin, path, &problem);
        return false;
    }
    match &mut node.value {
        Value::List(elements) => {
            if let Some(items) = schema.items() {
                let mut at = 0;
                elements.retain_mut(|element| {
                    let path = join(path, &format!("[{at}]"));
                    at += 1;
                    check(element, items, &path, findings)
                });
            }
            true
        }
        Value::Table(_) => check_table(node, schema, path, findings),
        _ => true,
    }
}

fn check_table(node: &mut Node, schema: Schema<'_>, path: &str, findings: &mut Findings) -> bool {
    let schema = match branch_of(node, schema) {
        Ok(schema) => schema,
        Err((origin, problem)) => {
            findings.push(&origin, path, &problem);
            return false;
        }
    };
    let Some(keys) = schema.keys() else {
        return true;
    };
    let Value::Table(entries) = &mut node.value else {
        return true;
    };
    entries.retain_mut(|entry| {
        let path = join(path, &entry.key);
        let known = match &keys {
            Keys::Any(schema) => return check(&mut entry.node, *schema, &path, findings),
            Keys::Fixed(known) => known,
        };
        if let Some((_, schema)) = known.iter().find(|(key, _)| *key == entry.key) {
            return check(&mut entry.node, *schema, &path, findings);
        }
        let nearest = did_you_mean(&entry.key, known.iter().map(|(key, _)| *key));
        findings.push(&entry.origin, &path, &format!("unknown key{nearest}"));
        false
    });
    true
}

/// Which form of an enum a table means: the one that its tag names, or whose only key it has.
fn branch_of<'a>(node: &Node, schema: Schema<'a>) -> Result<Schema<'a>, (Origin, String)> {
    let mut forms = schema.branches();
    forms.retain(|form| form.keys().is_some());
    let Some(first) = forms.first() else {
        return Ok(schema);
    };
    let known: Vec<&str> = forms
        .iter()
        .filter_map(|form| form.properties())
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    let unknown = node
        .entries()
        .iter()
        .find(|entry| !known.contains(&entry.key.as_str()));
    let unknown_key = |entry: &Entry, known: &[&str]| {
        let problem = format!("unknown key {}", no_such_word(&entry.key, known));
        (entry.origin.clone(), problem)
    };
    if let Some((tag, _)) = first.tag() {
        let words: Vec<_> = forms
            .iter()
            .filter_map(|form| Some(form.tag()?.1))
            .collect();
        return match (node.get(tag), unknown) {
            (Some(entry), _) => {
                let Value::Text(word) = &entry.node.value else {
                    let problem = format!("{tag} must be one of {}", list(&words));
                    return Err((entry.origin.clone(), problem));
                };
                let named = |form: &&Schema<'_>| form.tag() == Some((tag, word.as_str()));
                let problem = || format!("{tag}: {}", no_such_word(word, &words));
                forms
                    .iter()
                    .find(named)
                    .copied()
                    .ok_or_else(|| (entry.origin.clone(), problem()))
            }
            (None, Some(entry)) => Err(unknown_key(entry, &known)),
            (None, None) => Err((
                node.origin.clone(),
                format!("{tag} must say which: {}", list(&words)),
            )),
        };
    }
    let has_a_key_of = |form: &&Schema<'a>| match form.keys() {
        Some(Keys::Fixed(known)) => known.iter().any(|(key, _)| node.get(key).is_some()),
        _ => true,
    };
    match (forms.iter().find(has_a_key_of), unknown) {
        (Some(form), _) => Ok(*form),
        (None, Some(entry)) => Err(unknown_key(entry, &known)),
        (None, None) => Err((
            node.origin.clone(),
            format!("must be one of {}", list(&known)),
        )),
    }
}

/// What is wrong with a value as a whole, if anything is.
fn wrong_value(node: &Node, schema: Schema<'_>) -> Option<String> {
    let (kind, shown) = describe(&node.value);
    let fits = schema.allows(kind) || kind == "integer" && schema.allows("number");
    if !fits {
        let expected: Vec<_> = schema.types().into_iter().map(in_words).collect();
        return Some(format!("expected {}, found {shown}", expected.join(" or ")));
    }
    match &node.value {
        Value::Text(text) => {
            let words: Vec<_> = schema.words().into_iter().map(|(word, _)| word).collect();
            let free = schema.branches().is_empty() && words.is_empty()
                || schema
                    .branches()
                    .iter()
                    .any(|branch| branch.allows("string") && branch.words().is_empty());
            (!free && !words.contains(&text.as_str())).then(|| no_such_word(text, &words))
        }
        Value::Integer(text) => {
            let (low, high) = schema.range();
            let number: i128 = text.replace('_', "").parse().ok()?;
            let outside =
                low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high);
            outside.then(|| match (low, high) {
                (Some(low), Some(high)) => format!("{number} is not between {low} and {high}"),
                (Some(low), None) => format!("{number} is less than {low}"),
                (_, Some(high)) => format!("{number} is more than {high}"),
                (None, None) => format!("{number} is out of range"),
            })
        }
        _ => None,
    }
}

fn no_such_word(found: &str, words: &[&str]) -> String {
    let nearest = did_you_mean(found, words.iter().copied());
    format!("\"{found}\" is none of {}{nearest}", list(words))
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

/// JSON's name of a value's type, and a word for it. The value itself is not shown: it could be a
/// secret under the wrong key.
fn describe(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Text(_) => ("string", "text"),
        Value::Integer(_) => ("integer", "a whole number"),
        Value::Float(_) => ("number", "a number with a fraction"),
        Value::Boolean(_) => ("boolean", "true or false"),
        Value::Datetime(_) => ("string", "a date"),
        Value::List(_) => ("array", "a list"),
        Value::Table(_) => ("object", "a table"),
    }
}

/// A type's name as a person would say it.
pub(crate) fn in_words(kind: &str) -> &'static str {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => "something else",
    }
}
