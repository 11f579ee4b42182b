//! Bytes from the network must not panic any decoder.
#![no_main]

use podsonar_core::wire::Channel;
use podsonar_core::wire::answer::{self, Framing};
use podsonar_core::wire::request;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for framing in [Framing::Ipv4Header, Framing::Message] {
        let _ = request::decode(framing, Some([0; 16].into()), bytes);
    }
    for channel in Channel::ALL {
        for framing in [Framing::Ipv4Header, Framing::Message] {
            let _ = answer::decode(channel, framing, 7, bytes);
        }
        let _ = answer::decode_quote(channel, 7, bytes);
        let _ = answer::decode_sent(channel, 7, bytes);
    }
});
