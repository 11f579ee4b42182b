//! Classic BPF (`Documentation/networking/filter.rst`): a raw socket sees all packets of its protocol, and only our
//! answers may wake or fill it.

use podsonar_core::target::Family;
use podsonar_core::wire::{Channel, Transport};
use socket2::SockFilter;

/// One instruction, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u32,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// A program under construction: conditions that a packet passes one after the other.
///
/// Offsets count from the transport header: a raw IPv4 socket sees the IP header first, and the index register is
/// set to its length; a raw IPv6 socket sees none.
#[derive(Debug)]
struct Filter {
    family: Family,
    program: Vec<Instruction>,
}

const ACK: u32 = 0x10;
const SYN_OR_RST: u32 = 0x06;
const ACCEPT: u32 = u32::MAX;
const REFUSE: u32 = 0;

/// The filter of a channel: echo replies to `icmp_id`; SYN-ACK and RST segments to one of `ports`.
pub(crate) fn answers(channel: Channel, icmp_id: u16, ports: &[u16]) -> Vec<SockFilter> {
    compile(&program(channel, icmp_id, ports))
}

/// The filter for the echo requests of podsonar's agents: their payload begins with `magic`.
pub(crate) fn requests(family: Family, magic: [u8; 4]) -> Vec<SockFilter> {
    compile(&requests_program(family, magic))
}

fn requests_program(family: Family, magic: [u8; 4]) -> Vec<Instruction> {
    let request = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let filter = Filter::new(family).load_byte(0).require_equal(request).load_byte(1).require_equal(0);
    filter.load_word(8).require_equal(u32::from_be_bytes(magic)).accept()
}

fn compile(program: &[Instruction]) -> Vec<SockFilter> {
    program
        .iter()
        .map(|step| SockFilter::new(step.code as u16, step.if_true, step.if_false, step.value))
        .collect()
}

fn program(channel: Channel, icmp_id: u16, ports: &[u16]) -> Vec<Instruction> {
    let filter = Filter::new(channel.family);
    match channel.protocol {
        Transport::Icmp => {
            let reply = match channel.family {
                Family::V4 => 0,
                Family::V6 => 129,
            };
            filter.load_byte(0).require_equal(reply).load_half(4).accept_any_of(&[icmp_id])
        }
        Transport::Tcp => {
            filter.load_byte(13).require_bits(ACK).require_bits(SYN_OR_RST).load_half(2).accept_any_of(ports)
        }
    }
}

