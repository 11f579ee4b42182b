//! What this process may not do it does otherwise, or not at all; never silently.
//!
//! Without `CAP_NET_RAW` ICMP goes over datagram sockets where the kernel allows them, and TCP is probed by full
//! handshakes under the label `protocol="connect"`, since what they measure is another thing.

use std::collections::HashSet;

use podsonar_core::target::{Family, Planned, Protocol, Stream};
use podsonar_core::wire::{Channel, Transport};
use podsonar_net::{Mode, OpenError};

/// How a protocol is probed over an IP version. The text form is the label `mode` of `podsonar_probe_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// By raw sockets: as meant.
    Raw,
    /// By datagram ICMP sockets: stamped alike.
    Datagram,
    /// By full TCP handshakes instead of SYNs.
    Connect,
    /// Not at all.
    None,
}

/// What each channel has, by [`Channel::index`]; `None` where it is not needed.
pub type MeansByChannel = [Option<Means>; Channel::ALL.len()];

impl Means {
    /// What is left for a channel that got this.
    pub const fn of(channel: Channel, mode: &Mode) -> Self {
        match (mode, channel.protocol) {
            (Mode::Raw, _) => Self::Raw,
            (Mode::Datagram, _) => Self::Datagram,
            (Mode::Missing(OpenError::NoFamily { .. }), _) | (Mode::Missing(_), Transport::Icmp) => {
                Self::None
            }
            (Mode::Missing(_), Transport::Tcp) => Self::Connect,
        }
    }

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Datagram => "datagram",
            Self::Connect => "connect",
            Self::None => "none",
        }
    }
}

/// The streams that can be probed, changed where they must be, and those that cannot.
///
/// A SYN stream that becomes a handshake to a target that has a handshake stream already is left out: it is probed.
pub fn degrade(planned: Vec<Planned>, means: MeansByChannel) -> (Vec<Planned>, Vec<Planned>) {
    let of = |stream: &Stream| match stream.channel() {
        None => Means::Connect,
        Some(channel) => means.get(channel.index()).copied().flatten().unwrap_or(Means::None),
    };
    let mut handshakes: HashSet<Stream> = HashSet::new();
    handshakes.extend(
        planned
            .iter()
            .filter(|each| each.stream.protocol == Protocol::Connect)
            .map(|each| each.stream.clone()),
    );
    let (mut probed, mut unprobed) = (Vec::with_capacity(planned.len()), Vec::new());
    for mut each in planned {
        match of(&each.stream) {
            Means::Raw | Means::Datagram => probed.push(each),
            Means::Connect if each.stream.protocol == Protocol::Connect => probed.push(each),
            Means::Connect => {
                each.stream.protocol = Protocol::Connect;
                if handshakes.insert(each.stream.clone()) {
                    probed.push(each);
                }
            }
            Means::None => unprobed.push(each),
        }
    }
    (probed, unprobed)
}

/// Whether a stream of this protocol and family can be probed, maybe otherwise than meant.
pub fn may_probe(protocol: Protocol, family: Family, means: MeansByChannel) -> bool {
    let Some(protocol) = Transport::of(protocol) else { return true };
    let channel = Channel { protocol, family };
    means.get(channel.index()).copied().flatten().is_some_and(|means| means != Means::None)
}

