//! The agent's life: open sockets, start the driver, serve, and end in order.

use std::collections::HashSet;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use podsonar_core::config::{self, Configuration, Listen, Probing};
use podsonar_core::engine::{Engine, Fetched, Identity, Question, Secret};
use podsonar_core::mesh::NodeView;
use podsonar_core::query::QueryResult;
use podsonar_core::query::pods::POD_NAMES;
use podsonar_core::target::{Family, Planned, PodId};
use podsonar_core::wire::{Channel, Transport, icmp};
use podsonar_net::interception::intercepted_ports;
use podsonar_net::{Mode, OpenError, ProbeSockets};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant as Deadline, Sleep, interval, sleep, timeout_at};

use crate::clock::{self, Clocks, SystemClocks};
use crate::degrade::{self, Means, MeansByChannel};
use crate::discovery::pod_names::{NamedPod, Unserved};
use crate::driver::{self, Driver};
use crate::exchange::lists::Lists;
use crate::glance;
use crate::http::{self, Limits, Site};
use crate::ledger::{FetchedFrom, Ledger, Queried};
use crate::mesh::{Mesh, Myself, Orders, Setting};
use crate::metrics::dns::DnsMetrics;
use crate::metrics::state::{Facts, Metrics};
use crate::plan::{self, Plan};
use crate::preflight;
use crate::probe::runner::{Answered, Runner, SharedAsking};
use crate::record;
use crate::reload::Reloader;
use crate::settings::Settings;
use crate::throttle;

/// What a small packet costs in a receive buffer, in bytes.
const PACKET_COST: usize = 832;

/// The largest echo request that is ever sent, in bytes: jumbo frames and a little.
const LARGEST_MESSAGE: usize = 9_216;

/// A name is taken to have so many addresses when buffers are sized.
const ADDRESSES_OF_A_NAME: usize = 8;

/// How long an answer that nobody should give is waited for.
const INTERCEPTION: Duration = Duration::from_secs(1);

/// The longest time for which the agent may not run without its receive buffers overflowing.
const LONGEST_STALL: Duration = Duration::from_secs(2);

/// Receive buffers are not smaller than this, in bytes.
pub const MIN_BUFFER: usize = 256 * 1024;

/// Nor larger than this: the kernel's sizes are signed 32-bit numbers, and it doubles what it is asked for.
const MAX_BUFFER: usize = 512 * 1024 * 1024;

/// How long an orderly end may take. Kubernetes kills after 30 s.
const SHUTDOWN: Duration = Duration::from_secs(8);

/// Beyond the time in which each peer fetches once: their fetches are not all on time.
const FAREWELL: Duration = Duration::from_millis(500);

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

