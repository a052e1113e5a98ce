//! The demo's world: Bob's server, Alice's server, a name server, each on free ports.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use postrider_edge::Role;
use postrider_edge::config::ListenerConfig;
use postrider_mailbox::accounts::AccountsFile;
use postrider_mailbox::{Pop3Listener, Pop3Role};
use postrider_nameserver::{Lookup, NameServer, Zones};
use postrider_protocol::api::QueueAdmin;
use postrider_tls::ServerCertificate;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fetch::Alice;
use super::submit::Bob;
use crate::commands::password;
use crate::compose::System;
use crate::settings::Settings;

/// A free port of loopback.
const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// Everything that runs in the demo.
pub(super) struct World {
    /// Bob's server.
    pub(super) bob: Server,
    /// Alice's server.
    pub(super) alice: Server,
    /// The name server.
    pub(super) dns: NameServer,
}

/// One mail server, running.
pub(super) struct Server {
    /// Its name.
    pub(super) hostname: String,
    /// Where it takes mail in.
    pub(super) smtp: SocketAddr,
    /// Where mail is fetched; none at a server without mailboxes to fetch from.
    pub pop3: Option<SocketAddr>,
    admin: Arc<dyn QueueAdmin>,
    certificate: Arc<ServerCertificate>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// The operators' view of its queue.
    #[must_use]
    pub(super) fn admin(&self) -> Arc<dyn QueueAdmin> {
        self.admin.clone()
    }

    async fn start(settings: &Settings, role: Role) -> anyhow::Result<Self> {
        let system = System::bind(settings)
            .await
            .with_context(|| format!("starting {}", settings.server.hostname))?;
        let stop = CancellationToken::new();
        Ok(Self {
            hostname: settings.server.hostname.clone(),
            smtp: system.smtp(role).context("no SMTP listener")?,
            pop3: system.pop3(Pop3Role::Pop3),
            admin: system.admin(),
            certificate: system.certificate().clone(),
            running: tokio::spawn(system.run(stop.clone())),
            stop,
        })
    }

    /// TLS as a mail program speaks it that trusts this server's certificate and no other.
    fn client_tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.end_entity())?;
        let config = rustls::ClientConfig::builder_with_provider(postrider_tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// The people, as their mail programs know them.
pub(super) struct People {
    /// Who writes.
    pub(super) bob: Bob,
    /// Who reads.
    pub(super) alice: Alice,
}

impl World {
    /// Starts everything, with data below `folder`. What the name server is asked goes to `tell`.
    ///
    /// # Errors
    /// Something cannot be started.
    pub(super) async fn start(
        folder: &Path,
        tell: mpsc::UnboundedSender<Lookup>,
    ) -> anyhow::Result<(Self, People)> {
        let here = LOOPBACK.ip();
        let mut zones = Zones::default();
        zones
            .zone("alice.test")?
            .mx("alice.test", 10, "mx.alice.test")?
            .address("mx.alice.test", here)?
            .zone("bob.test")?
            .mx("bob.test", 10, "mail.bob.test")?
            .address("mail.bob.test", here)?;
        let dns = NameServer::start(zones, tell).await?;

        let mut alices = settings("alice.test", "mx.alice.test", folder, Role::Mx);
        alices.delivery.resolvers = vec![dns.address()];
        let alices_password = add_account(&alices, "alice@alice.test")?;
        let alice = Server::start(&alices, Role::Mx).await?;

        let mut bobs = settings("bob.test", "mail.bob.test", folder, Role::Submission);
        bobs.delivery.port = alice.smtp.port();
        bobs.delivery.resolvers = vec![dns.address()];
        let bobs_password = add_account(&bobs, "bob@bob.test")?;
        let bob = Server::start(&bobs, Role::Submission).await?;

        let people = People {
            bob: Bob {
                server: bob.smtp,
                server_name: bob.hostname.clone(),
                tls: bob.client_tls()?,
                address: "bob@bob.test".to_owned(),
                password: bobs_password,
            },
            alice: Alice {
                server: alice.pop3.context("no POP3 listener")?,
                server_name: alice.hostname.clone(),
                tls: alice.client_tls()?,
                address: "alice@alice.test".to_owned(),
                password: alices_password,
            },
        };
        Ok((Self { bob, alice, dns }, people))
    }

    /// Stops both servers gently.
    ///
    /// # Errors
    /// One of them had failed.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for server in [self.bob, self.alice] {
            server.stop.cancel();
            server
                .running
                .await?
                .with_context(|| server.hostname.clone())?;
        }
        Ok(())
    }
}

/// A complete server of one domain, on free ports of loopback.
fn settings(domain: &str, hostname: &str, folder: &Path, role: Role) -> Settings {
    let mut settings = Settings::default();
    settings.server.hostname = hostname.to_owned();
    settings.server.domains = vec![domain.to_owned()];
    settings.server.data_dir = folder.join(domain);
    settings.services.queue_listen = LOOPBACK;
    settings.edge.listeners = vec![ListenerConfig {
        address: LOOPBACK,
        role,
    }];
    settings.mailbox.pop3.listeners = match role {
        Role::Mx => vec![Pop3Listener {
            address: LOOPBACK,
            role: Pop3Role::Pop3,
        }],
        Role::Submission | Role::Submissions => Vec::new(),
    };
    settings
}

fn add_account(settings: &Settings, address: &str) -> anyhow::Result<String> {
    std::fs::create_dir_all(&settings.server.data_dir)?;
    let password = password::generate();
    AccountsFile::new(&settings.server, &settings.mailbox).add(address, &password)?;
    Ok(password.to_string())
}
