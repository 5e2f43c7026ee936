//! What the programs in `interop/` need: packages of `PyPI` and of npm, and the program in Rust. All of it is pinned there, and
//! stays under `target/test-tools/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{is_there, run};

/// What a test is told: a variable, and the folder or program.
type Told = (&'static str, PathBuf);

/// Installs what can be installed here, and says what is left out.
pub(super) fn installed() -> Result<Vec<Told>, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
    std::fs::create_dir_all(&tools).map_err(|error| format!("{}: {error}", tools.display()))?;
    let tools = tools.canonicalize().map_err(|error| format!("{}: {error}", tools.display()))?;
    let mut told = vec![("COUNTERSIGN_TEST_INTEROP_PYTHON", python(&tools)?)];
    if is_there("node") && is_there("npm") {
        told.push(("COUNTERSIGN_TEST_INTEROP_NODE", node(&tools)?));
    } else {
        println!("xtask: missing: node, npm: what is tried with Node is left out");
    }
    told.push(("COUNTERSIGN_TEST_INTEROP_RUST", rust(&tools)?));
    Ok(told)
}

/// The folder of a stack.
fn source(stack: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop").join(stack)
}

/// A folder that is there only when `fill` has filled it from this pin; of an earlier try, or another pin, nothing is used.
fn filled(folder: &Path, pin: &Path, fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let pinned = std::fs::read(pin).map_err(failed(pin))?;
    let mark = folder.join("pinned");
    if std::fs::read(&mark).is_ok_and(|mark| mark == pinned) {
        return Ok(());
    }
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    fill(folder)?;
    std::fs::write(&mark, &pinned).map_err(failed(&mark))
}

/// Where Python finds the packages.
fn python(tools: &Path) -> Result<PathBuf, String> {
    let (folder, pin) = (tools.join("interop-python"), source("python").join("requirements.txt"));
    filled(&folder, &pin, |folder| {
        println!("xtask: installing http-message-signatures of PyPI");
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--root-user-action=ignore", "--only-binary=:all:", "--require-hashes", "-r"])
            .arg(&pin)
            .arg("--target")
            .arg(folder))
    })?;
    Ok(folder)
}

/// Where Node finds the packages.
fn node(tools: &Path) -> Result<PathBuf, String> {
    let (folder, source) = (tools.join("interop-node"), source("node"));
    filled(&folder, &source.join("package-lock.json"), |folder| {
        println!("xtask: installing http-message-signatures of npm");
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(name), folder.join(name))
                .map_err(|error| format!("{name}: {error}"))?;
        }
        let npm = ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(npm).current_dir(folder))
    })?;
    Ok(folder.join("node_modules"))
}

/// The program in Rust.
fn rust(tools: &Path) -> Result<PathBuf, String> {
    println!("xtask: building what is tried with httpsig-hyper");
    let target = tools.join("interop-rust");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(source("rust").join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target))?;
    Ok(target.join("debug/countersign-interop"))
}
