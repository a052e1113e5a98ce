//! What is wrong with a configuration.

use std::fmt;

/// Every problem of a configuration at once, each with its place: "postrider.toml:12: …", or the name of the
/// environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// The problems, if there are any.
    ///
    /// # Errors
    /// There are.
    pub fn unless_empty(mut problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        // As one meets them in the file; then what has no line.
        problems.sort_by_key(|problem| line(problem).unwrap_or(usize::MAX));
        problems.dedup();
        Err(Self { problems })
    }

    /// One problem.
    pub(crate) fn one(problem: impl fmt::Display) -> Self {
        Self {
            problems: vec![problem.to_string()],
        }
    }

    /// The problems, one each.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The line of "file:line: …".
fn line(problem: &str) -> Option<usize> {
    let (place, _) = problem.split_once(": ")?;
    place.rsplit_once(':')?.1.parse().ok()
}

/// Adds `; did you mean "…"?` if one of the known names is close.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const CLOSE: f64 = 0.75;
    let nearest = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= CLOSE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((_, nearest)) => format!("; did you mean \"{nearest}\"?"),
        None => String::new(),
    }
}