impl Agent {
    async fn start(configuration: Configuration) -> Result<Self, RunError> {
        let Configuration { agent, probing } = configuration;
        let config::Agent { source, zone, listen, record: record_path, identity: me, mesh_service, .. } =
            agent;
        let (listener, mesh_listener) = bind(listen, &probing)?;
        let record_file = match record_path {
            None => None,
            Some(path) => Some(record::open(&path).map_err(|source| RunError::Record { path, source })?),
        };
        let random = Random::draw()?;
        let plan = Plan::new(&source, &zone, probing);
        let buffer = receive_buffer(&plan);
        let mut sockets = open_sockets(&plan, &random, buffer);
        let ears =
            if plan.probing().mesh.enabled { listen_to_peers(&mut sockets, buffer) } else { Vec::new() };
        let means = means(&sockets);
        check_means(&plan, means, &mut sockets)?;
        let channels: Vec<Channel> =
            Channel::ALL.into_iter().filter(|channel| sockets.is_open(*channel)).collect();
        preflight::log(&preflight::report(&channels, buffer));
        let intercepted = is_intercepted(&plan, &channels).await;
        let planned = plan.planned(means);
        let icmp_id = sockets.icmp_id();
        let clock = SystemClocks.read();
        let facts = facts(source.clone(), zone.clone(), plan.probing(), means, &sockets);
        let metrics = Arc::new(Metrics::new(facts, clock.wall));
        let site = Site {
            metrics: Arc::clone(&metrics),
            now: clock::now,
            started: clock.mono,
            limits: Limits::default(),
            scrapes: http::SCRAPES,
        };
        announce(&listener, &planned, &channels, &sockets)?;

        let (recorder, writer) = match record_file {
            None => (None, None),
            Some(file) => {
                let (recorder, writer) = record::start(file, icmp_id, Arc::clone(&metrics))?;
                (Some(recorder), Some(writer))
            }
        };
        let probing = plan.probing();
        let identity = identity(source, probing, &random, &sockets);
        let asking = SharedAsking::default();
        let (answered, answers) = unbounded_channel();
        let (ended, queried) = unbounded_channel();
        let (fetches, fetched) = unbounded_channel();
        let lists = Arc::new(Lists::new(Arc::clone(&metrics)));
        let (pods, told) = (plan.pods().clone(), Arc::clone(&lists));
        let ledger = Ledger::new(Arc::clone(&metrics), recorder, probing.retain, clock.mono);
        let mut driver = Driver::new(
            Engine::new(identity, clock),
            sockets,
            SystemClocks,
            Box::new(Runner::start(Arc::clone(&asking), pods, answered, told)?),
            ledger.with_queries(ended).with_fetches(fetches),
            driver::Settings { channels: channels.clone(), icmp_id },
        );
        for family in ears {
            driver.listen(family);
        }
        let driver = driver::spawn(driver)?;
        driver.settle(probing.mesh.settle);
        driver.intercepted(intercepted);
        tokio::spawn(throttle::watch(Arc::clone(&metrics)));
        let dns = DnsMetrics::new(Arc::clone(&metrics), probing.retain);
        let (stop_http, stop) = watch::channel(false);
        let mesh = mesh_listener.map(|listener| {
            let node = me.as_ref().map_or_else(|| metrics.source().into(), |me| Arc::clone(&me.node));
            let addresses = me.as_ref().map(|me| me.host_ips.clone()).unwrap_or_default();
            let myself = Myself { node, zone: zone.into(), epoch: random.epoch, addresses };
            let setting = Setting { listener, started: clock.mono, identity: me, service: mesh_service };
            Mesh::begin(setting, myself, probing, lists, &metrics, stop.clone())
        });
        let http = tokio::spawn(http::serve(listener, Arc::new(site), stop));
        let mut agent = Self {
            plan,
            means,
            channels,
            driver,
            asking,
            unserved: Unserved::default(),
            answers,
            queried,
            mesh,
            ordered: Orders::default(),
            told: None,
            fetched,
            metrics,
            dns,
            http,
            stop_http,
            writer,
        };
        agent.driver.probe(planned);
        agent.ask();
        warn_of_no_domain(agent.plan.probing());
        Ok(agent)
    }

    /// Discovery has found something else than before.
    fn take_news(&mut self) {
        if let Some(mesh) = &mut self.mesh {
            mesh.take_news(self.plan.probing(), clock::now());
        }
        self.tell_own_view();
        self.obey_mesh();
    }

    /// A peer was asked for its list.
    fn take_list(&mut self, node: &Arc<str>, fetched: Fetched) {
        let now = clock::now();
        if self.mesh.as_mut().is_some_and(|mesh| mesh.learn(node, fetched, now)) {
            self.obey_mesh();
        }
    }

    /// What time alone may have changed.
    fn look_at_mesh(&mut self) {
        let changed = self.tell_own_view();
        if changed || self.mesh.as_ref().is_some_and(Mesh::is_settling) {
            self.obey_mesh();
        }
    }

    /// Our own list says what is so now, to peers and to the driver. Returns whether it is something else than before.
    fn tell_own_view(&mut self) -> bool {
        let Some(mesh) = &mut self.mesh else { return false };
        let view = mesh.own_view(clock::now());
        let known = |before: &NodeView| {
            let whole = |age: Option<Duration>| age.is_some_and(|age| age.is_zero());
            (&before.pods, before.leaving, &before.zone, whole(before.watch_age))
                == (&view.pods, view.leaving, &view.zone, whole(view.watch_age))
        };
        let changed = !self.told.as_deref().is_some_and(known);
        if changed {
            self.driver.view(Arc::clone(&view));
            self.told = Some(view);
        }
        changed
    }

    /// What follows from the mesh, as far as it is something else than before.
    fn obey_mesh(&mut self) {
        let Some(mesh) = &self.mesh else { return };
        let orders = mesh.orders(self.plan.probing());
        let before = std::mem::replace(&mut self.ordered, orders);
        let Orders { peers, duties, sources, named, servers } = &self.ordered;
        if *peers != before.peers {
            self.driver.peers(peers.clone());
        }
        if *sources != before.sources {
            self.driver.hear(sources.clone());
        }
        if duties.fetches != before.duties.fetches {
            self.driver.fetch(duties.fetches.clone());
        }
        if duties.planned != before.duties.planned {
            self.plan.take_mesh(duties.planned.clone());
            self.driver.probe(self.plan.planned(self.means));
        }
        let other_names = *named != before.named || *servers != before.servers;
        if other_names && self.plan.take_pods(named.clone(), servers.clone()) {
            self.ask();
        }
    }

