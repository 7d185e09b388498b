//! `cargo fuzz run` for [`mesh_fuzz::deltas`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::deltas(data));
