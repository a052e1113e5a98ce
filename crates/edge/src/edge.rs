//! The edge as a whole: bound, serving, reloaded, drained.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use postrider_config::ServerConfig;
use postrider_protocol::api::{Directory, Queue};
use postrider_protocol::net::BoxIo;
use postrider_telemetry::{health, metric};
use postrider_tls::ServerCertificate;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admission::Admission;
use crate::config::{EdgeConfig, Role};
use crate::connection::Stream;
use crate::domains::Domains;
use crate::entrance;
use crate::listener;
use crate::metrics::{METRICS, RoleMetrics};
use crate::settings::Settings;
use crate::stop::Stop;

/// Bound listeners and what their sessions need.
pub struct Edge {
    shared: Arc<Shared>,
    listeners: Vec<(Role, SocketAddr, TcpListener)>,
    sessions: TaskTracker,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) hostname: String,
    /// Names this process in journeys.
    pub(crate) instance: String,
    pub(crate) domains: Domains,
    pub(crate) certificate: Arc<ServerCertificate>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) stop: Stop,
    settings: ArcSwap<Settings>,
    metrics: [RoleMetrics; 3],
}

impl Shared {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub(crate) fn metrics(&self, role: Role) -> &RoleMetrics {
        let [mx, submission, submissions] = &self.metrics;
        match role {
            Role::Mx => mx,
            Role::Submission => submission,
            Role::Submissions => submissions,
        }
    }
}

impl Edge {
    /// Binds every listener; connections wait until [`Edge::serve`]. To be called inside of a
    /// runtime, after telemetry has started.
    ///
    /// # Errors
    /// The config is not valid, or an address cannot be bound.
    pub fn bind(
        server: &ServerConfig,
        config: EdgeConfig,
        certificate: Arc<ServerCertificate>,
        queue: Arc<dyn Queue>,
        directory: Arc<dyn Directory>,
    ) -> anyhow::Result<Self> {
        postrider_process::raise_open_files();
        let wanted = config.listeners.clone();
        let mut edge = Self::without_listeners(server, config, certificate, queue, directory)?;
        edge.listeners = wanted
            .iter()
            .map(|listener| {
                let socket = listener::bind(listener.address)?;
                Ok((listener.role, socket.local_addr()?, socket))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(edge)
    }

    /// An edge that binds nothing, whatever the config says: connections come in by its [`Door`].
    ///
    /// # Errors
    /// The config is not valid.
    pub fn without_listeners(
        server: &ServerConfig,
        config: EdgeConfig,
        certificate: Arc<ServerCertificate>,
        queue: Arc<dyn Queue>,
        directory: Arc<dyn Directory>,
    ) -> anyhow::Result<Self> {
        let problems = config.validate();
        anyhow::ensure!(problems.is_empty(), problems.join("\n"));
        metric::describe(METRICS);
        let shared = Shared {
            instance: format!("edge@{}", server.hostname),
            domains: Domains::new(&server.domains, &server.hostname),
            hostname: server.hostname.clone(),
            certificate,
            queue,
            directory,
            admission: Arc::default(),
            stop: Stop::default(),
            settings: ArcSwap::from_pointee(Settings::new(config, &server.hostname)),
            metrics: [Role::Mx, Role::Submission, Role::Submissions].map(RoleMetrics::new),
        };
        Ok(Self {
            shared: Arc::new(shared),
            listeners: Vec::new(),
            sessions: TaskTracker::new(),
        })
    }

    /// Where it listens, e.g. to learn the port where the config asked for port 0.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<(Role, SocketAddr)> {
        self.listeners
            .iter()
            .map(|(role, address, _)| (*role, *address))
            .collect()
    }

    /// A way in for connections that were accepted elsewhere.
    #[must_use]
    pub fn door(&self) -> Door {
        Door {
            shared: Arc::clone(&self.shared),
            sessions: self.sessions.clone(),
        }
    }

    /// A handle that changes settings while the edge serves.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown`, and then drains: listeners close, idle sessions are told 421,
    /// transactions may finish until the drain timeout, and no session is cut off between the
    /// end of its content and the reply to it. Returns when the last session has ended.
    pub async fn serve(self, shutdown: CancellationToken) {
        let health = health::global().component("edge");
        let sessions = self.sessions;
        let mut accepting = JoinSet::new();
        for (role, address, listener) in self.listeners {
            info!(%role, %address, "listening");
            accepting.spawn(accept(
                Arc::clone(&self.shared),
                role,
                listener,
                sessions.clone(),
                shutdown.clone(),
            ));
        }
        health.ready();
        shutdown.cancelled().await;

        health.not_ready("stopping");
        while accepting.join_next().await.is_some() {}
        sessions.close();
        self.shared.stop.begin();
        info!(sessions = sessions.len(), "stopping, no new connections");
        let patience = self.shared.settings().config.drain_timeout.0;
        if timeout(patience, sessions.wait()).await.is_err() {
            warn!(
                sessions = sessions.len(),
                "transactions take too long, ending them"
            );
            self.shared.stop.end_drain();
            sessions.wait().await;
        }
        info!("stopped");
    }
}

/// Accepts connections until told to stop. A connection that was accepted has its task; for its
/// client, so has one that the system completed: it is greeted and told, not reset.
async fn accept(
    shared: Arc<Shared>,
    role: Role,
    listener: TcpListener,
    sessions: TaskTracker,
    shutdown: CancellationToken,
) {
    let admit = |(stream, peer)| {
        let stream = Stream::Plain(stream);
        sessions.spawn(entrance::run(Arc::clone(&shared), role, stream, peer));
    };
    loop {
        tokio::select! {
            accepted = listener::accept(&listener) => admit(accepted),
            () = shutdown.cancelled() => break,
        }
    }
    listener::close(listener).into_iter().for_each(admit);
}

/// Lets connections in that were accepted elsewhere.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
    sessions: TaskTracker,
}

impl Door {
    /// Serves a connection like one of a listener. TLS is only to be had on sockets of the system.
    pub fn admit(&self, role: Role, stream: BoxIo, peer: IpAddr) {
        let stream = Stream::Other(stream);
        let session = entrance::run(Arc::clone(&self.shared), role, stream, peer);
        self.sessions.spawn(session);
    }
}

/// Changes settings while the edge serves.
#[derive(Clone)]
pub struct Reloader(Arc<Shared>);

impl Reloader {
    /// Puts a new config into force for connections that come from now on. Returns what could
    /// not be changed, each with its key; a config that is not valid changes nothing. Certificates
    /// are reloaded where they are kept, in [`ServerCertificate::reload`].
    pub fn reload(&self, config: EdgeConfig) -> Vec<String> {
        let mut problems = config.validate();
        if !problems.is_empty() {
            return problems;
        }
        let running = self.0.settings();
        let addresses = |config: &EdgeConfig| {
            config
                .listeners
                .iter()
                .map(|listener| (listener.address, listener.role))
                .collect::<Vec<_>>()
        };
        if addresses(&config) != addresses(&running.config) {
            problems.push("edge.listeners: a change needs a restart".to_owned());
        }
        // What is bound stays what the next reload is compared with.
        let config = EdgeConfig {
            listeners: running.config.listeners.clone(),
            ..config
        };
        let settings = Settings::new(config, &self.0.hostname);
        self.0.settings.store(Arc::new(settings));
        info!("settings reloaded");
        problems
    }
}
