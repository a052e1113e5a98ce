//! Does an operation to the store and to the model, and compares.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::queue_v1::{
    Attempt, Body, Envelope, Filter, JourneyEvent, LeasedDelivery, NewMessage, Origin, OutcomeKind,
    Received, Recipient, RecipientOutcome, body, delivery_status, journey_event,
};
use postrider_protocol::{DeliveryId, Destination, QueueId};
use postrider_queue::store::{Act, By, Completed, Completion, Enqueued, LeaseRequest, Store};

use crate::invariant;
use crate::model::{Event, Lease, Model, State, Verdict, micros};
use crate::operation::{FilterSpec, NewSpec, Operation, ReportSpec, Twist};
use crate::subject::{BEGIN_US, Subject};

type Outcome<T = ()> = Result<T, String>;

macro_rules! check {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

/// One history in play.
pub(crate) struct Play<'a> {
    subject: &'a mut dyn Subject,
    pub(crate) model: Model,
    /// Tokens that were granted, dead or alive.
    tokens: Vec<u64>,
    /// Completions that were made.
    completions: Vec<Completion>,
}

pub(crate) fn destination(domain: u8) -> Destination {
    let transport = if domain == 3 { "mailbox" } else { "smtp" };
    Destination::new(transport, &format!("d{domain}.test"))
}

fn address(user: u8, domain: u8) -> String {
    format!("u{user}@d{domain}.test")
}

fn sender(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!("Sender{number}@example.org"),
    }
}

fn message_id(number: u8) -> String {
    match number {
        0 => String::new(),
        number => format!("m{number}@example.org"),
    }
}

fn build(spec: &NewSpec) -> NewMessage {
    let id = QueueId::from_u128(spec.id);
    let content = match spec.stored {
        Some(name) => body::Content::Stored(format!("body-{name}")),
        None => body::Content::Inline(Bytes::from(format!("Content of {id}.\r\n"))),
    };
    NewMessage {
        queue_id: id.to_string(),
        envelope: Some(Envelope {
            reverse_path: sender(spec.sender),
            recipients: spec
                .recipients
                .iter()
                .map(|(user, domain)| Recipient {
                    address: address(*user, *domain),
                    destination: destination(*domain).to_string(),
                    dsn_orcpt: format!("rfc822;u{user}"),
                    dsn_notify: 4,
                })
                .collect(),
            eight_bit_mime: true,
            ..Envelope::default()
        }),
        body: Some(Body {
            size: 40,
            content: Some(content),
        }),
        message_id: message_id(spec.message_id),
        traceparent: format!("00-{:032x}-00000000000000aa-01", spec.id),
        origin: Some(Origin {
            role: "mx".to_owned(),
            ..Origin::default()
        }),
        events: vec![JourneyEvent {
            time_us: BEGIN_US,
            instance: "edge@model".to_owned(),
            what: Some(journey_event::What::Received(Received::default())),
        }],
    }
}

