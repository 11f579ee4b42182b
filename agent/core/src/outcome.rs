//! What became of a probe. Each probe that falls due yields exactly one [`Outcome`].

use std::time::Duration;

use crate::target::StreamId;
use crate::time::{Instant, WallTime};

/// The one result of a probe that fell due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Which stream's probe.
    pub stream: StreamId,
    /// Which of the stream's due probes this is, counted from 0; the first, if it stands for several. Numbers leave
    /// nothing out, so that who gets results out of order knows what is still open.
    pub number: u64,
    /// When the schedule wanted it sent.
    pub due: Instant,
    /// What became of it.
    pub result: ProbeResult,
    /// How many due probes this stands for: above 1 only for probes that were never handed out (skipped,
    /// discarded); their further due times follow in steps of the stream's interval.
    pub count: u64,
    /// What identified it on the wire; `None` if it was never handed to the kernel.
    pub sent: Option<Sent>,
}

/// What identified a probe on the wire, and which clocks timed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When it left: the kernel's transmit stamp, else the time of the send call.
    pub at: WallTime,
    /// Where `at` comes from.
    pub tx: StampSource,
    /// Where the time of the reply comes from; `None` without a reply.
    pub rx: Option<StampSource>,
    /// The keyed value that the reply had to bring back: in the ICMP payload; for SYN it is the key the
    /// sequence number was taken from.
    pub cookie: u64,
    /// ICMP: the header's 16-bit sequence; TCP: the 32-bit sequence number.
    pub sequence: u32,
    /// TCP: the source port.
    pub source_port: Option<u16>,
    /// TCP: the destination port, which is the target's unless the probe is to explain a silence.
    pub destination_port: Option<u16>,
}

/// Who took a time stamp, best first. The text form is a metric label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StampSource {
    /// The kernel, where the packet passes the driver (`SOF_TIMESTAMPING_TX_SOFTWARE`, `…_RX_SOFTWARE`).
    Software,
    /// The kernel, before the packet enters the queueing discipline (`SOF_TIMESTAMPING_TX_SCHED`).
    Sched,
    /// This process: true only up to its own scheduling.
    User,
}

impl StampSource {
    /// Every source, best first.
    pub const ALL: [Self; 3] = [Self::Software, Self::Sched, Self::User];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Sched => "sched",
            Self::User => "user",
        }
    }

    /// Whether the kernel took it, so that it may time a round trip.
    pub const fn is_kernel(self) -> bool {
        matches!(self, Self::Software | Self::Sched)
    }
}

/// A probe's result. Closed: consumers match it without `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// The target answered (echo reply, SYN-ACK).
    Reply(Rtt),
    /// The target answered a SYN with RST: reachable, nobody listens.
    Reset(Rtt),
    /// No answer within the timeout, on the network (RFC 2681 §2.4, RFC 7680 §2.4).
    Lost,
    /// Its port was silent while the network was fine: the application did not take the connection.
    Listener,
    /// An ICMP error came instead of an answer.
    Unreachable(Unreachable),
    /// It says nothing about the network.
    Void(Void),
}

/// The round trip of an answered probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rtt {
    /// Both ends stamped by the kernel: goes into the histogram.
    Observed(Duration),
    /// At least one end has only this process' clock: answered in time, but not observed.
    Estimated(Duration),
    /// The clocks moved meanwhile: answered, and that is all that can be said.
    Unmeasured,
}

/// Why a due probe says nothing about the network: the metric label `reason` of `probes_void_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// The kernel refused to send it.
    NotSent(SendError),
    /// It was too far behind schedule to be sent at all.
    Skipped,
    /// Its reply may have been lost on this host, or the clocks do not allow a verdict.
    Unknown,
    /// Its target was removed meanwhile.
    Discarded,
    /// Something on this host answers SYNs for everybody, so TCP is not measured.
    Intercepted,
}