impl Filter {
    fn new(family: Family) -> Self {
        let mut filter = Self { family, program: Vec::new() };
        if family == Family::V4 {
            filter.step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0);
        }
        filter
    }

    fn load_byte(self, at: u32) -> Self {
        self.load(libc::BPF_B, at)
    }

    fn load_half(self, at: u32) -> Self {
        self.load(libc::BPF_H, at)
    }

    fn load_word(self, at: u32) -> Self {
        self.load(libc::BPF_W, at)
    }

    fn require_equal(self, value: u32) -> Self {
        self.require(libc::BPF_JEQ, value)
    }

    /// At least one of `bits`.
    fn require_bits(self, bits: u32) -> Self {
        self.require(libc::BPF_JSET, bits)
    }

    /// Ends the program.
    fn accept_any_of(mut self, values: &[u16]) -> Vec<Instruction> {
        for value in values {
            self.jump(libc::BPF_JEQ, u32::from(*value), 0, 1);
            self.step(libc::BPF_RET | libc::BPF_K, ACCEPT);
        }
        self.step(libc::BPF_RET | libc::BPF_K, REFUSE);
        self.program
    }

    /// Ends the program: what has passed so far is accepted.
    fn accept(mut self) -> Vec<Instruction> {
        self.step(libc::BPF_RET | libc::BPF_K, ACCEPT);
        self.program
    }

    /// A load past the packet's end refuses it.
    fn load(mut self, size: u32, at: u32) -> Self {
        let mode = match self.family {
            Family::V4 => libc::BPF_IND,
            Family::V6 => libc::BPF_ABS,
        };
        self.step(libc::BPF_LD | size | mode, at);
        self
    }

    fn require(mut self, test: u32, value: u32) -> Self {
        self.jump(test, value, 1, 0);
        self.step(libc::BPF_RET | libc::BPF_K, REFUSE);
        self
    }

    fn jump(&mut self, test: u32, value: u32, if_true: u8, if_false: u8) {
        let code = libc::BPF_JMP | test | libc::BPF_K;
        self.program.push(Instruction { code, if_true, if_false, value });
    }

    fn step(&mut self, code: u32, value: u32) {
        self.program.push(Instruction { code, if_true: 0, if_false: 0, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u16 = 0x1234;
    const PORTS: [u16; 3] = [40_000, 40_001, 50_000];

    #[test]
    fn only_echo_replies_to_our_id_pass() {
        for (family, reply, request) in [(Family::V4, 0, 8), (Family::V6, 129, 128)] {
            let passes = |kind: u8, id: u16| {
                let [high, low] = id.to_be_bytes();
                run(Transport::Icmp, family, &[kind, 0, 0, 0, high, low, 0, 1])
            };
            assert!(passes(reply, ID));
            assert!(!passes(reply, ID + 1));
            assert!(!passes(request, ID));
            assert!(!passes(3, ID));
        }
    }

    #[test]
    fn only_syn_ack_and_reset_to_our_ports_pass() {
        for family in Family::ALL {
            let passes = |port: u16, flags: u8| {
                let mut segment = [0; 20];
                segment[2..4].copy_from_slice(&port.to_be_bytes());
                segment[13] = flags;
                run(Transport::Tcp, family, &segment)
            };
            for port in PORTS {
                assert!(passes(port, 0x12), "SYN-ACK to {port}");
                assert!(passes(port, 0x14), "RST-ACK to {port}");
                assert!(!passes(port, 0x10), "ACK of somebody's connection");
                assert!(!passes(port, 0x02), "SYN");
                assert!(!passes(port, 0x04), "RST without ACK");
            }
            assert!(!passes(40_002, 0x12));
        }
    }

    #[test]
    fn only_echo_requests_of_agents_pass_the_other_filter() {
        for (family, request, reply) in [(Family::V4, 8, 0), (Family::V6, 128, 129)] {
            let passes = |kind: u8, code: u8, magic: &[u8]| {
                let message = [&[kind, code, 0, 0, 0x12, 0x34, 0, 1][..], magic].concat();
                interpret(&requests_program(family, *b"PSNR"), &packet(family, &message))
            };
            assert!(passes(request, 0, b"PSNR and more"));
            assert!(!passes(request, 0, b"PSN"), "a truncated one");
            assert!(!passes(request, 0, b"ping, as others send it"));
            assert!(!passes(request, 1, b"PSNR and more"));
            assert!(!passes(reply, 0, b"PSNR and more"));
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for family in Family::ALL {
            let mut segment = [0; 14];
            segment[2..4].copy_from_slice(&PORTS[0].to_be_bytes());
            segment[13] = 0x12;
            for length in 0..segment.len() {
                assert!(!run(Transport::Tcp, family, &segment[..length]), "length {length}");
            }
            assert!(run(Transport::Tcp, family, &segment));
        }
    }

    #[test]
    fn options_of_the_ip_header_are_passed_over() {
        let channel = Channel { protocol: Transport::Icmp, family: Family::V4 };
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert!(interpret(&program(channel, ID, &[]), &packet));
    }

    /// Runs the channel's program on a transport message, with a plain IP header where the socket has one.
    fn run(protocol: Transport, family: Family, message: &[u8]) -> bool {
        interpret(&program(Channel { protocol, family }, ID, &PORTS), &packet(family, message))
    }

    fn packet(family: Family, message: &[u8]) -> Vec<u8> {
        let mut packet = match family {
            Family::V4 => [&[0x45][..], &[0; 19]].concat(),
            Family::V6 => Vec::new(),
        };
        packet.extend(message);
        packet
    }

    /// The few instructions in use, as the kernel's documentation defines them.
    fn interpret(program: &[Instruction], packet: &[u8]) -> bool {
        let (mut accumulator, mut index, mut next) = (0, 0, 0);
        let byte = |at: u32| packet.get(at as usize).copied().map(u32::from);
        loop {
            let step = program[next];
            next += 1;
            let base = if step.code & 0xe0 == libc::BPF_IND { index } else { 0 };
            match step.code & 0x07 {
                libc::BPF_LDX => match byte(step.value) {
                    Some(first) => index = (first & 0xf) * 4,
                    None => return false,
                },
                libc::BPF_LD => {
                    let at = base + step.value;
                    let loaded = match step.code & 0x18 {
                        libc::BPF_B => byte(at),
                        libc::BPF_W => (at..at + 4).try_fold(0, |word, at| Some(word << 8 | byte(at)?)),
                        _ => byte(at).zip(byte(at + 1)).map(|(high, low)| high << 8 | low),
                    };
                    match loaded {
                        Some(value) => accumulator = value,
                        None => return false,
                    }
                }
                libc::BPF_JMP => {
                    let holds = match step.code & 0xf0 {
                        libc::BPF_JEQ => accumulator == step.value,
                        _ => accumulator & step.value != 0,
                    };
                    next += usize::from(if holds { step.if_true } else { step.if_false });
                }
                _ => return step.value != REFUSE,
            }
        }
    }
}