    /// Tells peers that this agent ends. Returns how long it takes until they know; `None`: there are none.
    fn leave(&mut self) -> Option<Duration> {
        let mesh = self.mesh.as_mut()?;
        mesh.leave();
        self.look_at_mesh();
        let peers = !self.ordered.duties.fetches.is_empty();
        peers.then(|| self.plan.probing().mesh.fetch_interval + FAREWELL)
    }

    /// Other settings than before, validated.
    fn replace(&mut self, probing: Probing) {
        self.plan.replace(probing);
        if let Some(mesh) = &mut self.mesh {
            mesh.configure(self.plan.probing());
            self.obey_mesh();
        }
        self.driver.settle(self.plan.probing().mesh.settle);
        self.driver.probe(self.plan.planned(self.means));
        self.ask();
    }

    /// Asks what the plan wants asked.
    fn ask(&mut self) {
        let asking = Arc::new(self.plan.asking());
        *self.asking.write().unwrap_or_else(PoisonError::into_inner) = asking;
        let questions = self.plan.questions();
        let pairs = questions.iter().map(|each| (each.question.server, Arc::clone(&each.question.name)));
        self.dns.configure(pairs, clock::now());
        self.driver.ask(questions, self.plan.probing().dns.max_qps);
        self.metrics.set_unresolved(self.plan.unresolved());
    }

    /// A group of questions has ended. What their servers said was sent before, and is looked at now, so that it wakes
    /// us once, and what is probed changes once.
    fn take_answers(&mut self, queried: &[Queried]) {
        for (question, result) in queried {
            self.dns.result(question, *result);
        }
        let mut changed = false;
        while let Ok(Answered { question, pod, answer }) = self.answers.try_recv() {
            self.dns.answer(&question, &answer);
            if let Some(pod) = pod {
                self.resolved(&question, &pod, answer.result);
            } else if self.plan.answered(&question, &answer) {
                changed = true;
                let addresses = self.plan.addresses(&question.name);
                tracing::info!(name = %question.name, ?addresses, "addresses changed");
            }
        }
        if changed {
            self.driver.probe(self.plan.planned(self.means));
            self.metrics.set_unresolved(self.plan.unresolved());
        }
    }

    /// A pod's name was asked for. Where it is right, its address is probed once.
    fn resolved(&mut self, question: &Question, pod: &NamedPod, result: QueryResult) {
        let PodId { namespace, name, .. } = &*pod.id;
        tracing::debug!(
            server = %question.server,
            asked = &*question.name,
            %namespace,
            %name,
            result = result.label(),
            "pod's name"
        );
        if &*question.name != POD_NAMES {
            return;
        }
        if self.unserved.note(question.server, result) {
            tracing::warn!(
                server = %question.server,
                "the name server has no pods' names: each is nxdomain (CoreDNS has `pods disabled`, or the cluster's \
                 domain is another one: dns.cluster_domain); dns.pods: false ends the questions"
            );
        }
        if result == QueryResult::NoError {
            self.driver.probe_once(Arc::clone(&pod.node), self.plan.once(pod, self.means));
        }
    }

