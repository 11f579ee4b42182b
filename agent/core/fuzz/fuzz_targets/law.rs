//! Bytes drive the engine; every probe that falls due must have exactly one result.
#![no_main]

#[path = "../../tests/chaos/mod.rs"]
mod chaos;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chaos::run(bytes));
