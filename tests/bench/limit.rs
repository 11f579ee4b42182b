//! The limit: what the kernel alone asks for a probe. One raw socket with a filter, packets sent and received in
//! batches, both kernel stamps read; no targets, no metrics, no decisions. A prober cannot be cheaper on this kernel.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::sys::prctl;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use podsonar_lab::sys::packets::{self, Inbox, MAX_BATCH, Queue};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Settings of the bare driver.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Limit {
    /// What to send
    #[arg(long, value_enum)]
    pub(crate) mode: Mode,
    /// How many targets, from the mode's first address on
    #[arg(long)]
    pub(crate) targets: u32,
    /// Probes per second
    #[arg(long)]
    pub(crate) rate: u32,
    /// Probes per wake-up
    #[arg(long)]
    pub(crate) batch: u32,
    /// How long
    #[arg(long)]
    pub(crate) seconds: u32,
}

/// What the bare driver sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Echo requests to 127.1.0.0 and up.
    Icmp4,
    /// Echo requests to `fd00:1::` and up.
    Icmp6,
    /// SYNs to port [`PORT`] of 127.1.0.0 and up.
    Syn4,
}

/// The first IPv4 target; loopback answers for all of 127/8.
pub(crate) const FIRST_V4: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);
/// The first IPv6 target; the host must answer for its /64.
pub(crate) const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0);
/// The TCP port of targets.
pub(crate) const PORT: u16 = 8080;

const SOURCE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SOURCE_PORT: u16 = 40_000;
const ECHO_LENGTH: usize = 64;
const BUFFER_BYTES: u32 = 8 << 20;

/// The address of a target.
pub(crate) fn target(v6: bool, number: u32) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(FIRST_V4.to_bits() + number).into()
    }
}

#[derive(Debug, Default)]
struct Totals {
    sent: u64,
    answers: u64,
    transmit_stamps: u64,
    receive_stamps: u64,
}

impl Limit {
    /// Runs to the end and prints what happened as one line.
    pub(crate) fn run(self) -> Result<()> {
        anyhow::ensure!((1..=MAX_BATCH as u32).contains(&self.batch), "a batch has 1 to {MAX_BATCH} probes");
        anyhow::ensure!(self.rate > 0 && self.targets > 0, "rate and targets must be positive");
        prctl::set_timerslack(1).context("ask for precise timers")?;
        let id = std::process::id() as u16;
        let socket = self.mode.socket(id).context("open a raw socket")?;
        let v6 = self.mode == Mode::Icmp6;
        let to: Vec<SockAddr> =
            (0..self.targets).map(|number| SocketAddr::new(target(v6, number), 0).into()).collect();
        let totals = self.loop_over(&socket, &to, id)?;
        let Totals { sent, answers, transmit_stamps, receive_stamps } = totals;
        println!(
            "{sent} sent, {answers} answers, {transmit_stamps} transmit stamps, {receive_stamps} receive stamps"
        );
        Ok(())
    }

    fn loop_over(self, socket: &Socket, to: &[SockAddr], id: u16) -> Result<Totals> {
        let step = Duration::from_secs(1) * self.batch / self.rate;
        let wakes = u64::from(self.seconds) * u64::from(self.rate) / u64::from(self.batch);
        let mut due = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let mut totals = Totals::default();
        let mut inbox = Inbox::default();
        let mut bytes: Vec<[u8; ECHO_LENGTH]> = vec![[0; ECHO_LENGTH]; self.batch as usize];
        let mut addresses: Vec<SockAddr> = Vec::with_capacity(self.batch as usize);
        let mut next = to.iter().cycle();
        for _ in 0..wakes {
            due += step;
            // An interrupted sleep only makes one batch early.
            let _ =
                clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &due.into());
            addresses.clear();
            addresses.extend(next.by_ref().take(bytes.len()).cloned());
            for ((bytes, to), number) in bytes.iter_mut().zip(&addresses).zip(totals.sent..) {
                self.mode.encode(bytes, to, id, number as u32);
            }
            let mut views: [&[u8]; MAX_BATCH] = [&[]; MAX_BATCH];
            for (view, bytes) in views.iter_mut().zip(&bytes) {
                *view = bytes.get(..self.mode.length()).unwrap_or(bytes);
            }
            let mut rest = (views.get(..bytes.len()).unwrap_or(&views), addresses.as_slice());
            while !rest.0.is_empty() {
                let sent = packets::send(socket, rest.0, rest.1).context("send")?;
                totals.sent += sent as u64;
                rest = (rest.0.get(sent..).unwrap_or(&[]), rest.1.get(sent..).unwrap_or(&[]));
            }
            totals.read(socket, &mut inbox)?;
        }
        Ok(totals)
    }
}

