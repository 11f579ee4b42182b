//! Bytes from the network must not panic any decoder.
#![no_main]

use podsonar_core::wire::{Channel, answer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for channel in Channel::ALL {
        let _ = answer::decode(channel, 7, bytes);
        let _ = answer::decode_quote(channel, 7, bytes);
        let _ = answer::decode_sent(channel, 7, bytes);
    }
});
