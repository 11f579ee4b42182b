//! Loss by direction, between agents: which way a packet was lost.
//!
//! A round trip that is missing does not tell which of its two ways was at fault. So an agent counts its echo requests
//! to each peer (`sequences`), the peer sees them arrive and counts what is missing ([`inbound`]), and tells in its own
//! requests what it has heard, so that the sender can take the losses on the way there off its own ([`ways`]).

pub mod inbound;
pub mod ways;

pub(crate) mod sequences;
mod window;
