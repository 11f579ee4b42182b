//! The start: everything that may fail first, then all that runs.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use podsonar_core::config::{self, Configuration, Listen, Probing};
use podsonar_core::engine::{Engine, Identity, Secret};
use podsonar_core::target::{Family, Planned};
use podsonar_core::wire::Channel;
use podsonar_net::ProbeSockets;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use super::sockets::{check_means, is_intercepted, listen_to_peers, means, open_sockets, receive_buffer};
use super::{Agent, RunError};
use crate::clock::{self, Clocks, SystemClocks};
use crate::degrade::MeansByChannel;
use crate::discovery::pod_names::Unserved;
use crate::driver::{self, Driver};
use crate::exchange::lists::Lists;
use crate::http::{self, Limits, Site};
use crate::ledger::Ledger;
use crate::mesh::{Mesh, Myself, Orders, Setting};
use crate::metrics::dns::DnsMetrics;
use crate::metrics::state::{Facts, Metrics};
use crate::plan::Plan;
use crate::probe::runner::{Runner, SharedAsking};
use crate::{preflight, record, throttle};

impl Agent {
    pub(super) async fn start(configuration: Configuration) -> Result<Self, RunError> {
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
        let mut sockets = open_sockets(&plan, random.icmp_id, buffer);
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
}

/// The listeners of `/metrics` and, in a mesh, of `/v1/node`.
fn bind(listen: Listen, probing: &Probing) -> Result<(TcpListener, Option<TcpListener>), RunError> {
    let listener = http::bind(listen).map_err(|(address, source)| RunError::Listen { address, source })?;
    let mesh = probing.mesh.enabled.then(|| http::bind(probing.mesh.listen)).transpose();
    Ok((listener, mesh.map_err(|(address, source)| RunError::ListenMesh { address, source })?))
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