impl<'a> Play<'a> {
    pub(crate) fn new(subject: &'a mut dyn Subject) -> Self {
        let model = Model::new(subject.settings(), BEGIN_US);
        Self {
            subject,
            model,
            tokens: Vec::new(),
            completions: Vec::new(),
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.subject.store()
    }

    fn token(&self, which: usize) -> u64 {
        // Now and then a token that was never given.
        match self.tokens.len() {
            0 => 999,
            count => self.tokens[count - 1 - which % count],
        }
    }

    fn known(&self, which: usize) -> Option<QueueId> {
        let known = &self.model.accepted;
        (!known.is_empty()).then(|| known[which % known.len()])
    }

    pub(crate) async fn step(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Enqueue(specs) => {
                self.enqueue(specs.iter().map(build).collect()).await?;
            }
            Operation::EnqueueAgain(which, new) => {
                let again = which
                    .iter()
                    .filter_map(|which| self.known(*which))
                    .filter(|id| !self.model.may_be_forgotten(*id))
                    .map(|id| self.model.messages[&id].new.clone());
                let mut messages: Vec<_> = again.collect();
                let new = build(new);
                messages.push(new.clone());
                messages.push(new);
                self.enqueue(messages).await?;
            }
            Operation::Lease {
                worker,
                slots,
                grants,
                transports,
            } => self.lease(*worker, *slots, *grants, *transports).await?,
            Operation::Pull { lease, most } => self.pull(self.token(*lease), *most).await?,
            Operation::Renew(which) => self.renew(which).await?,
            Operation::GiveBack(which) => {
                let tokens: Vec<u64> = which.iter().map(|which| self.token(*which)).collect();
                self.store()
                    .give_back(tokens.clone())
                    .await
                    .map_err(|error| error.to_string())?;
                for token in tokens {
                    self.model.give_back(token);
                }
            }
            Operation::Complete(specs) => {
                let reports = self.reports(specs);
                self.complete(reports).await?;
            }
            Operation::CompleteAgain(which) => {
                if !self.completions.is_empty() {
                    let again = self.completions[which % self.completions.len()].clone();
                    // Without its attempt's number a repeated report cannot be told from a new one.
                    if again.attempt.number != 0 {
                        self.complete(vec![again]).await?;
                    }
                }
            }
            Operation::Expire => self.expire().await?,
            Operation::Act {
                act,
                filter,
                preview,
            } => self.act(*act, filter, *preview).await?,
            Operation::List { filter, page } => self.list(filter, *page).await?,
            Operation::Find(number) => self.find(*number).await?,
            Operation::Bodies { forget } => self.bodies(*forget).await?,
            Operation::Advance { ms } => {
                let by = Duration::from_millis(*ms);
                self.subject.advance(by).await;
                self.model.now_us += micros(by);
            }
            Operation::Crash(how) => {
                self.subject.crash(*how).await;
                self.adopt().await?;
            }
            Operation::Faulty(operation) => self.faulty(operation).await?,
        }
        self.compare().await
    }

    async fn enqueue(&mut self, messages: Vec<NewMessage>) -> Outcome {
        let results = self.store().enqueue(messages.clone()).await;
        check!(results.len() == messages.len(), "{} results", results.len());
        for (message, result) in messages.iter().zip(results) {
            let wanted = match self.model.enqueue(message) {
                true => Enqueued::Accepted,
                false => Enqueued::AlreadyAccepted,
            };
            check!(
                matches!(&result, Ok(got) if *got == wanted),
                "enqueue of {}: {result:?}, not {wanted:?}",
                message.queue_id
            );
        }
        Ok(())
    }

