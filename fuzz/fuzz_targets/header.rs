#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tobari_fuzz::header(bytes));
