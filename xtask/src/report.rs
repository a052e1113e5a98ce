//! The sections of a longer run: each has a header, its time, and its say in the last line.

use std::time::{Duration, Instant};

/// What has run so far.
pub(crate) struct Report {
    verb: &'static str,
    started: Instant,
    sections: Vec<Section>,
}

struct Section {
    name: &'static str,
    took: Duration,
    error: Option<anyhow::Error>,
}

impl Report {
    /// Nothing has run yet.
    pub(crate) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            started: Instant::now(),
            sections: Vec::new(),
        }
    }

    /// Runs a section. If it fails the others run nevertheless: one run shows everything.
    pub(crate) fn section(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> anyhow::Result<()>,
    ) -> bool {
        println!("\n== {name}");
        let started = Instant::now();
        let error = run().err();
        let took = started.elapsed();
        if let Some(error) = &error {
            println!("{error:#}");
        }
        let outcome = if error.is_none() { "ok" } else { "FAILED" };
        println!("== {name}: {outcome} ({})", seconds(took));
        let passed = error.is_none();
        self.sections.push(Section { name, took, error });
        passed
    }

    /// Prints each section's time and, last of all, one plain line.
    ///
    /// # Errors
    /// A section failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        println!();
        for section in &self.sections {
            let outcome = if section.error.is_none() {
                "ok"
            } else {
                "FAILED"
            };
            println!(
                "{:<24} {:>9}  {outcome}",
                section.name,
                seconds(section.took)
            );
        }
        let failed: Vec<_> = self
            .sections
            .iter()
            .filter(|section| section.error.is_some())
            .map(|section| section.name)
            .collect();
        let (verb, count) = (self.verb, self.sections.len());
        let took = seconds(self.started.elapsed());
        println!();
        if failed.is_empty() {
            println!("{verb}: all {count} sections passed in {took}");
            Ok(())
        } else {
            let failed_count = failed.len();
            anyhow::bail!(
                "{verb}: {failed_count} of {count} sections failed in {took}: {}",
                failed.join(", ")
            )
        }
    }
}

/// "12.3 s"
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