    /// Whether what was asked for while things failed was done or not, nobody said: both are right,
    /// but it must be one of them as a whole.
    async fn faulty(&mut self, operation: &Operation) -> Outcome {
        let mut done = self.model.clone();
        let store = self.store();
        let refused = match operation {
            Operation::Enqueue(specs) => {
                let messages: Vec<NewMessage> = specs.iter().map(build).collect();
                for message in &messages {
                    done.enqueue(message);
                }
                self.subject.break_down(0).await;
                store.enqueue(messages).await.iter().any(Result::is_err)
            }
            Operation::Complete(specs) => {
                let reports = self.reports(specs);
                for report in &reports {
                    match done.judge(report) {
                        Verdict::Done => done.complete(report),
                        Verdict::Stale | Verdict::Repeated => done.totals.stale += 1,
                    }
                }
                self.subject.break_down(1).await;
                store.complete(reports).await.iter().any(Result::is_err)
            }
            other => return Err(format!("{other:?} cannot be faulty")),
        };
        drop(store);
        self.subject.mend().await;
        let undone = self.model.clone();
        let mut problems = Vec::new();
        // What was answered must be done.
        let candidates = match refused {
            true => vec![undone, done],
            false => vec![done],
        };
        for candidate in candidates {
            self.model = candidate;
            let fits = async {
                self.adopt().await?;
                self.compare().await
            };
            match fits.await {
                Ok(()) => return Ok(()),
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("\nnor: "))
    }

    async fn lease(&mut self, worker: u8, slots: u32, most: usize, transports: u8) -> Outcome {
        let request = LeaseRequest {
            worker: format!("w{worker}"),
            transports: match transports {
                0 => vec!["smtp".to_owned(), "mailbox".to_owned()],
                1 => vec!["smtp".to_owned()],
                _ => vec!["mailbox".to_owned()],
            },
            slots,
        };
        let grants = self
            .store()
            .lease(request.clone(), most)
            .await
            .map_err(|error| error.to_string())?;
        self.model.expire();
        check!(grants.len() <= most, "{} grants of {most}", grants.len());
        let limit = self.model.settings.slots_per_destination;
        let (mut left, mut oldest_granted) = (slots, 0);
        let before = self.model.clone();
        for grant in &grants {
            let to = &grant.destination;
            check!(
                request.transports.iter().any(|name| name == to.transport()),
                "{to} was not asked for"
            );
            let due = before.due(to);
            let held = before
                .leases
                .iter()
                .find(|(_, lease)| lease.worker == request.worker && lease.destination == *to);
            let had = held.map_or(0, |(_, lease)| lease.slots);
            check!(
                grant.slots > had,
                "{grant:?} gives nothing, {had} slots before"
            );
            let added = grant.slots - had;
            check!(
                added <= left,
                "{grant:?} is more than the {left} that are left"
            );
            left -= added;
            check!(
                added as usize <= due.len(),
                "{grant:?} for {} due",
                due.len()
            );
            check!(
                before.slots_in_use(to) + added <= limit,
                "{grant:?} beyond the limit, {} in use",
                before.slots_in_use(to)
            );
            oldest_granted = oldest_granted.max(due[0]);
            match held {
                Some((token, _)) => {
                    check!(grant.token == *token, "{grant:?}, but {token} is held");
                    self.model.leases.get_mut(token).unwrap().slots = grant.slots;
                }
                None => {
                    invariant::token_is_new(self.model.last_token, grant.token)?;
                    self.model.last_token = grant.token;
                    self.tokens.push(grant.token);
                    self.model.leases.insert(
                        grant.token,
                        Lease {
                            worker: request.worker.clone(),
                            destination: to.clone(),
                            slots: grant.slots,
                            expires_us: self.model.now_us + micros(self.model.settings.lease),
                        },
                    );
                }
            }
        }
        let leases = self.model.leases.values();
        invariant::one_lease_each(
            leases.map(|lease| (lease.worker.as_str(), lease.destination.as_str())),
        )?;
        // A destination that nobody has is not passed over, unless longer waiting ones took it all.
        for domain in 0..4 {
            let to = destination(domain);
            let due = before.due(&to);
            let passed_over = request.transports.iter().any(|name| name == to.transport())
                && !due.is_empty()
                && before.slots_in_use(&to) == 0
                && !grants.iter().any(|grant| grant.destination == to);
            let full = left == 0 || grants.len() == most;
            check!(
                !passed_over || (full && due[0] >= oldest_granted),
                "{to} was passed over: {grants:?}, {left} slots left"
            );
        }
        Ok(())
    }

    async fn pull(&mut self, token: u64, most: usize) -> Outcome {
        let pulled = self
            .store()
            .pull(token, most)
            .await
            .map_err(|error| error.to_string())?;
        let live = self.model.is_live(token);
        check!(
            pulled.is_some() == live,
            "pull under {token}: {pulled:?}, live: {live}"
        );
        let Some(pulled) = pulled else {
            return Ok(());
        };
        let to = self.model.leases[&token].destination.clone();
        let mut due = self.model.due(&to);
        due.truncate(most);
        let got: Vec<u64> = pulled.iter().map(|delivery| delivery.due_us).collect();
        check!(got == due, "pulled what was due at {got:?}, not {due:?}");
        for delivery in pulled {
            let id: DeliveryId = delivery
                .delivery_id
                .parse()
                .map_err(|_| "no id".to_owned())?;
            let state = self.model.delivery(id).map(|delivery| delivery.state);
            check!(
                state == Some(State::Waiting),
                "{id} was pulled, but is {state:?}"
            );
            let wanted = self.leased(id, token);
            check!(delivery == wanted, "pulled {delivery:#?}\nnot {wanted:#?}");
            self.model.take(id, token);
        }
        Ok(())
    }

    /// What a worker must get.
    fn leased(&self, id: DeliveryId, token: u64) -> LeasedDelivery {
        let message = &self.model.messages[&id.queue_id];
        let delivery = self.model.delivery(id).unwrap();
        let mut open = delivery.open.clone();
        let mut envelope = message.new.envelope.clone().unwrap();
        envelope.recipients.retain(|recipient| {
            let at = open
                .iter()
                .position(|address| *address == recipient.address);
            let at = at.filter(|_| recipient.destination == delivery.destination.as_str());
            at.map(|at| open.remove(at)).is_some()
        });
        LeasedDelivery {
            delivery_id: id.to_string(),
            token,
            queue_id: id.queue_id.to_string(),
            destination: delivery.destination.to_string(),
            disposition: self.model.disposition(id).into(),
            attempt: delivery.attempts + 1,
            envelope: Some(envelope),
            body: message.new.body.clone(),
            message_id: message.new.message_id.clone(),
            traceparent: message.new.traceparent.clone(),
            accepted_us: message.accepted_us,
            expires_us: message.accepted_us + micros(self.model.settings.lifetime),
            last_outcomes: last_outcomes(delivery),
            origin: message.new.origin.clone(),
            due_us: delivery.due_us,
        }
    }

    async fn renew(&mut self, which: &[usize]) -> Outcome {
        let mut tokens: Vec<u64> = which.iter().map(|which| self.token(*which)).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens.push(u64::from(u32::MAX) << 10);
        let mut stale = self
            .store()
            .renew(tokens.clone())
            .await
            .map_err(|error| error.to_string())?;
        stale.sort_unstable();
        let wanted: Vec<u64> = tokens
            .iter()
            .copied()
            .filter(|token| !self.model.is_live(*token))
            .collect();
        check!(
            stale == wanted,
            "renew of {tokens:?}: stale {stale:?}, not {wanted:?}"
        );
        let expires_us = self.model.now_us + micros(self.model.settings.lease);
        for token in tokens {
            if self.model.is_live(token) {
                self.model.leases.get_mut(&token).unwrap().expires_us = expires_us;
            }
        }
        Ok(())
    }

    /// Completions for what is leased, some of them wrong.
    fn reports(&self, specs: &[ReportSpec]) -> Vec<Completion> {
        let leased: Vec<(DeliveryId, u64, u32, Vec<String>)> = self
            .model
            .open()
            .filter_map(|(id, delivery)| match delivery.state {
                State::Leased(token) => {
                    Some((id, token, delivery.attempts + 1, delivery.open.clone()))
                }
                _ => None,
            })
            .collect();
        if leased.is_empty() {
            return Vec::new();
        }
        let reports = specs.iter().map(|spec| {
            let (delivery, mut token, mut number, open) = leased[spec.which % leased.len()].clone();
            let mut outcomes: Vec<RecipientOutcome> = open
                .iter()
                .enumerate()
                .filter_map(|(at, address)| {
                    let kind = match spec.outcomes[at % spec.outcomes.len()] {
                        0 => OutcomeKind::Delivered,
                        1 => OutcomeKind::Deferred,
                        2 => OutcomeKind::Failed,
                        3 => OutcomeKind::Unknown,
                        _ => return None,
                    };
                    Some(outcome(address, kind, at as u32))
                })
                .collect();
            match spec.twist {
                Twist::Nothing => {}
                Twist::WrongToken => token = (1 << 50) + 1,
                Twist::OtherToken(which) => token = self.token(which),
                Twist::NoNumber => number = 0,
                Twist::WrongNumber => number = number.saturating_sub(1).max(1),
                Twist::Stranger => {
                    outcomes.insert(0, outcome("who@else.test", OutcomeKind::Delivered, 0));
                }
            }
            Completion {
                delivery,
                token,
                attempt: Attempt {
                    number,
                    outcomes,
                    remote_host: "mx.test".to_owned(),
                    ..Attempt::default()
                },
                retry_after: Duration::from_secs(spec.retry_s),
                dsn: spec.dsn.iter().map(build).collect(),
            }
        });
        reports.collect()
    }

    async fn complete(&mut self, reports: Vec<Completion>) -> Outcome {
        let results = self.store().complete(reports.clone()).await;
        check!(results.len() == reports.len(), "{} results", results.len());
        for (report, result) in reports.into_iter().zip(results) {
            let verdict = self.model.judge(&report);
            let result = result.map_err(|error| error.to_string())?;
            let right = match verdict {
                Verdict::Done => result == Completed::Done,
                Verdict::Stale => result == Completed::Stale,
                Verdict::Repeated => true,
            };
            check!(
                right,
                "completion of {} under {}: {result:?}, not {verdict:?}",
                report.delivery,
                report.token
            );
            if result == Completed::Stale {
                self.model.totals.stale += 1;
            }
            if verdict == Verdict::Done {
                self.model.complete(&report);
            }
            self.completions.push(report);
        }
        Ok(())
    }

    async fn expire(&mut self) -> Outcome {
        let next = self
            .store()
            .expire()
            .await
            .map_err(|error| error.to_string())?;
        self.model.expire();
        let now_us = self.model.now_us;
        let expiry = self
            .model
            .leases
            .values()
            .map(|lease| lease.expires_us)
            .min();
        let (mut earliest, mut needed) = (expiry, expiry);
        for (_, delivery) in self.model.open() {
            if delivery.state == State::Waiting && delivery.due_us > now_us {
                let due = Some(delivery.due_us);
                earliest = earliest.map_or(due, |at| due.map(|due| due.min(at)));
                // Where something is due already, nobody waits for the next.
                if self.model.due(&delivery.destination).is_empty() {
                    needed = needed.map_or(due, |at| due.map(|due| due.min(at)));
                }
            }
        }
        let told = next.map(|next| now_us + micros(next));
        let in_time = match (told, needed) {
            (_, None) => true,
            (Some(told), Some(needed)) => told <= needed,
            (None, Some(_)) => false,
        };
        let not_early = told.is_none_or(|told| earliest.is_some_and(|at| told >= at));
        check!(
            in_time && not_early,
            "expire: next is {told:?}, must be from {earliest:?} to {needed:?}"
        );
        Ok(())
    }

    fn filter(&self, spec: &FilterSpec) -> Filter {
        let mut ids: Vec<String> = spec
            .messages
            .iter()
            .filter_map(|which| self.known(*which))
            .map(|id| id.to_string())
            .collect();
        if !spec.messages.is_empty() {
            ids.push("nonsense".to_owned());
        }
        Filter {
            queue_ids: ids,
            destination: spec
                .domain
                .map(|domain| destination(domain).to_string())
                .unwrap_or_default(),
            sender: spec
                .sender
                .map(|number| match number {
                    0 => "<>".to_owned(),
                    number => sender(number).to_uppercase(),
                })
                .unwrap_or_default(),
            recipient: spec
                .recipient
                .map(|(user, domain)| address(user, domain))
                .unwrap_or_default(),
            held: spec.held,
        }
    }

    fn matching(&self, filter: &Filter) -> Vec<DeliveryId> {
        let matches = |id: &DeliveryId| {
            let message = &self.model.messages[&id.queue_id];
            let delivery = self.model.delivery(*id).unwrap();
            let from = &message.new.envelope.as_ref().unwrap().reverse_path;
            (filter.queue_ids.is_empty() || filter.queue_ids.contains(&id.queue_id.to_string()))
                && (filter.destination.is_empty()
                    || filter.destination == delivery.destination.as_str())
                && match filter.sender.as_str() {
                    "" => true,
                    "<>" => from.is_empty(),
                    sender => sender.eq_ignore_ascii_case(from),
                }
                && (filter.recipient.is_empty() || delivery.open.contains(&filter.recipient))
                && (!filter.held || delivery.state == State::Held)
        };
        let open = self.model.open().map(|(id, _)| id);
        open.filter(matches).collect()
    }

    async fn act(&mut self, act: Act, spec: &FilterSpec, preview: bool) -> Outcome {
        let filter = self.filter(spec);
        let by = By {
            operator: "ann".to_owned(),
            reason: "a test".to_owned(),
        };
        let acted = self
            .store()
            .act(act, &filter, &by, preview)
            .await
            .map_err(|error| error.to_string())?;
        let matching = self.matching(&filter);
        let mut sample: Vec<QueueId> = matching.iter().map(|id| id.queue_id).collect();
        sample.dedup();
        let mut changed = 0;
        if !preview {
            for id in &matching {
                changed += u64::from(self.model.act(*id, act, "ann"));
            }
        }
        check!(
            acted.matched == matching.len() as u64
                && acted.changed == changed
                && acted.sample == sample,
            "{act:?} of {filter:?}: {acted:?}, not {} matched, {changed} changed, {sample:?}",
            matching.len()
        );
        Ok(())
    }

    async fn list(&mut self, spec: &FilterSpec, page: usize) -> Outcome {
        let filter = self.filter(spec);
        let wanted = self.matching(&filter);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page_of = self
                .store()
                .list(&filter, after, page)
                .await
                .map_err(|error| error.to_string())?;
            check!(page_of.len() <= page, "a page of {}", page_of.len());
            let ids = page_of.iter().map(|status| status.delivery_id.parse());
            let ids: Vec<DeliveryId> = ids
                .collect::<Result<_, _>>()
                .map_err(|_| "no id".to_owned())?;
            after = ids.last().copied();
            found.extend(ids);
            if after.is_none() {
                break;
            }
        }
        check!(
            found == wanted,
            "list of {filter:?}: {found:?}, not {wanted:?}"
        );
        Ok(())
    }

