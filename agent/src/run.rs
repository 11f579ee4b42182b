//! The agent's life: started, then one thing after another, then ended in order.

mod end;
mod sockets;
mod start;
mod turns;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::mesh::NodeView;
use podsonar_core::wire::Channel;
use podsonar_net::OpenError;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, interval, sleep};

pub use self::sockets::MIN_BUFFER;
use crate::clock;
use crate::degrade::MeansByChannel;
use crate::discovery::pod_names::Unserved;
use crate::driver;
use crate::ledger::{FetchedFrom, Queried};
use crate::mesh::{Mesh, Orders};
use crate::metrics::dns::DnsMetrics;
use crate::metrics::state::Metrics;
use crate::plan::Plan;
use crate::probe::runner::{Answered, SharedAsking};
use crate::reload::Reloader;
use crate::settings::Settings;
use crate::{glance, record};

/// How long an orderly end may take. Kubernetes kills after 30 s.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// After so long what the start needs has been done, and its code and constants give their memory back: 1.5 MB.
const START: Duration = Duration::from_secs(10);

/// How often it is checked that the driver still runs.
const WATCH: Duration = Duration::from_secs(1);

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Raw sockets.
    #[error(transparent)]
    Sockets(#[from] OpenError),
    /// The HTTP server's address.
    #[error("--listen {address}: {}", describe_bind(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address of `/v1/node`.
    #[error("--mesh-listen {address}: {}", describe_bind(.source))]
    ListenMesh {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The record.
    #[error("--record {}: {source}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Threads, timers, random numbers, signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The driver's thread ended by itself.
    #[error("the driver stopped by itself; this is a defect of podsonar")]
    DriverEnded,
    /// The HTTP server ended by itself.
    #[error("the HTTP server stopped by itself; this is a defect of podsonar")]
    HttpEnded,
    /// The record could not be written to its end.
    #[error("--record: {0}")]
    Write(io::Error),
    /// Something did not end in time.
    #[error("not everything ended within {SHUTDOWN:?}")]
    Shutdown,
}

fn describe_bind(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        "the port is in use; choose another one".into()
    } else {
        error.to_string()
    }
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting or going on.
pub fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let result = runtime.block_on(live(settings));
    runtime.shutdown_background();
    result
}

async fn live(settings: Settings) -> Result<(), RunError> {
    // First of all, so that a signal during the start leads to an orderly end too.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let Settings { configuration, read, sources } = settings;
    let mut reloader = Reloader::new(sources, read, &configuration.probing)?;
    let mut agent = Agent::start(configuration).await?;
    let mut watch = interval(WATCH);
    let mut look = interval(glance::EVERY);
    let watched = glance::is_watched();
    if watched {
        agent.metrics.glance.begin();
    }
    let mut farewell: Option<Pin<Box<Sleep>>> = None;
    let mut starting = Some(Box::pin(sleep(START)));
    loop {
        tokio::select! {
            _ = terminate.recv(), if farewell.is_none() => match agent.leave() {
                None => break,
                Some(time) => farewell = Some(Box::pin(sleep(time))),
            },
            () = ended(&mut farewell) => break,
            () = ended(&mut starting) => {
                starting = None;
                if let Err(error) = podsonar_net::return_code_memory() {
                    tracing::debug!(%error, "code that only the start needed stays in memory");
                }
            }
            _ = interrupt.recv() => break,
            _ = watch.tick() => {
                if agent.driver.is_finished() {
                    return Err(RunError::DriverEnded);
                }
                agent.dns.expire(clock::now());
                agent.look_at_mesh();
            }
            _ = look.tick(), if watched => glance::show(&agent.metrics.glance.take(), &agent.metrics.targets_in_words()),
            _ = &mut agent.http => return Err(RunError::HttpEnded),
            probing = reloader.next(&agent.metrics, &agent.channels) => agent.replace(probing),
            Some(queried) = agent.queried.recv() => agent.take_answers(&queried),
            () = news(&mut agent.mesh) => agent.take_news(),
            Some((node, fetched)) = agent.fetched.recv() => agent.take_list(&node, fetched),
        }
    }
    tracing::info!("stopping");
    agent.stop().await
}

/// Everything that runs.
#[derive(Debug)]
struct Agent {
    plan: Plan,
    means: MeansByChannel,
    channels: Vec<Channel>,
    driver: driver::Handle,
    asking: SharedAsking,
    /// Name servers without pods' names.
    unserved: Unserved,
    answers: UnboundedReceiver<Answered>,
    queried: UnboundedReceiver<Vec<Queried>>,
    mesh: Option<Mesh>,
    /// The last orders that followed from the mesh, and what our own list said.
    ordered: Orders,
    told: Option<Arc<NodeView>>,
    fetched: UnboundedReceiver<FetchedFrom>,
    metrics: Arc<Metrics>,
    dns: DnsMetrics,
    http: JoinHandle<()>,
    stop_http: watch::Sender<bool>,
    writer: Option<record::Writer>,
}

/// Waits for news of the mesh; for ever where there is none.
async fn news(mesh: &mut Option<Mesh>) {
    match mesh {
        Some(mesh) => mesh.changed().await,
        None => pending().await,
    }
}

/// Waits until peers have had time to hear that this agent ends.
async fn ended(wait: &mut Option<Pin<Box<Sleep>>>) {
    match wait {
        Some(time) => time.as_mut().await,
        None => pending().await,
    }
}
