//! Any text as proxy.toml: read and reported without a panic, with every mistake in it, and no literal secret in the report.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let report = match pillion::config::read("proxy.toml", text) {
        Ok((_, report)) => report,
        Err(report) => {
            assert!(!report.is_empty(), "refused without a word");
            report
        }
    };
    let told = report.to_plain();
    assert!(!told.contains("CNRY"), "{told}");
});
