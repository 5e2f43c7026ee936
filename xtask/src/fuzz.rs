//! `cargo xtask fuzz`: each target of `fuzz/` under libFuzzer for some time. Needs a nightly toolchain and a C++
//! compiler; installs `cargo-fuzz` into `target/tools`.
//!
//! What a run finds interesting is collected in `target/fuzz/TARGET`; `--keep` then takes into `fuzz/corpus/TARGET`
//! what reaches code that nothing kept so far reaches. An input for which a property does not hold ends the run and is
//! in `target/fuzz/found`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::{is_there, run};

pub(crate) const USAGE: &str = "cargo xtask fuzz [--seconds SECONDS_EACH] [--keep | --short] [TARGET …]";

/// Installed if it is not there.
const CARGO_FUZZ: &str = "0.13.2";
/// No parser of ours takes more than 4 KiB but the config's and the PEM's.
const LONGEST: &str = "-max_len=4200";

struct Wanted {
    seconds: u32,
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
    for target in &wanted.targets {
        println!("xtask: {target} for {} s", wanted.seconds);
        let kept = corpus.join(target);
        let (collected, found) = (root.join("target/fuzz").join(target), root.join("target/fuzz/found"));
        make_directories(&[&kept, &collected, &found])?;
        let mut command = cargo_fuzz(root, &tools, "run");
        command.args([&collected, &kept]).args(["--", LONGEST, "-timeout=20", "-print_final_stats=1"]);
        command.arg(format!("-max_total_time={}", wanted.seconds));
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

/// All targets for a moment each.
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
            if let Err(fault) = briefly(root, &program, target, wanted.seconds)
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
fn briefly(root: &Path, program: &Path, target: &str, seconds: u32) -> Result<(), String> {
    let kept = root.join("fuzz/corpus").join(target);
    let (collected, found) = (root.join("target/fuzz").join(target), root.join("target/fuzz/found"));
    make_directories(&[&collected, &found])?;
    let mut command = Command::new(program);
    command.args([&collected, &kept]).args([LONGEST, "-timeout=20"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/{target}-", found.display()));
    command.env("COUNTERSIGN_FUZZ_TARGET", target).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{said}\n{target} does not hold ({}): see target/fuzz/found", output.status));
    }
    let figures = said.lines().rev().find(|line| line.starts_with("Done")).unwrap_or("done");
    println!("xtask: {target}: {figures}");
    Ok(())
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
    let mut wanted = Wanted { seconds: 60, keep: false, short: false, targets: Vec::new() };
    let known = names(corpus)?;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => wanted.keep = true,
            "--short" => wanted.short = true,
            "--seconds" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                wanted.seconds = seconds.filter(|seconds| *seconds > 0).ok_or(USAGE)?;
            }
            target if known.iter().any(|name| name == target) => wanted.targets.push(target.to_owned()),
            other => return Err(format!("no target {other}; there are {}\n{USAGE}", known.join(", "))),
        }
    }
    if wanted.targets.is_empty() {
        wanted.targets = known;
    }
    Ok(wanted)
}

/// Each target has a folder of kept inputs; a test in `fuzz/` sees to that.
fn names(corpus: &Path) -> Result<Vec<String>, String> {
    let failed = |error| format!("{}: {error}", corpus.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(corpus).map_err(failed)? {
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
        run(install.arg("--target-dir").arg(root.join("target/tools-build")))?;
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
