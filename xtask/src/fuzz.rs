//! `cargo xtask fuzz`: each target of `fuzz/` under libFuzzer for some time. Needs a nightly toolchain and a C++
//! compiler; installs `cargo-fuzz` into `target/tools`.
//!
//! What a run finds interesting is collected in `target/fuzz/TARGET`; `--keep` then takes into `fuzz/corpus/TARGET`
//! what reaches code that nothing kept so far reaches. An input for which a property does not hold ends the run and is
//! in `target/fuzz/found`.
//!
//! `--short` is for a check that everybody gets the same answer from: it begins with what is kept and nothing else, in
//! the order of the names, with a fixed seed, and ends after a fixed number of inputs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::{is_there, run};

pub(crate) const USAGE: &str = "cargo xtask fuzz [--short | [--seconds SECONDS_EACH] [--keep]] [TARGET …]";

/// Installed if it is not there.
const CARGO_FUZZ: &str = "0.13.2";
/// Inputs of each target in a short run: a second or two of processor time.
const RUNS: u32 = 20_000;
/// Where libFuzzer goes another way every time, whatever its seed: what these reach depends on threads, on times, on
/// random keys, on the order of a hash map. In a short run they get what is kept, and nothing else.
const KEPT_ONLY: [&str; 24] = [
    "audit_chain",
    "audit_lines",
    "audit_recovery",
    "authenticate_body",
    "challenge_answers",
    "cs1_accept_signature",
    "cs1_bodies",
    "cs1_nonce",
    "cs1_request",
    "cs1_response",
    "cs1_stream",
    "exchange",
    "explain",
    "explain_signed",
    "gateway",
    "origin",
    "pairing_code",
    "pairing_messages",
    "probe",
    "store_cell",
    "store_file",
    "vault_document",
    "verdict_answers",
    "verify_body",
];
/// On a machine that is busy with something else, a short run of one target is over then, and has held.
const SHORT_SECONDS: u32 = 120;
/// No parser of ours takes more than 4 KiB but the config's and the PEM's.
const LONGEST: &str = "-max_len=4200";

struct Wanted {
    /// For a search; a short run has a number of inputs instead.
    seconds: Option<u32>,
    keep: bool,
    short: bool,
    targets: Vec<String>,
}

