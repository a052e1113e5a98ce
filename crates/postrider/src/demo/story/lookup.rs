//! Phase 2: Bob's server asks DNS where mail for Alice's domain goes.

use anyhow::bail;
use postrider_nameserver::Lookup;
use postrider_protocol::queue_v1::Attempt;
use tokio::sync::mpsc;

use super::{Story, unix_us};
use crate::demo::lanes;
use crate::diagram::{Row, Tone, Wire};

impl Story<'_> {
    pub(super) async fn lookup(
        &mut self,
        attempt: &Attempt,
        lookups: &mut mpsc::UnboundedReceiver<Lookup>,
    ) -> anyhow::Result<()> {
        self.stage
            .phase(
                2,
                "Bob's server looks for Alice's",
                "The queue leases the delivery to a worker at once; nothing polls. The worker asks \
                 DNS which host takes mail for the domain (MX), and for that host's address \
                 (RFC 5321 section 5.1).",
                &[lanes::BOB_QUEUE, lanes::BOB_DELIVERY, lanes::DNS],
            )
            .await?;
        let mut rows = vec![
            Row::arrow(
                lanes::BOB_QUEUE,
                lanes::BOB_DELIVERY,
                Wire::Inside,
                format!("lease: one delivery to {}", attempt.destination),
            )
            .at(self.time(attempt.started_us)),
        ];
        while let Ok(lookup) = lookups.try_recv() {
            let answer = if lookup.answers.is_empty() {
                "no such record".to_owned()
            } else {
                lookup.answers.join(", ")
            };
            rows.push(
                Row::arrow(
                    lanes::BOB_DELIVERY,
                    lanes::DNS,
                    Wire::Plain,
                    format!("{}?", lookup.question),
                )
                .at(self.time(unix_us(lookup.asked))),
            );
            rows.push(
                Row::arrow(lanes::DNS, lanes::BOB_DELIVERY, Wire::Plain, answer)
                    .tone(Tone::Good)
                    .at(self.time(unix_us(lookup.answered))),
            );
        }
        self.stage.rows(&rows).await?;
        if rows.len() < 2 {
            bail!("Bob's server did not ask DNS");
        }
        Ok(())
    }
}