    async fn find(&mut self, number: u8) -> Outcome {
        let wanted_id = message_id(number);
        if wanted_id.is_empty() {
            return Ok(());
        }
        let found = self
            .store()
            .find(&wanted_id, 100)
            .await
            .map_err(|error| error.to_string())?;
        let known = |id: &&QueueId| !self.model.may_be_forgotten(**id);
        let mut found: Vec<QueueId> = found.iter().filter(known).copied().collect();
        let mut wanted: Vec<QueueId> = self
            .model
            .accepted
            .iter()
            .filter(known)
            .filter(|id| self.model.messages[id].new.message_id == wanted_id)
            .copied()
            .collect();
        // Newest first is by time of acceptance or by id, which agree but for the ids of this test.
        found.sort_unstable();
        wanted.sort_unstable();
        check!(
            found == wanted,
            "find {wanted_id}: {found:?}, not {wanted:?}"
        );
        Ok(())
    }

    async fn bodies(&mut self, forget: usize) -> Outcome {
        let store = self.store();
        let all: Vec<String> = (0..4).map(|name| format!("body-{name}")).collect();
        let mut used = store
            .bodies_in_use(all)
            .await
            .map_err(|error| error.to_string())?;
        used.sort();
        let wanted = self.model.bodies_in_use();
        check!(used == wanted, "bodies in use: {used:?}, not {wanted:?}");
        let mut ended = store
            .ended_bodies(100)
            .await
            .map_err(|error| error.to_string())?;
        ended.sort();
        self.model.ended_bodies.sort();
        check!(
            ended == self.model.ended_bodies,
            "ended bodies: {ended:?}, not {:?}",
            self.model.ended_bodies
        );
        ended.truncate(forget);
        self.model.ended_bodies.retain(|name| !ended.contains(name));
        store
            .forget_bodies(ended)
            .await
            .map_err(|error| error.to_string())
    }

