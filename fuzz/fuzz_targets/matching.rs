//! `cargo fuzz run` for [`mesh_fuzz::matching`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::matching(data));
