//! `cargo xtask mutants`: changes `countersign-protocol` in one place after the other and looks whether a test of that
//! crate notices. Installs `cargo-mutants` into `target/tools`. What no test notices is listed in
//! `target/mutants/mutants.out/missed.txt`, and makes this fail.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::{exit_code, run};

pub(crate) const USAGE: &str = "cargo xtask mutants [ARGUMENTS OF cargo mutants …]";

/// Installed if it is not there.
const CARGO_MUTANTS: &str = "27.1.0";
/// Changes that change nothing; docs/testing.md says why.
const EQUIVALENT: &str = r"LengthPrefixed::with_capacity|replace \| with \^ in (Fingerprint::of|decode_hex)";
/// What `cargo mutants` ends with if all are noticed, some of them by a test that does not end.
const TIMEOUTS: i32 = 3;

pub(crate) fn mutants(arguments: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let tools = root.join("target/tools");
    if !tools.join("bin/cargo-mutants").is_file() {
        let mut install = Command::new(env!("CARGO"));
        install
            .args(["install", "cargo-mutants", "--version", CARGO_MUTANTS, "--locked", "--root"])
            .arg(&tools);
        run(install.arg("--target-dir").arg(root.join("target/tools-build")))?;
    }
    let mut path = OsString::from(tools.join("bin"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(env!("CARGO"));
    // In a copy of the tree, which is built anew once.
    command.args(["mutants", "--package", "countersign-protocol", "--test-package", "countersign-protocol"]);
    command.args(["--timeout", "90", "--no-shuffle", "--exclude-re", EQUIVALENT, "--output"]);
    command.arg(root.join("target/mutants")).args(arguments);
    // Fewer generated cases: hundreds of mutants, each with all tests.
    let code = exit_code(command.current_dir(root).env("PATH", path).env("PROPTEST_CASES", "32"))?;
    if code == 0 || code == TIMEOUTS { Ok(()) } else { Err(format!("cargo mutants ended with {code}")) }
}