    /// After a crash: takes over what it may have undone.
    async fn adopt(&mut self) -> Outcome {
        let stats = self
            .store()
            .stats()
            .await
            .map_err(|error| error.to_string())?;
        // Counted in memory, for the operator's eye only.
        check!(
            stats.stale_completions <= self.model.totals.stale,
            "{} stale completions",
            stats.stale_completions
        );
        self.model.totals.stale = stats.stale_completions;
        if self.subject.leases_survive() {
            return Ok(());
        }
        for token in self.model.leases.keys().copied().collect::<Vec<_>>() {
            self.model.lose(token);
        }
        // What was given back just before may count as lost with its lease.
        let all = self.all().await?;
        for status in all {
            let id: DeliveryId = status.delivery_id.parse().map_err(|_| "no id".to_owned())?;
            if let Some(delivery) = self.model.delivery(id)
                && delivery.given_back
                && status.attempts == delivery.attempts + 1
            {
                self.model.lapse(id);
            }
        }
        // A crash may bring up a deleted body again, and forget one that has ended: whoever sweeps
        // bodies that no message names finds it. None that is in use may be among them.
        let mut ended = self
            .store()
            .ended_bodies(100)
            .await
            .map_err(|error| error.to_string())?;
        ended.sort();
        let used = self.model.bodies_in_use();
        check!(
            !ended.iter().any(|name| used.contains(name)),
            "ended bodies {ended:?} after a crash, {used:?} in use"
        );
        self.model.ended_bodies = ended;
        for message in self.model.messages.values_mut() {
            for delivery in &mut message.deliveries {
                delivery.given_back = false;
            }
        }
        Ok(())
    }

