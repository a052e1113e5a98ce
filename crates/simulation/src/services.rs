//! The services, each on a host of its own. Every start of a host makes them anew: only the store
//! remains.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postrider_config::ServerConfig;
use postrider_delivery::{Delivery, DeliveryConfig};
use postrider_edge::{Edge, EdgeConfig, Role};
use postrider_model::ModelStore;
use postrider_protocol::Status;
use postrider_protocol::api::{BodyStream, Directory, Mailbox, Result};
use postrider_protocol::grpc::{self, Server};
use postrider_protocol::mailbox_v1::{
    AuthenticateRequest, AuthenticateResponse, DeliverHeader, DeliverResult, lookup_response,
};
use postrider_queue::{QueueConfig, QueueService};
use postrider_tls::ServerCertificate;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use crate::ledger::Ledger;
use crate::network::{Counting, EVERYWHERE, Plain, incoming};

/// Where queue services listen.
pub(crate) const QUEUE: u16 = 8027;
/// Where the edge listens.
pub(crate) const EDGE: u16 = 2525;

/// What all services need to know.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) store: Arc<ModelStore>,
    pub(crate) server: ServerConfig,
    pub(crate) queue: QueueConfig,
    pub(crate) edge: EdgeConfig,
    pub(crate) delivery: String,
    pub(crate) certificate: Arc<ServerCertificate>,
    /// Domains, and the hosts that take their mail.
    pub(crate) sinks: Vec<(String, String)>,
    pub(crate) bodies: std::path::PathBuf,
    pub(crate) stops: Stops,
}

/// By which workers are told to stop.
#[derive(Clone, Default)]
pub(crate) struct Stops(Arc<Mutex<HashMap<String, CancellationToken>>>);

impl Stops {
    /// Tells a worker to stop, if it runs.
    pub(crate) fn stop(&self, worker: &str) {
        if let Some(stop) = self.0.lock().unwrap().get(worker) {
            stop.cancel();
        }
    }

    /// A worker starts, and will be told by this.
    fn start(&self, worker: &str) -> CancellationToken {
        let stop = CancellationToken::new();
        self.0
            .lock()
            .unwrap()
            .insert(worker.to_owned(), stop.clone());
        stop
    }
}

/// A queue service over the shared store.
pub(crate) async fn queue(world: World, name: String) -> turmoil::Result {
    world.ledger.event(&format!("{name} starts"));
    let bodies: &Path = &world.bodies;
    let queue = QueueService::over(world.store.clone(), bodies, &world.queue, &name)?;
    let listener = TcpListener::bind((EVERYWHERE, QUEUE)).await?;
    let connections = incoming(listener);
    let server = Server::new().queue(queue);
    Ok(server
        .serve_on(connections, CancellationToken::new())
        .await?)
}

/// An edge that enqueues at one queue service.
pub(crate) async fn edge(world: World, queue: String) -> turmoil::Result {
    world.ledger.event("edge starts");
    let queue = grpc::queue_over(address(&queue, QUEUE), Arc::new(Plain))?;
    let edge = Edge::without_listeners(
        &world.server,
        world.edge,
        world.certificate,
        Arc::new(queue),
        Arc::new(Nobody),
    )?;
    let door = edge.door();
    let serving = edge.serve(CancellationToken::new());
    let listener = TcpListener::bind((EVERYWHERE, EDGE)).await?;
    let accepting = async move {
        loop {
            let (stream, peer) = listener.accept().await?;
            door.admit(Role::Mx, Box::new(stream), peer.ip());
        }
    };
    tokio::select! {
        biased;
        ended = accepting => ended,
        () = serving => Ok(()),
    }
}

/// A delivery worker of one queue service.
pub(crate) async fn delivery(world: World, queue: String, name: String) -> turmoil::Result {
    world.ledger.event(&format!("{name} starts"));
    let queue = grpc::queue_over(address(&queue, QUEUE), Arc::new(Plain))?;
    let mut config = world.delivery.clone();
    for (domain, host) in &world.sinks {
        let address: IpAddr = turmoil::lookup(host.as_str());
        config.push_str(&format!(
            "[[routes]]\nrecipient = \"{domain}\"\nvia = \"{address}:25\"\n"
        ));
    }
    let config: DeliveryConfig = toml::from_str(&config)?;
    let dialer = Counting {
        ledger: world.ledger.clone(),
        limit: world.queue.slots_per_destination,
    };
    let delivery = Delivery::over(
        &world.server,
        config,
        Arc::new(queue),
        Arc::new(Nobody),
        Some(Arc::new(dialer)),
        format!("delivery@{name}"),
    )?;
    delivery.run(world.stops.start(&name)).await;
    world.ledger.event(&format!("{name} has stopped"));
    Ok(())
}

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(turmoil::lookup(host), port)
}

/// Nobody has a mailbox here.
struct Nobody;

#[async_trait]
impl Directory for Nobody {
    async fn lookup(&self, addresses: Vec<String>) -> Result<Vec<lookup_response::Verdict>> {
        Ok(vec![lookup_response::Verdict::NotLocal; addresses.len()])
    }

    async fn authenticate(&self, _request: AuthenticateRequest) -> Result<AuthenticateResponse> {
        Err(Status::unavailable("nobody is here"))
    }
}

#[async_trait]
impl Mailbox for Nobody {
    async fn deliver(
        &self,
        _header: DeliverHeader,
        _body: BodyStream,
    ) -> Result<Vec<DeliverResult>> {
        Err(Status::unavailable("nobody is here"))
    }
}
