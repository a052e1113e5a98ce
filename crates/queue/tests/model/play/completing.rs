//! Attempts are reported.

use postrider_model::Verdict;
use postrider_queue::store::{Completed, Completion, StoreError};

use super::{Outcome, World, check};

impl World {
    pub(super) fn completed(
        &mut self,
        batch: &[Completion],
        each: &[Result<Completed, StoreError>],
    ) -> Outcome {
        check!(each.len() == batch.len(), "{} results", each.len());
        for (report, result) in batch.iter().zip(each) {
            let verdict = self.model.judge(report);
            let result = result.as_ref().map_err(ToString::to_string)?;
            let right = match verdict {
                Verdict::Done => *result == Completed::Done,
                Verdict::Stale => *result == Completed::Stale,
                Verdict::Repeated => true,
            };
            check!(
                right,
                "completion of {} under {}: {result:?}, not {verdict:?}",
                report.delivery,
                report.token
            );
            if *result == Completed::Stale {
                self.model.totals.stale += 1;
            }
            if verdict == Verdict::Done {
                self.model.complete(report);
            }
            self.completions.push(report.clone());
        }
        Ok(())
    }
}
