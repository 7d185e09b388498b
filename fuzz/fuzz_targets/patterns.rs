//! `cargo fuzz run` for [`mesh_fuzz::patterns`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::patterns(data));