    /// Ends everything in order: no new probes, the answers in flight, the last scrapes, the record.
    async fn stop(self) -> Result<(), RunError> {
        let Self { driver, http, mesh, stop_http, writer, .. } = self;
        let deadline = Deadline::now() + SHUTDOWN;
        let in_time = |_| RunError::Shutdown;
        let driven = timeout_at(deadline, spawn_blocking(move || driver.stop())).await.map_err(in_time)?;
        // The server may be gone already; then there is nothing to stop.
        let _ = stop_http.send(true);
        let served = timeout_at(deadline, http).await.map_err(in_time)?;
        if let Some(mesh) = mesh {
            timeout_at(deadline, mesh.ended()).await.map_err(in_time)?.map_err(|_| RunError::HttpEnded)?;
        }
        if let Some(writer) = writer {
            let written =
                timeout_at(deadline, spawn_blocking(move || writer.finish())).await.map_err(in_time)?;
            written.map_err(io::Error::other)?.map_err(RunError::Write)?;
        }
        match driven {
            Ok(Ok(())) => served.map_err(|_| RunError::HttpEnded),
            Ok(Err(_)) | Err(_) => Err(RunError::DriverEnded),
        }
    }
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

/// The listeners of `/metrics` and, in a mesh, of `/v1/node`.
fn bind(listen: Listen, probing: &Probing) -> Result<(TcpListener, Option<TcpListener>), RunError> {
    let listener = http::bind(listen).map_err(|(address, source)| RunError::Listen { address, source })?;
    let mesh = probing.mesh.enabled.then(|| http::bind(probing.mesh.listen)).transpose();
    Ok((listener, mesh.map_err(|(address, source)| RunError::ListenMesh { address, source })?))
}

fn open_sockets(plan: &Plan, random: &Random, buffer: usize) -> ProbeSockets {
    let probing = plan.probing();
    ProbeSockets::open(&podsonar_net::Settings {
        channels: plan::channels(probing),
        icmp_id: random.icmp_id,
        flows: probing.flows,
        receive_buffer: buffer,
        message_size: icmp::HEADER + probing.size,
        largest_message: LARGEST_MESSAGE,
    })
}

fn identity(source: String, probing: &Probing, random: &Random, sockets: &ProbeSockets) -> Identity {
    Identity {
        source,
        epoch: random.epoch,
        key: random.key,
        icmp_id: sockets.icmp_id(),
        source_ports_v4: sockets.source_ports(Family::V4).to_vec(),
        source_ports_v6: sockets.source_ports(Family::V6).to_vec(),
        closed_port: probing.closed_port,
        size: u16::try_from(probing.size).unwrap_or(u16::MAX),
        large_interval: probing.mtu,
        max_pps: probing.max_pps,
    }
}

/// The families by which other agents' probes are seen. Without them loss is not told by direction, and all else is.
fn listen_to_peers(sockets: &mut ProbeSockets, buffer: usize) -> Vec<Family> {
    let listen = |family: &Family| match sockets.listen(*family, buffer) {
        Ok(()) => true,
        Err(error) => {
            let family = family.label();
            tracing::warn!(family, %error, "other agents' probes cannot be seen: loss is not told by direction");
            false
        }
    };
    Family::ALL.into_iter().filter(listen).collect()
}

/// Pods have names in DNS, and nobody says in which domain.
fn warn_of_no_domain(probing: &Probing) {
    let dns = &probing.dns;
    if probing.mesh.kubernetes && dns.bare_names && dns.cluster_domain.is_none() {
        tracing::warn!(
            "pods' names are not asked for: the search list in /etc/resolv.conf tells no cluster domain, as with dnsPolicy \
             Default; set dns.cluster_domain"
        );
    }
}

/// Room for each probe's reply and transmit stamp: those in flight, and those of the longest stall.
fn receive_buffer(plan: &Plan) -> usize {
    let probing = plan.probing();
    let in_flight = |interval: Duration, timeout: Duration| {
        (timeout + LONGEST_STALL).as_secs_f64() / interval.as_secs_f64()
    };
    let fixed = probing.planned.iter().map(|each| in_flight(each.interval, each.timeout));
    let named = probing.named.iter().map(|each| {
        let streams = each.protocols.len() * ADDRESSES_OF_A_NAME;
        in_flight(each.interval, each.timeout) * streams as f64
    });
    let mesh = &probing.mesh;
    let timeout = Duration::from_secs(1);
    let of_mesh = if mesh.enabled {
        let pods = 2.0 * in_flight(mesh.pods_interval, timeout) * mesh.max_targets as f64;
        pods + 2.0 * in_flight(mesh.agents_interval, timeout) * mesh.max_peers as f64
    } else {
        0.0
    };
    let packets: f64 = fixed.chain(named).chain([of_mesh]).sum();
    let bytes = (packets.ceil() as usize).saturating_mul(2 * PACKET_COST);
    bytes.clamp(MIN_BUFFER, MAX_BUFFER)
}

/// What each channel got.
fn means(sockets: &ProbeSockets) -> MeansByChannel {
    Channel::ALL.map(|channel| sockets.mode(channel).map(|mode| Means::of(channel, mode)))
}

/// Logs what is not as it should be.
///
/// # Errors
/// Nothing can be probed: the first reason.
fn check_means(plan: &Plan, means: MeansByChannel, sockets: &mut ProbeSockets) -> Result<(), RunError> {
    let (probed, unprobed) = degrade::degrade(plan.probing().planned.clone(), means);
    let names = plan.probing().named.iter().any(|each| {
        each.protocols.iter().any(|protocol| {
            let may = |family| degrade::may_probe(*protocol, family, means);
            Family::ALL.into_iter().any(may)
        })
    });
    // What a mesh brings may be probed by whatever there is.
    let peers = plan.probing().mesh.enabled && means.into_iter().flatten().any(|means| means != Means::None);
    let only_asks =
        plan.probing().planned.is_empty() && plan.probing().named.is_empty() && !plan.probing().mesh.enabled;
    if probed.is_empty()
        && !names
        && !peers
        && !only_asks
        && let Some(error) = Channel::ALL.into_iter().find_map(|channel| sockets.take_error(channel))
    {
        return Err(error.into());
    }
    let modes: Vec<(Channel, &Mode)> = Channel::ALL
        .into_iter()
        .filter_map(|channel| sockets.mode(channel).map(|mode| (channel, mode)))
        .collect();
    degrade::tell(&modes, &unprobed);
    Ok(())
}

/// Whether something on this host answers SYNs for everybody, as service meshes do. If it cannot be found out, it does
/// not: probes will tell.
async fn is_intercepted(plan: &Plan, channels: &[Channel]) -> bool {
    let tcp = Channel { protocol: Transport::Tcp, family: Family::V4 };
    if !plan.probing().interception || !channels.contains(&tcp) || !plan.has_distant_tcp() {
        return false;
    }
    let ports = plan.tcp_ports();
    let found = spawn_blocking(move || intercepted_ports(&ports, INTERCEPTION)).await;
    match found {
        Ok(Ok(ports)) if !ports.is_empty() => {
            tracing::error!(
                ?ports,
                "something on this host answers SYNs for everybody (a service mesh, a transparent proxy): TCP is not \
                 measured, its probes end as intercepted; exclude podsonar from the mesh"
            );
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot tell whether something answers for everybody");
            false
        }
        Ok(Ok(_)) | Err(_) => false,
    }
}

fn facts(
    source: String,
    zone: String,
    probing: &Probing,
    means: MeansByChannel,
    sockets: &ProbeSockets,
) -> Facts {
    let granted = |channel| sockets.is_open(channel).then(|| sockets.granted_buffer(channel) as u64);
    let (version, buckets) = (env!("CARGO_PKG_VERSION"), probing.buckets.clone());
    Facts {
        source,
        zone,
        version,
        receive_buffers: Channel::ALL.map(granted),
        buckets,
        max_series: probing.max_series,
        by_zone: probing.by_zone,
        means,
    }
}

/// One line that says what goes on, and a warning where the kernel does not stamp.
fn announce(
    listener: &TcpListener,
    planned: &[Planned],
    channels: &[Channel],
    sockets: &ProbeSockets,
) -> io::Result<()> {
    let targets: HashSet<_> = planned.iter().map(|each| &each.stream.target).collect();
    let per_second = planned.iter().fold(0.0, |sum, each| sum + each.interval.as_secs_f64().recip());
    let buffers: Vec<_> = channels
        .iter()
        .map(|&channel| {
            let (protocol, family) = (channel.protocol.label(), channel.family.label());
            format!("{protocol}/{family} {} KiB", sockets.granted_buffer(channel) / 1024)
        })
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        targets = targets.len(),
        streams = planned.len(),
        probes_per_second = per_second,
        metrics = %format_args!("http://{}/metrics", listener.local_addr()?),
        receive_buffers = %buffers.join(", "),
        "probing"
    );
    for channel in channels.iter().filter(|channel| !sockets.has_stamps(**channel)) {
        let (protocol, family) = (channel.protocol.label(), channel.family.label());
        tracing::warn!(
            protocol,
            family,
            "the kernel does not stamp packets; round trips are counted, not observed"
        );
    }
    Ok(())
}