    async fn all(&self) -> Outcome<Vec<postrider_protocol::queue_v1::DeliveryStatus>> {
        let all = self.store().list(&Filter::default(), None, 10_000).await;
        all.map_err(|error| error.to_string())
    }

    /// Compares everything that can be seen.
    async fn compare(&mut self) -> Outcome {
        let all = self.all().await?;
        let stats = self
            .store()
            .stats()
            .await
            .map_err(|error| error.to_string())?;
        invariant::counts_add_up(&stats)?;
        invariant::counts_are_true(&stats, &all)?;
        invariant::slots_are_kept(&stats)?;
        invariant::deliveries_are_sound(&all)?;
        let totals = self.model.totals;
        let told = crate::model::Totals {
            accepted: stats.accepted,
            delivered: stats.delivered,
            failed: stats.failed,
            removed: stats.removed,
            stale: stats.stale_completions,
            unknown: stats.unknown_outcomes,
        };
        check!(told == totals, "{told:?}, not {totals:?}");
        check!(
            all.len() == self.model.open().count(),
            "{} deliveries, not {}",
            all.len(),
            self.model.open().count()
        );
        for (status, (id, delivery)) in all.iter().zip(self.model.open()) {
            let state = match delivery.state {
                State::Waiting => delivery_status::State::Waiting,
                State::Leased(_) => delivery_status::State::Leased,
                State::Held => delivery_status::State::Held,
                State::Done => delivery_status::State::Done,
            };
            let worker = match delivery.state {
                State::Leased(token) => self.model.leases[&token].worker.clone(),
                _ => String::new(),
            };
            let message = &self.model.messages[&id.queue_id];
            let wanted = postrider_protocol::queue_v1::DeliveryStatus {
                delivery_id: id.to_string(),
                queue_id: id.queue_id.to_string(),
                destination: delivery.destination.to_string(),
                reverse_path: message.new.envelope.as_ref().unwrap().reverse_path.clone(),
                recipients: delivery.open.clone(),
                state: state.into(),
                attempts: delivery.attempts,
                accepted_us: message.accepted_us,
                next_attempt_us: delivery.due_us,
                expires_us: message.accepted_us + micros(self.model.settings.lifetime),
                last_outcomes: last_outcomes(delivery),
                size: 40,
                worker,
            };
            check!(*status == wanted, "there is {status:#?}\nnot {wanted:#?}");
        }
        for domain in 0..4 {
            let to = destination(domain);
            let told = stats
                .destinations
                .iter()
                .find(|told| told.destination == to.as_str());
            let waiting = self
                .model
                .open()
                .filter(|(_, delivery)| {
                    delivery.destination == to && delivery.state == State::Waiting
                })
                .count() as u64;
            let slots = self.model.slots_in_use(&to);
            let right = match told {
                Some(told) => told.waiting == waiting && told.slots_in_use == slots,
                None => waiting == 0,
            };
            check!(
                right,
                "{to}: {told:?}, not {waiting} waiting and {slots} slots"
            );
        }
        Ok(())
    }

