//! The sockets that an agent gets, how large their buffers are, and what is said where they are not as they should be.

use std::time::Duration;

use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport, icmp};
use podsonar_net::interception::intercepted_ports;
use podsonar_net::{Mode, ProbeSockets};
use tokio::task::spawn_blocking;

use super::RunError;
use crate::degrade::{self, Means, MeansByChannel};
use crate::plan::{self, Plan};

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

pub(super) fn open_sockets(plan: &Plan, icmp_id: u16, buffer: usize) -> ProbeSockets {
    let probing = plan.probing();
    ProbeSockets::open(&podsonar_net::Settings {
        channels: plan::channels(probing),
        icmp_id,
        flows: probing.flows,
        receive_buffer: buffer,
        message_size: icmp::HEADER + probing.size,
        largest_message: LARGEST_MESSAGE,
    })
}

/// The families by which other agents' probes are seen. Without them loss is not told by direction, and all else is.
pub(super) fn listen_to_peers(sockets: &mut ProbeSockets, buffer: usize) -> Vec<Family> {
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

/// Room for each probe's reply and transmit stamp: those in flight, and those of the longest stall.
pub(super) fn receive_buffer(plan: &Plan) -> usize {
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
pub(super) fn means(sockets: &ProbeSockets) -> MeansByChannel {
    Channel::ALL.map(|channel| sockets.mode(channel).map(|mode| Means::of(channel, mode)))
}

/// Logs what is not as it should be.
///
/// # Errors
/// Nothing can be probed: the first reason.
pub(super) fn check_means(
    plan: &Plan,
    means: MeansByChannel,
    sockets: &mut ProbeSockets,
) -> Result<(), RunError> {
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
pub(super) async fn is_intercepted(plan: &Plan, channels: &[Channel]) -> bool {
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