/// One log line for each channel that is not as it should be: what is missing, what follows from it, what to do.
/// `unprobed` are the streams that cannot be probed.
pub fn tell(modes: &[(Channel, &Mode)], unprobed: &[Planned]) {
    for (channel, mode) in modes {
        let means = Means::of(*channel, mode);
        let (protocol, family) = (channel.protocol.label(), channel.family.label());
        let streams = unprobed.iter().filter(|each| each.stream.channel() == Some(*channel)).count();
        match (means, mode) {
            (Means::Datagram, _) => tracing::warn!(
                protocol,
                family,
                mode = means.label(),
                "CAP_NET_RAW is missing: probing by datagram ICMP sockets, which measure alike"
            ),
            (Means::Connect, Mode::Missing(error)) => tracing::warn!(
                protocol,
                family,
                mode = means.label(),
                reason = %error,
                "full handshakes instead of SYNs, counted as protocol=\"connect\": applications accept them, and \
                 this process' clock times them"
            ),
            (Means::None, Mode::Missing(error)) => tracing::warn!(
                protocol,
                family,
                mode = means.label(),
                reason = %error,
                streams,
                "not probed"
            ),
            (_, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use podsonar_core::target::{Kind, Target};

    use super::*;

    #[test]
    fn with_everything_nothing_changes() {
        let planned = all();
        assert_eq!(degrade(planned.clone(), [Some(Means::Raw); 4]), (planned, Vec::new()));
    }

    #[test]
    fn without_raw_sockets_syns_become_handshakes_and_echoes_stay() {
        let (datagram, connect) = (Some(Means::Datagram), Some(Means::Connect));
        let (probed, unprobed) = degrade(all(), [datagram, datagram, connect, connect]);
        let labels = [("icmp", "4"), ("connect", "4"), ("icmp", "6"), ("connect", "6")];
        assert_eq!(words(&probed), labels);
        assert_eq!(unprobed, []);
    }

    #[test]
    fn what_has_no_means_is_told() {
        let (none, connect) = (Some(Means::None), Some(Means::Connect));
        let (probed, unprobed) = degrade(all(), [none, none, connect, none]);
        assert_eq!(words(&probed), [("connect", "4")]);
        assert_eq!(words(&unprobed), [("icmp", "4"), ("icmp", "6"), ("tcp", "6")]);
        // A channel that nobody opened has no means either.
        assert_eq!(degrade(all(), [None; 4]).0, []);
    }

    #[test]
    fn one_target_gets_one_handshake_stream_with_the_settings_that_were_written_for_it() {
        let mut written = planned("10.0.0.1:80", Protocol::Connect);
        written.interval = Duration::from_secs(7);
        for planned in [
            vec![planned("10.0.0.1:80", Protocol::Tcp), written.clone()],
            vec![written.clone(), planned("10.0.0.1:80", Protocol::Tcp)],
        ] {
            let (probed, unprobed) = degrade(planned, [Some(Means::Connect); 4]);
            assert_eq!((probed, unprobed), (vec![written.clone()], vec![]));
        }
        assert_eq!(degrade(vec![written.clone()], [None; 4]).0, [written], "needs no socket of ours");
    }

    #[test]
    fn what_is_left_depends_on_what_is_missing() {
        let tcp = Channel { protocol: Transport::Tcp, family: Family::V6 };
        let icmp = Channel { protocol: Transport::Icmp, family: Family::V6 };
        let left = |channel, error| Means::of(channel, &Mode::Missing(error));
        assert_eq!(left(tcp, OpenError::NoPermission { channel: tcp }), Means::Connect);
        assert_eq!(left(icmp, OpenError::NoPermission { channel: icmp }), Means::None);
        assert_eq!(left(tcp, OpenError::NoFamily { channel: tcp }), Means::None);
        assert_eq!(Means::of(icmp, &Mode::Datagram), Means::Datagram);
        assert_eq!(Means::of(tcp, &Mode::Raw), Means::Raw);
    }

    fn words(planned: &[Planned]) -> Vec<(&'static str, &'static str)> {
        planned.iter().map(|each| (each.stream.protocol.label(), each.stream.family().label())).collect()
    }

    fn all() -> Vec<Planned> {
        let protocols = [Protocol::Icmp, Protocol::Tcp];
        ["10.0.0.1:80", "[fd00::1]:80"]
            .into_iter()
            .flat_map(|target| protocols.map(|protocol| planned(target, protocol)))
            .collect()
    }

    fn planned(written: &str, protocol: Protocol) -> Planned {
        let at: std::net::SocketAddr = written.parse().unwrap();
        let target = Target::new(Kind::Fixed, written.into(), at.ip(), Some(at.port()));
        Planned {
            stream: Stream { target: Arc::new(target), protocol },
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(800),
            presumed: false,
        }
    }
}
