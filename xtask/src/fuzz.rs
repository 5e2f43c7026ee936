//! `cargo xtask fuzz`: each target of `fuzz/` under libFuzzer for some time. Needs a nightly toolchain and a C++
//! compiler; installs `cargo-fuzz` into `target/tools`.
//!
//! What a run finds interesting is collected in `target/fuzz/TARGET`; `--keep` then takes into `fuzz/corpus/TARGET`
//! what reaches code that nothing kept so far reaches. An input for which a property does not hold ends the run and is
//! in `target/fuzz/found`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{is_there, run};

pub(crate) const USAGE: &str = "cargo xtask fuzz [--seconds SECONDS_EACH] [--keep] [TARGET …]";

/// Installed if it is not there.
const CARGO_FUZZ: &str = "0.13.2";
/// No parser of ours takes more than 4 KiB but the config's and the PEM's.
const LONGEST: &str = "-max_len=4200";

struct Wanted {
    seconds: u32,
    keep: bool,
    targets: Vec<String>,
}

pub(crate) fn fuzz(arguments: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let corpus = root.join("fuzz/corpus");
    let wanted = read(arguments, &corpus)?;
    let tools = install(root)?;
    run(&mut cargo_fuzz(root, &tools, "build"))?;
    for target in &wanted.targets {
        println!("xtask: {target} for {} s", wanted.seconds);
        let kept = corpus.join(target);
        let (collected, found) = (root.join("target/fuzz").join(target), root.join("target/fuzz/found"));
        for directory in [&kept, &collected, &found] {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
        }
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

fn read(arguments: &[String], corpus: &Path) -> Result<Wanted, String> {
    let mut wanted = Wanted { seconds: 60, keep: false, targets: Vec::new() };
    let known = names(corpus)?;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => wanted.keep = true,
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
