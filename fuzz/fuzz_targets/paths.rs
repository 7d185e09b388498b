//! `cargo fuzz run` for [`mesh_fuzz::paths`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::paths(data));
