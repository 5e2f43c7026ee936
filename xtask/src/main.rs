//! `cargo xtask test`: installs what the tests need where it can, and runs all of them. The tests start the real
//! servers themselves, on free loopback ports, and stop them.
//!
//! `cargo xtask fuzz`: runs the fuzz targets under libFuzzer, see [`fuzz`].
//!
//! `cargo xtask mutants`: looks for changes of the protocol that no test notices, see [`mutants`].

mod bao;
mod fuzz;
mod interop;
mod mutants;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What the tests call beside cargo: command and Debian package.
const TOOLS: [(&str, &str); 8] = [
    ("age", "age"),
    ("bash", "bash"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("pip3", "python3-pip"),
    ("python3", "python3"),
    ("sed", "sed"),
    ("slowhttptest", "slowhttptest"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("test") => test(arguments.get(1..).unwrap_or_default()),
        Some("fuzz") => fuzz::fuzz(arguments.get(1..).unwrap_or_default()),
        Some("mutants") => mutants::mutants(arguments.get(1..).unwrap_or_default()),
        _ => Err(format!(
            "usage: cargo xtask test [ARGUMENTS OF cargo test …]\n       {}\n       {}",
            fuzz::USAGE,
            mutants::USAGE
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Result<(), String> {
    install_missing()?;
    let bao = bao::program()?;
    let interop = interop::installed()?;
    println!("xtask: running all tests, those with other programs included");
    let mut tests = Command::new(env!("CARGO"));
    tests.args(["test", "--workspace", "--all-features"]).args(arguments);
    if let Some(bao) = bao {
        tests.env("COUNTERSIGN_TEST_BAO", bao);
    }
    run(tests.envs(interop).env("COUNTERSIGN_TEST_EXTERNAL", "1"))?;
    if arguments.is_empty() { adapters() } else { Ok(()) }
}

/// The crates in `adapters/` are no members of the workspace: what they link is not to be among what we ship.
fn adapters() -> Result<(), String> {
    println!("xtask: testing the adapter for reqwest-middleware");
    let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/countersign-reqwest");
    // In the workspace's own target directory: what both link in one version, AWS-LC above all, is there already.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace, PathBuf::from);
    run(Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--locked", "--manifest-path"])
        .arg(adapter.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target))
}

fn missing() -> Vec<(&'static str, &'static str)> {
    TOOLS.into_iter().filter(|(tool, _)| !is_there(tool)).collect()
}

fn is_there(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(tool).is_file())
}

/// Installs Debian packages where this is root on a Debian; elsewhere says what is missing.
fn install_missing() -> Result<(), String> {
    let lacking = missing();
    if lacking.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = lacking.iter().map(|(_, package)| *package).collect();
    let ask = format!(
        "missing: {0}. Install them (on Debian: apt-get install {0}) and run this again",
        packages.join(" ")
    );
    if !is_root() || !is_there("apt-get") {
        return Err(ask);
    }
    println!("xtask: installing {}", packages.join(" "));
    run(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    install.args(["-qq", "-y", "--no-install-recommends", "install"]).args(&packages);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    if missing().is_empty() { Ok(()) } else { Err(ask) }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|metadata| metadata.uid() == 0)
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} failed ({status})")) }
}

/// The exit code of a command whose codes mean something.
fn exit_code(command: &mut Command) -> Result<i32, String> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{shown}: {error}"))?;
    status.code().ok_or_else(|| format!("{shown} was killed ({status})"))
}
