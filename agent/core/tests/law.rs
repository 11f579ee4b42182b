//! Every probe that falls due yields exactly one result, whatever happens.

#![expect(clippy::panic, reason = "a broken law fails the test loudly")]

mod chaos;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_due_probe_has_exactly_one_result(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        chaos::run(&bytes);
    }

    #[test]
    fn no_bytes_from_the_network_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::{self, Framing};
        for channel in Channel::ALL {
            for framing in [Framing::Ipv4Header, Framing::Message] {
                let _ = answer::decode(channel, framing, 7, &bytes);
            }
            let _ = answer::decode_quote(channel, 7, &bytes);
            let _ = answer::decode_sent(channel, 7, &bytes);
        }
    }
}