/// What an agent draws at its start.
#[derive(Debug)]
struct Random {
    epoch: u64,
    key: Secret,
    icmp_id: u16,
}

impl Random {
    fn draw() -> io::Result<Self> {
        Ok(Self {
            epoch: u64::from_ne_bytes(random()?),
            key: Secret(random()?),
            icmp_id: u16::from_ne_bytes(random()?),
        })
    }
}

/// Random bytes from the kernel (`getrandom(2)`), which gives so few at once and whole.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use podsonar_core::config::{Host, Origin, Written, setting};

    use super::*;

    #[test]
    fn a_buffer_holds_what_is_in_flight_and_a_stall_within_bounds() {
        assert_eq!(receive_buffer(&plan(&["127.0.0.1"])), 256 * 1024);
        let many: Vec<_> =
            (1..=10_000).map(|host| format!("10.0.{}.{}", host / 250, host % 250 + 1)).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(receive_buffer(&plan(&many)), 28_000 * 2 * 832);
    }

    fn plan(targets: &[&str]) -> Plan {
        let mut written = Written::default();
        for target in targets {
            written.set(&setting::TARGETS, Origin::Flag("--target"), target);
        }
        let host = Host { name: Some("host".into()), ..Host::default() };
        Plan::new("host", "", written.resolve(&host).unwrap().probing)
    }
}