pub(crate) fn fuzz(arguments: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let corpus = root.join("fuzz/corpus");
    let wanted = read(arguments, &corpus)?;
    if wanted.short && !has_nightly() {
        println!(
            "xtask: the short run under libFuzzer is left out: no nightly toolchain here (`rustup toolchain install nightly`). The same targets run in `cargo test -p countersign-fuzz`"
        );
        return Ok(());
    }
    let tools = install(root)?;
    if wanted.short {
        return short(root, &tools, &wanted);
    }
    run(&mut cargo_fuzz(root, &tools, "build"))?;
    let seconds = wanted.seconds.unwrap_or(60);
    for target in &wanted.targets {
        println!("xtask: {target} for {seconds} s");
        let kept = corpus.join(target);
        let (collected, found) = (root.join("target/fuzz").join(target), root.join("target/fuzz/found"));
        make_directories(&[&kept, &collected, &found])?;
        let mut command = cargo_fuzz(root, &tools, "run");
        command.args([&collected, &kept]).args(["--", LONGEST, "-timeout=20", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/{target}-", found.display()));
        run(command.env("COUNTERSIGN_FUZZ_TARGET", target))?;
        if wanted.keep {
            let mut command = cargo_fuzz(root, &tools, "run");
            command.args([&kept, &collected]).args(["--", LONGEST, "-set_cover_merge=1"]);
            run(command.env("COUNTERSIGN_FUZZ_TARGET", target))?;
        }
    }
    Ok(())
}

/// All targets with a fixed number of inputs.
fn short(root: &Path, tools: &Path, wanted: &Wanted) -> Result<(), String> {
    let start = Instant::now();
    let built = root.join("target/fuzz-short");
    let mut build = cargo_fuzz(root, tools, "build");
    build.args(["--sanitizer", "none", "--target-dir"]).arg(&built);
    build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run(build.env("CARGO_PROFILE_RELEASE_DEBUG", "false"))?;
    println!("xtask: built in {} s", start.elapsed().as_secs());
    let program = program(&built)?;
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = wanted.targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(fault) = briefly(root, &program, target)
                && let Ok(mut faults) = faults.lock()
            {
                faults.push(fault);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().map_err(|error| error.to_string())?;
    println!("xtask: {} targets, {} s in all", wanted.targets.len(), start.elapsed().as_secs());
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The program that `cargo fuzz build` made: below the name of the machine.
fn program(built: &Path) -> Result<PathBuf, String> {
    let failed = |error| format!("{}: {error}", built.display());
    for entry in std::fs::read_dir(built).map_err(failed)? {
        let program = entry.map_err(failed)?.path().join("release/any");
        if program.is_file() {
            return Ok(program);
        }
    }
    Err(format!("{}: `cargo fuzz build` left no program there", built.display()))
}

/// One target; its last line of figures, or everything that it said if something does not hold.
fn briefly(root: &Path, program: &Path, target: &str) -> Result<(), String> {
    let found = root.join("target/fuzz/found");
    make_directories(&[&found])?;
    let runs = if KEPT_ONLY.contains(&target) { 0 } else { RUNS };
    let mut command = Command::new(program);
    // What is compared with what gives hints, and some of it is addresses, which differ in every process.
    command.args([LONGEST, "-timeout=20", "-seed=1", "-use_cmp=0"]);
    command.arg(format!("-runs={runs}")).arg(format!("-max_total_time={SHORT_SECONDS}"));
    // Named one by one: in which order a directory gives its files depends on the disk.
    command.arg(format!("-seed_inputs={}", kept(root, target)?.join(",")));
    command.arg(format!("-artifact_prefix={}/{target}-", found.display()));
    command.env("COUNTERSIGN_FUZZ_TARGET", target).current_dir(root).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{said}\n{target} does not hold ({}): see target/fuzz/found", output.status));
    }
    let figures = said.lines().rev().find(|line| line.contains("DONE")).unwrap_or("done");
    println!("xtask: {target}: {figures}");
    Ok(())
}

/// The kept inputs of a target, from the root of the repository, by name.
fn kept(root: &Path, target: &str) -> Result<Vec<String>, String> {
    let mut files = names(&root.join("fuzz/corpus").join(target))?;
    files.iter_mut().for_each(|file| *file = format!("fuzz/corpus/{target}/{file}"));
    Ok(files)
}

fn make_directories(directories: &[&PathBuf]) -> Result<(), String> {
    for directory in directories {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    Ok(())
}

fn has_nightly() -> bool {
    let mut ask = Command::new("rustup");
    ask.args(["run", "nightly", "rustc", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

fn read(arguments: &[String], corpus: &Path) -> Result<Wanted, String> {
    let mut wanted = Wanted { seconds: None, keep: false, short: false, targets: Vec::new() };
    let known = names(corpus)?;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => wanted.keep = true,
            "--short" => wanted.short = true,
            "--seconds" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                wanted.seconds = Some(seconds.filter(|seconds| *seconds > 0).ok_or(USAGE)?);
            }
            target if known.iter().any(|name| name == target) => wanted.targets.push(target.to_owned()),
            other => return Err(format!("no target {other}; there are {}\n{USAGE}", known.join(", "))),
        }
    }
    if wanted.short && (wanted.keep || wanted.seconds.is_some()) {
        return Err(USAGE.to_owned());
    }
    if wanted.targets.is_empty() {
        wanted.targets = known;
    }
    Ok(wanted)
}

/// What is in a folder, by name. Each target has one of kept inputs; a test in `fuzz/` sees to that.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The directory with `cargo-fuzz`.
fn install(root: &Path) -> Result<PathBuf, String> {
    let tools = root.join("target/tools");
    if !tools.join("bin/cargo-fuzz").is_file() {
        let mut install = Command::new(env!("CARGO"));
        install.args(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root"]).arg(&tools);
        let build = root.join("target/tools-build");
        run(install.arg("--target-dir").arg(&build))?;
        std::fs::remove_dir_all(&build).map_err(|error| format!("{}: {error}", build.display()))?;
    }
    if !is_there("c++") && !is_there("g++") && !is_there("clang++") {
        return Err("libFuzzer needs a C++ compiler (on Debian: apt-get install g++)".to_owned());
    }
    Ok(tools.join("bin"))
}

/// `cargo fuzz COMMAND any` on the nightly toolchain.
fn cargo_fuzz(root: &Path, tools: &Path, what: &str) -> Command {
    let mut path = OsString::from(tools);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", what, "any"]).current_dir(root).env("PATH", path);
    // What this toolchain's cargo says of itself to what it runs.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    // Linking with optimisation over all crates would take longer than many a run.
    command
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    command
}
