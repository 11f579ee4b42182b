//! What a link does to a packet. Pure: no clock, no I/O; the same seed on the same packets takes the same decisions.
//!
//! Chance is a function of (seed, number of the packet, purpose), not a stream: to switch one fault on or off changes
//! no decision of the others, and time plays no part except for the rate limit, which is about time.

mod only;

pub use only::Only;

use crate::packet::{self, ICMP, ICMPV6, Packet, TCP, UDP};
use std::net::IpAddr;
use std::time::Duration;

/// The faults of one direction of a link. The default is a perfect wire.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every packet is this late.
    pub delay: Duration,
    /// And later by an even chance between nothing and this. It keeps the order; see `reorder` for that.
    pub jitter: Duration,
    /// Which packets vanish.
    pub loss: Loss,
    /// The chance of a packet to arrive twice, between 0 and 1.
    pub duplicate: f64,
    /// Packets that are held back, so that later ones overtake them.
    pub reorder: Option<Reorder>,
    /// Packets that change on the way.
    pub corrupt: Option<Corrupt>,
    /// A bottleneck.
    pub rate: Option<Rate>,
    /// The largest packet that passes.
    pub mtu: Option<Mtu>,
    /// Only these packets are subject to `loss`, `duplicate`, `reorder` and `corrupt`; all are to the others.
    pub only: Only,
}

/// Which packets vanish.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// All: the link is cut.
    All,
    /// Each with this chance, between 0 and 1.
    Random(f64),
    /// Bursts: the Gilbert–Elliott model, a good and a bad state of the link (Elliott 1963).
    Bursts {
        /// The chance, at each packet, to go from good to bad.
        enter: f64,
        /// The chance, at each packet, to go from bad to good. The mean burst is 1 / `leave` packets.
        leave: f64,
        /// The chance of a packet to vanish in the bad state; in the good state none does.
        bad_loss: f64,
    },
}

impl Loss {
    /// Bursts in which every packet vanishes, with this share of packets lost over all and this mean length in packets.
    pub fn bursts(share: f64, mean_length: f64) -> Self {
        let leave = 1.0 / mean_length;
        Self::Bursts { enter: leave * share / (1.0 - share), leave, bad_loss: 1.0 }
    }
}

/// Holding packets back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reorder {
    /// The chance of a packet to be held back, between 0 and 1.
    pub chance: f64,
    /// For how long, beyond its delay.
    pub hold: Duration,
}

/// Flipping one bit of packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corrupt {
    /// The chance of a packet to change, between 0 and 1.
    pub chance: f64,
    /// What the checksum says about it.
    pub checksum: Checksum,
}

/// Whether a changed packet's checksum tells of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Any bit past the IP header flips and the checksum stays: receivers should refuse the packet.
    Wrong,
    /// A bit of the payload flips (without payload, of the ICMP id and sequence or the TCP numbers) and the checksum is
    /// made right: only a look at the contents tells.
    Repaired,
}

/// A bottleneck with a queue that drops what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits of IP packets a second.
    pub bits_per_second: u64,
    /// Packets that would wait longer than this vanish.
    pub queue: Duration,
}

/// The largest packet that passes, as a router with a smaller next link would have it. Nothing is fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// Bytes of IP packet.
    pub bytes: u16,
    /// Whether the sender is told by "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443), which come from
    /// the packet's destination address; else the packet vanishes: a black hole.
    pub answer: bool,
}

/// What becomes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives so much later.
    Pass(Pass),
    /// It vanishes by `loss`.
    Lost,
    /// It vanishes, since the bottleneck's queue is full.
    QueueFull,
    /// It is longer than the MTU; `answer` says whether [`too_big`] goes back.
    TooBig {
        /// The MTU in bytes.
        mtu: u16,
        /// Whether the sender is told.
        answer: bool,
    },
}

/// How a packet arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// So much later than it came.
    pub after: Duration,
    /// Whether later packets may overtake it.
    pub held: bool,
    /// Whether it arrives twice.
    pub twice: bool,
    /// What flips in it.
    pub flip: Option<Flip>,
}

/// A change to a packet, to be made by [`Flip::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    chance: u64,
    checksum: Checksum,
}

/// Decides the fate of packets, one direction of a link.
#[derive(Debug)]
pub struct Injector {
    seed: u64,
    /// Packets so far: the number of the next one.
    packets: u64,
    in_burst: bool,
    /// When the bottleneck has sent all that was accepted, since the link's start.
    idle_at: Duration,
    /// When the last packet that keeps its order arrives, since the link's start.
    last_arrival: Duration,
}

