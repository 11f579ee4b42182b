//! [`Flows`]: on which flows SYNs have gone to one address a moment ago.
//!
//! Several streams may go to one port of an address: to a pod by its address and by its name, say. A target that has
//! one handshake of a flow open takes another SYN of it for a stray: it answers by an ACK of the first (RFC 9293
//! §3.10.7.4) and not by a SYN-ACK. That probe would look lost. So no flow is used again before its last SYN has ended.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

/// No timeout of a SYN is longer, and a target forgets a handshake once its answer has been reset.
const BUSY: Duration = Duration::from_secs(1);

/// One flow: between two addresses, the ports are all that tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flow {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// The flows to one address that are in use, and until when.
#[derive(Debug, Default)]
pub(crate) struct Flows(VecDeque<(Instant, Flow)>);

impl Flows {
    /// The place of the first of these source ports, which are tried in turn, that a SYN to this port may use. If all
    /// are in use, it is the first.
    pub(crate) fn first_free(
        &mut self,
        now: Instant,
        destination_port: u16,
        mut source_ports: impl Iterator<Item = u16>,
    ) -> usize {
        while self.0.pop_front_if(|(until, _)| *until <= now).is_some() {}
        let is_free = |source_port: u16| {
            let flow = Flow { source_port, destination_port };
            self.0.iter().all(|(_, used)| *used != flow)
        };
        source_ports.position(is_free).unwrap_or(0)
    }

    /// A SYN of this flow is sent.
    pub(crate) fn note(&mut self, now: Instant, flow: Flow) {
        self.0.push_back((now + BUSY, flow));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_free_again_after_a_second_and_to_another_port_at_once() {
        let (mut flows, now) = (Flows::default(), Instant::from_nanos(0));
        for source_port in [1, 2] {
            flows.note(now, Flow { source_port, destination_port: 80 });
        }
        assert_eq!(flows.first_free(now, 80, [1, 2, 3].into_iter()), 2);
        assert_eq!(flows.first_free(now, 81, [1, 2, 3].into_iter()), 0);
        assert_eq!(flows.first_free(now, 80, [2, 1].into_iter()), 0, "none is free");
        assert_eq!(flows.first_free(now + BUSY, 80, [1, 2, 3].into_iter()), 0);
        assert!(flows.0.is_empty(), "nothing is kept for longer");
    }
}
