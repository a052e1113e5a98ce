//! All services in one process: the lines of the split mode, with calls in memory.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use postrider_delivery::Delivery;
use postrider_edge::{Edge, Role};
use postrider_mailbox::{MailboxService, Pop3, Pop3Role};
use postrider_protocol::api::{Directory, QueueAdmin};
use postrider_protocol::grpc;
use postrider_queue::QueueService;
use postrider_telemetry::health;
use postrider_tls::ServerCertificate;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reload::Reloaders;
use crate::settings::Settings;

/// Every service, bound and ready to run.
pub struct System {
    certificate: Arc<ServerCertificate>,
    queue: Arc<QueueService>,
    mailbox: Arc<MailboxService>,
    edge: Edge,
    pop3: Pop3,
    delivery: Delivery,
    admin: grpc::Bound,
}

impl System {
    /// Opens the stores and binds every listener. Connections wait until [`System::run`].
    ///
    /// # Errors
    /// A port is taken, a store cannot be opened, or a setting is not acceptable.
    pub async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let server = &settings.server;
        std::fs::create_dir_all(&server.data_dir)
            .with_context(|| format!("server.data_dir: {}", server.data_dir.display()))?;

        let certificate =
            ServerCertificate::load(&settings.tls, &server.hostname, &server.data_dir)?;
        let queue = QueueService::open(server, settings.queue.clone())
            .await
            .context("opening the queue")?;
        let mailbox = MailboxService::open(server, settings.mailbox.clone())
            .context("opening the mailboxes")?;
        let edge = Edge::bind(
            server,
            settings.edge.clone(),
            certificate.clone(),
            queue.clone(),
            mailbox.clone(),
        )?;
        let pop3 = Pop3::bind(
            server,
            settings.mailbox.pop3.clone(),
            mailbox.clone(),
            certificate.clone(),
        )?;
        let delivery = Delivery::new(
            server,
            settings.delivery.clone(),
            queue.clone(),
            mailbox.clone(),
        )?;
        // Operators' commands only: what the services ask of each other stays in memory.
        let admin = grpc::Server::new()
            .queue_admin(queue.clone())
            .bind(
                "queue_listen",
                settings.services.queue_listen,
                &settings.services,
            )
            .await?;
        Ok(Self {
            certificate,
            queue,
            mailbox,
            edge,
            pop3,
            delivery,
            admin,
        })
    }

    /// Where it listens for SMTP.
    #[must_use]
    pub fn smtp(&self, role: Role) -> Option<SocketAddr> {
        let addresses = self.edge.local_addrs();
        addresses
            .into_iter()
            .find(|(known, _)| *known == role)
            .map(|(_, address)| address)
    }

    /// Where it listens for POP3.
    #[must_use]
    pub fn pop3(&self, role: Pop3Role) -> Option<SocketAddr> {
        let addresses = self.pop3.local_addrs();
        addresses
            .into_iter()
            .find(|(known, _)| *known == role)
            .map(|(_, address)| address)
    }

    /// Where it answers operators.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.local_addr()
    }

    /// The certificate that it shows.
    #[must_use]
    pub fn certificate(&self) -> &Arc<ServerCertificate> {
        &self.certificate
    }

    /// The operators' view of the queue.
    #[must_use]
    pub fn admin(&self) -> Arc<dyn QueueAdmin> {
        self.queue.clone()
    }

    /// Who exists here.
    #[must_use]
    pub fn directory(&self) -> Arc<dyn Directory> {
        self.mailbox.clone()
    }

    /// What changes settings while it runs.
    #[must_use]
    pub fn reloaders(&self) -> Reloaders {
        Reloaders {
            certificate: self.certificate.clone(),
            edge: self.edge.reloader(),
            delivery: self.delivery.reloader(),
            mailbox: self.mailbox.clone(),
            pop3: self.pop3.reloader(),
        }
    }

    /// Runs until `stop`, then drains in the order in which mail flows: what takes mail in first,
    /// then the delivery workers, then the queue, so that nobody asks a service that has gone. A
    /// service that ends by itself stops the others too.
    ///
    /// # Errors
    /// A service has failed.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (delivery_stop, queue_stop) = (CancellationToken::new(), CancellationToken::new());
        let ends_all = |task| spawn_ending_all(&stop, task);
        let queue = ends_all(run_queue(self.queue, queue_stop.clone()).boxed());
        let delivery = ends_all(self.delivery.run(delivery_stop.clone()).map(Ok).boxed());
        let mailbox = ends_all(self.mailbox.run(delivery_stop.clone()).map(Ok).boxed());
        let pop3 = ends_all(self.pop3.serve(stop.clone()).map(Ok).boxed());
        let edge = ends_all(self.edge.serve(stop.clone()).map(Ok).boxed());
        let admin = ends_all(self.admin.serve(queue_stop.clone()).err_into().boxed());
        // These two answer in memory from here on; edge and delivery report themselves.
        for part in ["queue", "mailbox"] {
            health::global().component(part).ready();
        }

        let mut failed = ended("edge", edge).await;
        failed = failed.or(ended("POP3", pop3).await);
        delivery_stop.cancel();
        failed = failed.or(ended("delivery", delivery).await);
        failed = failed.or(ended("mailbox", mailbox).await);
        queue_stop.cancel();
        failed = failed.or(ended("operators'", admin).await);
        failed = failed.or(ended("queue", queue).await);
        failed.map_or(Ok(()), Err)
    }
}

async fn run_queue(queue: Arc<QueueService>, stop: CancellationToken) -> anyhow::Result<()> {
    queue.run(stop).await
}

type Task = BoxFuture<'static, anyhow::Result<()>>;

/// Runs a service. However it ends, by a panic too, the others are told to stop.
fn spawn_ending_all(stop: &CancellationToken, task: Task) -> JoinHandle<anyhow::Result<()>> {
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        let result = task.await;
        drop(guard);
        result
    })
}

/// Waits until a service has ended, and says what was wrong, if anything was.
async fn ended(name: &str, task: JoinHandle<anyhow::Result<()>>) -> Option<anyhow::Error> {
    let problem = match task.await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    };
    tracing::error!(
        service = name,
        error = format!("{problem:#}"),
        "a service has failed"
    );
    Some(problem.context(format!("the {name} service has failed")))
}
