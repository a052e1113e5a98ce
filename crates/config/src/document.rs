//! The config file with the environment laid over it.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, ValueDeserializer};

use crate::check::{Findings, check};
use crate::environment::Variable;
use crate::node::{Node, Origin, join};
use crate::problem::{ConfigError, did_you_mean};
use crate::schema::Schema;

/// Every section that a config file may have. Each process reads those that concern it.
pub const SECTIONS: &[&str] = &[
    "server",
    "tls",
    "services",
    "telemetry",
    "edge",
    "queue",
    "delivery",
    "mailbox",
];

/// More problems than these are not collected.
const MOST_PROBLEMS: usize = 100;

/// A parsed config file, with the environment's values (`POSTRIDER__EDGE__HOSTNAME=…`) laid over it.
#[derive(Debug, Clone)]
pub struct Document {
    root: Node,
    variables: Vec<Variable>,
    /// Problems of the document as a whole.
    problems: Vec<String>,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            root: Node::empty_table(Origin::File("the defaults".into(), 0)),
            variables: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Document {
    /// Reads the file, if any, and this process' environment.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut document = match path {
            None => Self::default(),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::one(format!("{name}: {error}")))?;
                Self::parse_named(&name, &text)?
            }
        };
        // A variable that is not Unicode is none of ours, or has a value that nothing takes.
        let environment = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        document.lay_over(environment);
        Ok(document)
    }

    /// A document from text, without the environment.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::parse_named("postrider.toml", text)
    }

    fn parse_named(name: &str, text: &str) -> Result<Self, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let name: Arc<str> = name.into();
        let lines = Lines::new(text);
        let origin = |offset| Origin::File(name.clone(), lines.of(offset));
        ConfigError::unless_empty(
            errors
                .iter()
                .map(|error| {
                    let place = origin(error.span().map_or(0, |span| span.start));
                    format!("{place}: {}", error.message().replace('\n', ", "))
                })
                .collect(),
        )?;
        let mut document = Self {
            root: Node::from_table(origin(0), table.into_inner(), &origin),
            ..Self::default()
        };
        for entry in document.root.entries() {
            if !SECTIONS.contains(&entry.key.as_str()) {
                let nearest = did_you_mean(&entry.key, SECTIONS.iter().copied());
                document.problems.push(format!(
                    "{}: {}: unknown section{nearest}",
                    entry.origin, entry.key
                ));
            }
        }
        Ok(document)
    }

    /// Lays variables over the document, the names with their `POSTRIDER__`.
    pub fn lay_over(&mut self, environment: impl Iterator<Item = (String, String)>) {
        let variables = Variable::ours(environment);
        for variable in &variables {
            let section = variable.path().swap_remove(0);
            if !SECTIONS.contains(&section.as_str()) {
                let upper: Vec<_> = SECTIONS.iter().map(|name| name.to_uppercase()).collect();
                let nearest =
                    did_you_mean(&section.to_uppercase(), upper.iter().map(String::as_str));
                let name = &variable.name;
                self.problems.push(format!(
                    "{name}: there is no section {}{nearest}",
                    section.to_uppercase()
                ));
            }
        }
        self.variables.extend(variables);
    }

    /// One section, with defaults for what it leaves out.
    ///
    /// # Errors
    /// Unknown keys, wrong types, values out of range: all of them, with their lines. Also
    /// unknown sections, which nobody else would report.
    pub fn section<T: DeserializeOwned + JsonSchema + Default>(
        &self,
        name: &str,
    ) -> Result<T, ConfigError> {
        let mut reader = self.reader();
        let section = reader.section(name, |_| Vec::new());
        reader.finish()?;
        Ok(section)
    }

    /// Reads several sections and collects the problems of all.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            document: self,
            problems: self.problems.clone(),
        }
    }
}

/// Reads sections and collects the problems of all of them.
pub struct Reader<'a> {
    document: &'a Document,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// Reads one section. What is wrong in it has its default, and [`Reader::finish`] tells.
    ///
    /// `validate` finds what types cannot say: problems that begin with the key's path and a
    /// colon, e.g. "edge.limits.recipients: …". They get the line of that key.
    pub fn section<T: DeserializeOwned + JsonSchema + Default>(
        &mut self,
        name: &str,
        validate: impl FnOnce(&T) -> Vec<String>,
    ) -> T {
        let schema = schemars::schema_for!(T);
        let schema = Schema::new(&schema);
        let root = &self.document.root;
        let mut section = root.get(name).map_or_else(
            || Node::empty_table(root.origin.clone()),
            |e| e.node.clone(),
        );
        for variable in &self.document.variables {
            if variable.path()[0] == name
                && let Err(problem) = variable.lay_over(&mut section, schema)
            {
                self.problems.push(problem);
            }
        }
        let whole = section.clone();
        let mut findings = Findings::default();
        let value = if check(&mut section, schema, name, &mut findings) {
            read(&mut section, name, &mut findings)
        } else {
            None
        };
        self.problems.append(&mut findings.problems);
        let Some(value) = value else {
            return T::default();
        };
        for problem in validate(&value) {
            self.problems.push(located(&problem, name, &whole));
        }
        value
    }

    /// All problems so far.
    ///
    /// # Errors
    /// There are some.
    pub fn finish(self) -> Result<(), ConfigError> {
        ConfigError::unless_empty(self.problems)
    }
}

/// Reads a section as often as it takes to find every value that does not parse.
fn read<T: DeserializeOwned>(section: &mut Node, name: &str, findings: &mut Findings) -> Option<T> {
    while findings.problems.len() < MOST_PROBLEMS {
        let error = match T::deserialize(ValueDeserializer::from(section.numbered())) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let number = error.span().map_or(0, |span| span.start);
        let removed = section.remove(number);
        let (path, origin) = match &removed {
            Some((path, origin)) => (join(name, path), origin),
            None => (name.to_owned(), &section.origin),
        };
        if !findings.is_torn(&path) {
            findings.push(origin, &path, error.message());
        }
        removed?;
    }
    None
}

/// A problem that begins with a key's path, with the place of that key in front.
fn located(problem: &str, name: &str, section: &Node) -> String {
    let path = problem.split(": ").next().unwrap_or_default();
    let inside = path.strip_prefix(name).and_then(|p| p.strip_prefix('.'));
    match inside.and_then(|path| section.origin_of(path)) {
        Some(origin) => format!("{origin}: {problem}"),
        None => problem.to_owned(),
    }
}

/// Line numbers of byte offsets.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let after_newline = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(after_newline).collect(),
        }
    }

    /// The line, from 1, that holds the byte at `offset`.
    fn of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}
