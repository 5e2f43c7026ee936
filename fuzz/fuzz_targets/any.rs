//! One program for all targets: `COUNTERSIGN_FUZZ_TARGET` names the one to run.
//!
//! Built by `cargo fuzz` it is libFuzzer; `cargo xtask fuzz` wraps that. Built in the ordinary way it runs the files
//! that it is given, so that what was found can be looked at without a fuzzer:
//! `COUNTERSIGN_FUZZ_TARGET=token cargo run -p countersign-fuzz -- crash-…`

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| countersign_fuzz::chosen().run(input));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    let target = countersign_fuzz::chosen();
    for path in std::env::args_os().skip(1) {
        target.run(&std::fs::read(&path)?);
        println!("{}: {} holds", target.name, path.display());
    }
    Ok(())
}
