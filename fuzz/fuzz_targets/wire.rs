//! `cargo fuzz run` for [`mesh_fuzz::wire`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz::wire(data));