impl Totals {
    /// Reads all that waits, each queue until it is empty.
    fn read(&mut self, socket: &Socket, inbox: &mut Inbox) -> Result<()> {
        let mut full = true;
        while full {
            let count = inbox.receive(socket, Queue::Data, |_, stamp| {
                self.answers += 1;
                self.receive_stamps += u64::from(stamp.is_some());
            })?;
            full = count == MAX_BATCH;
        }
        full = true;
        while full {
            let count = inbox.receive(socket, Queue::Errors, |_, stamp| {
                self.transmit_stamps += u64::from(stamp.is_some());
            })?;
            full = count == MAX_BATCH;
        }
        Ok(())
    }
}

impl Mode {
    fn socket(self, id: u16) -> Result<Socket> {
        let (domain, protocol) = match self {
            Self::Icmp4 => (Domain::IPV4, Protocol::ICMPV4),
            Self::Icmp6 => (Domain::IPV6, Protocol::ICMPV6),
            Self::Syn4 => (Domain::IPV4, Protocol::TCP),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.attach_filter(&self.filter(id))?;
        packets::force_buffers(&socket, BUFFER_BYTES)?;
        packets::stamp_both_ways(&socket)?;
        if self == Self::Syn4 {
            socket.bind(&SocketAddr::from((SOURCE, 0)).into())?;
        }
        Ok(socket)
    }

    /// Lets echo replies with our id through, or segments with ACK to our port. An IPv4 socket's packets start with
    /// the IP header, an IPv6 socket's do not.
    fn filter(self, id: u16) -> Vec<SockFilter> {
        let op = |code: u32, jump_true, jump_false, k| SockFilter::new(code as u16, jump_true, jump_false, k);
        let header = op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0);
        let byte = |at| op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, at);
        let half = |at| op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, at);
        let equals = |k, skip| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, k);
        let has = |k, skip| op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, skip, k);
        let (accept, refuse) =
            (op(libc::BPF_RET | libc::BPF_K, 0, 0, 0xffff), op(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
        let no_header = op(libc::BPF_LDX | libc::BPF_IMM, 0, 0, 0);
        match self {
            Self::Icmp4 => vec![header, byte(0), equals(0, 3), half(4), equals(id.into(), 1), accept, refuse],
            Self::Icmp6 => {
                vec![no_header, byte(0), equals(129, 3), half(4), equals(id.into(), 1), accept, refuse]
            }
            Self::Syn4 => {
                vec![header, half(2), equals(SOURCE_PORT.into(), 3), byte(13), has(0x10, 1), accept, refuse]
            }
        }
    }

    fn length(self) -> usize {
        if self == Self::Syn4 { 20 } else { ECHO_LENGTH }
    }

    fn encode(self, bytes: &mut [u8; ECHO_LENGTH], to: &SockAddr, id: u16, number: u32) {
        let [id0, id1] = id.to_be_bytes();
        let [n0, n1, n2, n3] = number.to_be_bytes();
        match self {
            Self::Icmp4 | Self::Icmp6 => {
                // The kernel fills in the checksum of ICMPv6.
                let kind = if self == Self::Icmp4 { 8 } else { 128 };
                let header = [kind, 0, 0, 0, id0, id1, n2, n3, n0, n1, n2, n3];
                let [c0, c1] = checksum(&header, 0).to_be_bytes();
                put(bytes, &[kind, 0, c0, c1, id0, id1, n2, n3, n0, n1, n2, n3]);
            }
            Self::Syn4 => {
                let [s0, s1] = SOURCE_PORT.to_be_bytes();
                let [p0, p1] = PORT.to_be_bytes();
                let mut segment =
                    [s0, s1, p0, p1, n0, n1, n2, n3, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0];
                let to = to.as_socket_ipv4().map_or(Ipv4Addr::UNSPECIFIED, |to| *to.ip());
                let pseudo = sum(&SOURCE.octets(), sum(&to.octets(), 6 + 20));
                let [c0, c1] = checksum(&segment, pseudo).to_be_bytes();
                put(
                    &mut segment,
                    &[s0, s1, p0, p1, n0, n1, n2, n3, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, c0, c1],
                );
                put(bytes, &segment);
            }
        }
    }
}

fn put(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes, in network order.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let sum = sum(bytes, start);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

fn sum(bytes: &[u8], start: u32) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().fold(start, |sum, word| sum + u32::from(u16::from_be_bytes(*word)))
}