    /// Compares the journeys of all messages, and the messages themselves.
    pub(crate) async fn compare_journeys(&mut self) -> Outcome {
        for (id, message) in &self.model.messages {
            let shown = self
                .store()
                .show(*id)
                .await
                .map_err(|error| error.to_string())?;
            check!(
                shown.is_some() == message.ended_us.is_none(),
                "show {id}: {shown:?}, ended {:?}",
                message.ended_us
            );
            if let Some(shown) = shown {
                check!(
                    shown.envelope == message.new.envelope && shown.origin == message.new.origin,
                    "show {id}: {shown:?}"
                );
            }
            if self.subject.forgets() && self.model.may_be_forgotten(*id) {
                continue;
            }
            let journey = self
                .store()
                .journey(*id)
                .await
                .map_err(|error| error.to_string())?;
            let Some(journey) = journey else {
                return Err(format!("no journey of {id}"));
            };
            invariant::journey_is_sound(&journey)?;
            check!(
                journey.ended == message.ended_us.is_some()
                    && journey.message_id == message.new.message_id
                    && journey.queue_id == id.to_string(),
                "journey {journey:?}"
            );
            let told: Vec<(u64, Event)> = journey.events.iter().map(event).collect();
            check!(
                told == message.events,
                "journey of {id}: {told:?}\nnot {:?}",
                message.events
            );
        }
        let unknown = QueueId::from_u128(7);
        let nothing = self
            .store()
            .journey(unknown)
            .await
            .map_err(|error| error.to_string())?;
        check!(nothing.is_none(), "a journey of what never was");
        Ok(())
    }
}

fn event(event: &JourneyEvent) -> (u64, Event) {
    let what = match event.what.as_ref() {
        Some(journey_event::What::Received(_)) => Event::Received,
        Some(journey_event::What::Queued(_)) => Event::Queued,
        Some(journey_event::What::Attempt(attempt)) => Event::Attempt(attempt.number),
        Some(journey_event::What::Notice(notice)) if !notice.dsn_queue_id.is_empty() => {
            Event::Dsn(notice.dsn_queue_id.clone())
        }
        Some(journey_event::What::Notice(notice)) => Event::Notice {
            operator: notice.operator.clone(),
        },
        None => Event::Notice {
            operator: "nothing".to_owned(),
        },
    };
    (event.time_us, what)
}

fn last_outcomes(delivery: &crate::model::Delivery) -> Vec<RecipientOutcome> {
    let open = delivery.open.iter();
    open.filter_map(|address| delivery.last.get(address).cloned())
        .collect()
}

fn outcome(address: &str, kind: OutcomeKind, place: u32) -> RecipientOutcome {
    RecipientOutcome {
        address: address.to_owned(),
        kind: kind.into(),
        reply_code: 400 + place,
        ..RecipientOutcome::default()
    }
}