impl ProbeResult {
    /// The label value: `result` of `probes_total`, or `reason` of `probes_void_total`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reply(_) => "reply",
            Self::Reset(_) => "reset",
            Self::Lost => "lost",
            Self::Listener => "listener",
            Self::Unreachable(_) => "unreachable",
            Self::Void(Void::NotSent(_)) => "not_sent",
            Self::Void(Void::Skipped) => "skipped",
            Self::Void(Void::Unknown) => "unknown",
            Self::Void(Void::Discarded) => "discarded",
            Self::Void(Void::Intercepted) => "intercepted",
        }
    }

    /// The fixed word for the ICMP error or the errno behind it.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Unreachable(reason) => Some(reason.label()),
            Self::Void(Void::NotSent(error)) => Some(error.label()),
            Self::Reply(_)
            | Self::Reset(_)
            | Self::Lost
            | Self::Listener
            | Self::Void(Void::Skipped | Void::Unknown | Void::Discarded | Void::Intercepted) => None,
        }
    }

    /// The round trip of an answer.
    pub const fn rtt(self) -> Option<Rtt> {
        match self {
            Self::Reply(rtt) | Self::Reset(rtt) => Some(rtt),
            Self::Lost | Self::Listener | Self::Unreachable(_) | Self::Void(_) => None,
        }
    }
}

/// The meaning of an ICMP error (RFC 792, RFC 1812 §5.2.7, RFC 4443 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unreachable {
    /// No route to the network or host (v4 codes 0, 6, 11; v6 code 0).
    Network,
    /// The host does not answer for its address (v4 codes 1, 7, 8, 12; v6 code 3).
    Host,
    /// The host does not speak the protocol (v4 code 2; v6 parameter problem code 1).
    Protocol,
    /// The port is refused by a filter (v4 code 3, v6 code 4).
    Port,
    /// Forbidden by a filter (v4 codes 9, 10, 13 to 15; v6 codes 1, 5, 6).
    Prohibited,
    /// The packet is too big for the path (v4 code 4; v6 type 2).
    TooBig,
    /// The hop limit ran out on the way: a routing loop (time exceeded).
    TimeExceeded,
    /// Any other error.
    Other,
}

impl Unreachable {
    /// The fixed word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Network => "network_unreachable",
            Self::Host => "host_unreachable",
            Self::Protocol => "protocol_unreachable",
            Self::Port => "port_unreachable",
            Self::Prohibited => "admin_prohibited",
            Self::TooBig => "packet_too_big",
            Self::TimeExceeded => "time_exceeded",
            Self::Other => "other",
        }
    }
}

/// Why the kernel refused a packet (`errno(3)`, `raw(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum SendError {
    /// `ENETUNREACH`, `EHOSTUNREACH`: no route.
    #[error("no route")]
    NoRoute,
    /// `EPERM`: the host's own firewall.
    #[error("refused by the host's firewall")]
    Firewall,
    /// `EACCES`: a broadcast address, or no permission.
    #[error("not permitted")]
    Denied,
    /// `ENOBUFS`, `EAGAIN`, `ENOMEM`: the queue of the interface is full.
    #[error("send queue full")]
    QueueFull,
    /// `EMSGSIZE`: larger than the route's MTU.
    #[error("larger than the MTU")]
    TooBig,
    /// `EADDRNOTAVAIL`, `EINVAL`: no usable source address.
    #[error("no usable source address")]
    NoSource,
    /// There is no socket for this protocol and family.
    #[error("no socket for this protocol and family")]
    NoSocket,
    /// Any other errno.
    #[error("refused")]
    Other,
}

impl SendError {
    /// The fixed word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Firewall => "firewall",
            Self::Denied => "denied",
            Self::QueueFull => "queue_full",
            Self::TooBig => "too_big",
            Self::NoSource => "no_source",
            Self::NoSocket => "no_socket",
            Self::Other => "other",
        }
    }
}

/// What arrived too late or too often to be a result: counted beside the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// An answer after the timeout; its probe stays lost.
    Late(LateHint),
    /// A further answer to an answered probe.
    Duplicate,
}

/// What a late answer hints at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LateHint {
    /// A SYN-ACK about one second late: the target sent it again, so the first was lost on the way back.
    WayBack,
    /// Nothing in particular.
    None,
}

impl LateHint {
    /// Every hint, in label order.
    pub const ALL: [Self; 2] = [Self::None, Self::WayBack];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WayBack => "way_back",
            Self::None => "none",
        }
    }
}
