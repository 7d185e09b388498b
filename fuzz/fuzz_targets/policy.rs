//! `cargo fuzz run` for [`mesh_fuzz::policy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::policy(data));