/// What a draw decides. The numbers are part of what a seed means.
#[derive(Clone, Copy)]
enum Purpose {
    Loss = 1,
    Burst = 2,
    Duplicate = 3,
    Reorder = 4,
    Corrupt = 5,
    Bit = 6,
    Jitter = 7,
}

impl Injector {
    /// An injector whose decisions follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, packets: 0, in_burst: false, idle_at: Duration::ZERO, last_arrival: Duration::ZERO }
    }

    /// Decides about the next packet, which came at `now` since the link's start.
    pub fn decide(&mut self, now: Duration, faults: &Faults, packet: &Packet<'_>) -> Fate {
        let number = self.packets;
        self.packets += 1;
        if let Some(mtu) = faults.mtu.filter(|mtu| packet.length > usize::from(mtu.bytes)) {
            return Fate::TooBig { mtu: mtu.bytes, answer: mtu.answer };
        }
        let is_subject = faults.only.includes(packet);
        if is_subject && self.loses(number, faults.loss) {
            return Fate::Lost;
        }
        let Some(queued) = self.queue(now, faults.rate, packet.length) else { return Fate::QueueFull };
        let happens = |purpose, chance| is_subject && self.chance(number, purpose) < chance;
        let flip = faults.corrupt.filter(|corrupt| happens(Purpose::Corrupt, corrupt.chance));
        let reorder = faults.reorder.filter(|reorder| happens(Purpose::Reorder, reorder.chance));
        let twice = happens(Purpose::Duplicate, faults.duplicate);
        let flip =
            flip.map(|corrupt| Flip { chance: self.draw(number, Purpose::Bit), checksum: corrupt.checksum });
        let jitter = faults.jitter.mul_f64(self.chance(number, Purpose::Jitter));
        let arrival = now + queued + faults.delay + jitter;
        let arrival = if let Some(reorder) = reorder {
            arrival + reorder.hold
        } else {
            self.last_arrival = self.last_arrival.max(arrival);
            self.last_arrival
        };
        Fate::Pass(Pass { after: arrival.saturating_sub(now), held: reorder.is_some(), twice, flip })
    }

    fn loses(&mut self, number: u64, loss: Loss) -> bool {
        match loss {
            Loss::None => false,
            Loss::All => true,
            Loss::Random(chance) => self.chance(number, Purpose::Loss) < chance,
            Loss::Bursts { enter, leave, bad_loss } => {
                let change = if self.in_burst { leave } else { enter };
                self.in_burst ^= self.chance(number, Purpose::Burst) < change;
                self.in_burst && self.chance(number, Purpose::Loss) < bad_loss
            }
        }
    }

    /// How long the packet takes through the bottleneck, or nothing if the queue is full.
    fn queue(&mut self, now: Duration, rate: Option<Rate>, length: usize) -> Option<Duration> {
        let Some(rate) = rate else { return Some(Duration::ZERO) };
        let start = self.idle_at.max(now);
        if start.saturating_sub(now) > rate.queue {
            return None;
        }
        let nanos = (length as u64 * 8 * 1_000_000_000).checked_div(rate.bits_per_second)?;
        self.idle_at = start + Duration::from_nanos(nanos);
        Some(self.idle_at.saturating_sub(now))
    }

    /// A number evenly spread over [0, 1).
    fn chance(&self, number: u64, purpose: Purpose) -> f64 {
        (self.draw(number, purpose) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn draw(&self, number: u64, purpose: Purpose) -> u64 {
        mix(mix(self.seed ^ mix(number)) ^ purpose as u64)
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Flip {
    /// Flips the bit in a packet; nothing happens to one without transport bytes.
    pub fn apply(self, bytes: &mut [u8]) {
        let Some(packet) = Packet::decode(bytes) else { return };
        let (start, protocol) = (packet.header_length, packet.protocol);
        let (from, to) = match self.checksum {
            Checksum::Wrong => (start, bytes.len()),
            Checksum::Repaired => contents(start, protocol, bytes),
        };
        let bits = (to.saturating_sub(from) * 8) as u64;
        let Some(bit) = self.chance.checked_rem(bits) else { return };
        if let Some(byte) = bytes.get_mut(from + (bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
        }
        if self.checksum == Checksum::Repaired {
            packet::repair_checksum(bytes);
        }
    }
}

/// Where a packet has contents that may change while it stays well formed: from, to.
fn contents(start: usize, protocol: u8, bytes: &[u8]) -> (usize, usize) {
    let end = bytes.len();
    let (header, numbers) = match protocol {
        ICMP | ICMPV6 => (8, 4..8),
        UDP => (8, 8..8),
        TCP => (bytes.get(start + 12).map_or(20, |offset| usize::from(offset >> 4) * 4), 4..12),
        _ => return (start, end),
    };
    if start + header < end {
        (start + header, end)
    } else {
        (start + numbers.start, (start + numbers.end).min(end))
    }
}

/// The ICMP error that a router sends for a packet longer than `mtu`: "fragmentation needed" for IPv4 (RFC 792, type 3
/// code 4, MTU by RFC 1191), "packet too big" for IPv6 (RFC 4443, type 2). Nothing for packets that must not be
/// answered by errors: those that are errors themselves, and IPv4 packets that may be fragmented.
pub fn too_big(bytes: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let packet = Packet::decode(bytes)?;
    let kind = *bytes.get(packet.header_length)?;
    let is_error = match packet.protocol {
        ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        ICMPV6 => kind < 128,
        _ => false,
    };
    if is_error || !packet.dont_fragment {
        return None;
    }
    let [high, low] = mtu.to_be_bytes();
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let quoted = bytes.get(..bytes.len().min(packet.header_length + 8))?;
            let message = [&[3, 4, 0, 0, 0, 0, high, low], quoted].concat();
            Some(packet::ipv4(dst, src, ICMP, &message))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            // As much as fits in IPv6's least MTU.
            let quoted = bytes.get(..bytes.len().min(1280 - 48))?;
            let message = [&[2, 0, 0, 0, 0, 0, high, low], quoted].concat();
            Some(packet::ipv6(dst, src, ICMPV6, &message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum_is_right;
    use std::net::Ipv4Addr;

    #[test]
    fn same_seed_on_same_packets_takes_same_decisions() {
        let faults = everything();
        assert_eq!(fates(7, &faults, 2000), fates(7, &faults, 2000));
        assert_ne!(fates(7, &faults, 2000), fates(8, &faults, 2000));
    }

    #[test]
    fn one_fault_changes_no_decision_of_another() {
        let loss = Faults { loss: Loss::Random(0.2), ..Faults::default() };
        let more = Faults { duplicate: 0.5, jitter: Duration::from_millis(1), ..loss.clone() };
        let lost = |faults| fates(3, faults, 2000).iter().map(|fate| *fate == Fate::Lost).collect::<Vec<_>>();
        assert_eq!(lost(&loss), lost(&more));
    }

    #[test]
    fn random_loss_has_its_chance_and_no_memory() {
        let lost = lost_of(&Faults { loss: Loss::Random(0.1), ..Faults::default() }, 100_000);
        let share = share(&lost);
        assert!((0.095..0.105).contains(&share), "{share}");
        let after_loss: Vec<bool> = lost.windows(2).filter(|w| w[0]).map(|w| w[1]).collect();
        let share_after = self::share(&after_loss);
        assert!((0.08..0.12).contains(&share_after), "{share_after}");
    }

    #[test]
    fn bursts_have_their_share_and_mean_length() {
        let lost = lost_of(&Faults { loss: Loss::bursts(0.1, 8.0), ..Faults::default() }, 400_000);
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count();
        let mean = lost.iter().filter(|&&l| l).count() as f64 / bursts as f64;
        assert!((0.09..0.11).contains(&share(&lost)), "{}", share(&lost));
        assert!((7.0..9.0).contains(&mean), "{mean}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = Faults { jitter: Duration::from_millis(5), ..Faults::default() };
        let reorder = Reorder { chance: 0.1, hold: Duration::from_millis(3) };
        let reorder = Faults { reorder: Some(reorder), ..Faults::default() };
        assert!(arrivals(&jitter).is_sorted());
        assert!(!arrivals(&reorder).is_sorted());
    }

    #[test]
    fn rate_spaces_packets_and_drops_what_the_queue_cannot_hold() {
        // 84 bytes at 672 kbit/s take a millisecond each; a burst finds room for those waiting at most 10 ms.
        let rate = Rate { bits_per_second: 672_000, queue: Duration::from_millis(10) };
        let faults = Faults { rate: Some(rate), ..Faults::default() };
        let mut injector = Injector::new(1);
        let bytes = echo(56);
        let packet = Packet::decode(&bytes).unwrap();
        let fates: Vec<Fate> = (0..20).map(|_| injector.decide(Duration::ZERO, &faults, &packet)).collect();
        let expected = |n: u64| {
            Fate::Pass(Pass { after: Duration::from_millis(n), held: false, twice: false, flip: None })
        };
        assert_eq!(fates[..11], (1..=11).map(expected).collect::<Vec<_>>());
        assert!(fates[11..].iter().all(|fate| *fate == Fate::QueueFull));
    }

    #[test]
    fn only_chosen_packets_are_lost() {
        let faults = Faults { loss: Loss::All, only: Only::tcp(), ..Faults::default() };
        assert!(lost_of(&faults, 100).iter().all(|lost| !lost));
        let faults = Faults { loss: Loss::All, only: Only::icmp(), ..Faults::default() };
        assert!(lost_of(&faults, 100).iter().all(|lost| *lost));
    }

    #[test]
    fn wrong_checksum_tells_of_the_flip() {
        for chance in 0..64 * 8 {
            let mut bytes = echo(56);
            Flip { chance, checksum: Checksum::Wrong }.apply(&mut bytes);
            assert_eq!(checksum_is_right(&bytes), Some(false), "bit {chance}");
            assert_eq!(bytes[..20], echo(56)[..20], "the IP header stays");
        }
    }

    #[test]
    fn repaired_checksum_leaves_only_the_contents_wrong() {
        for (message, chances) in [(56, 56 * 8), (0, 4 * 8)] {
            for chance in 0..chances {
                let mut bytes = echo(message);
                Flip { chance, checksum: Checksum::Repaired }.apply(&mut bytes);
                assert_eq!(checksum_is_right(&bytes), Some(true), "bit {chance}");
                assert_ne!(bytes[24..], echo(message)[24..], "bit {chance}");
                assert_eq!(bytes[20..22], echo(message)[20..22], "type and code stay");
            }
        }
    }

    #[test]
    fn too_long_packets_are_answered_with_the_mtu() {
        let answer = too_big(&echo(1400), 1280).unwrap();
        let packet = Packet::decode(&answer).unwrap();
        assert_eq!((packet.src, packet.dst), (DST.into(), SRC.into()));
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(answer[26..28], 1280_u16.to_be_bytes());
        assert_eq!(answer[28..], echo(1400)[..28]);
        assert_eq!(checksum_is_right(&answer), Some(true));
        assert_eq!(too_big(&answer, 20), None, "no error about an error");
    }

    const SRC: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn echo(payload: usize) -> Vec<u8> {
        packet::ipv4(SRC, DST, ICMP, &[&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], &vec![0xa5; payload]].concat())
    }

    fn everything() -> Faults {
        Faults {
            delay: Duration::from_micros(500),
            jitter: Duration::from_micros(100),
            loss: Loss::bursts(0.1, 4.0),
            duplicate: 0.1,
            reorder: Some(Reorder { chance: 0.1, hold: Duration::from_millis(1) }),
            corrupt: Some(Corrupt { chance: 0.1, checksum: Checksum::Wrong }),
            rate: Some(Rate { bits_per_second: 1_000_000, queue: Duration::from_millis(5) }),
            mtu: Some(Mtu { bytes: 1500, answer: true }),
            only: Only::default(),
        }
    }

    /// The fates of packets that come a millisecond apart.
    fn fates(seed: u64, faults: &Faults, count: u64) -> Vec<Fate> {
        let bytes = echo(56);
        let packet = Packet::decode(&bytes).unwrap();
        let mut injector = Injector::new(seed);
        (0..count).map(|n| injector.decide(Duration::from_millis(n), faults, &packet)).collect()
    }

    fn lost_of(faults: &Faults, count: u64) -> Vec<bool> {
        fates(1, faults, count).iter().map(|fate| *fate == Fate::Lost).collect()
    }

    fn share(values: &[bool]) -> f64 {
        values.iter().filter(|&&value| value).count() as f64 / values.len() as f64
    }

    fn arrivals(faults: &Faults) -> Vec<Duration> {
        let passed = fates(1, faults, 1000).into_iter().zip(0..).filter_map(|(fate, n)| match fate {
            Fate::Pass(pass) => Some(Duration::from_millis(n) + pass.after),
            Fate::Lost | Fate::QueueFull | Fate::TooBig { .. } => None,
        });
        passed.collect()
    }
}
