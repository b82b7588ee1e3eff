//! The target `events` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| execblock_fuzz::events::run(data));
