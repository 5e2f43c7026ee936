//! Faults for the real binary: at the N-th call that changes a file below a directory the process is killed, or the
//! call fails, as `faults.c` does it. And a wall clock that can be set while a process runs.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Home, files};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing; every call from then on is told.
    Count,
    /// Killed before it.
    Kill,
    /// Killed when half of what is to be written is written.
    Half,
    /// No room on the disk, at this call only.
    Full,
    /// … half of it is written before that is found out.
    Short,
    /// The disk reports an error, at this call only.
    Broken,
    /// No room on the disk, from this call on.
    StaysFull,
    /// The disk reports errors from this call on.
    StaysBroken,
    /// The file system can be read only.
    ReadOnly,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Half, Self::Full, Self::Short, Self::Broken, Self::StaysFull, Self::StaysBroken];

    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Kill => "kill",
            Self::Half => "half",
            Self::Full | Self::StaysFull => "enospc",
            Self::Short => "short",
            Self::Broken | Self::StaysBroken => "eio",
            Self::ReadOnly => "erofs",
        }
    }
}

/// The library, compiled once a process; `None`, and it is said, where there is no C compiler for it.
pub fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/faults.c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let made = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .arg(&target)
            .arg(source)
            .arg("-ldl")
            .status();
        made.is_ok_and(|status| status.success() && cfg!(target_os = "linux")).then_some(target)
    });
    if library.is_none() {
        println!("left out: needs Linux and a C compiler (cc)");
    }
    library.as_deref()
}

/// What a command with a fault came to.
#[derive(Debug)]
pub struct Struck {
    /// The call at which the fault came; `None` if the command ended before.
    pub call: Option<String>,
    /// `None` if it was killed.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Lets a fault come in a command's process.
pub fn inject(command: &mut Command, library: &Path, home: &Home, kind: Kind, at: usize) {
    command
        .env("LD_PRELOAD", library)
        .env("FAULT_DIR", home.path())
        .env("FAULT_AT", at.to_string())
        .env("FAULT_KIND", kind.name())
        .env("FAULT_TOLD", home.beside("told"));
    if matches!(kind, Kind::StaysFull | Kind::StaysBroken | Kind::ReadOnly) {
        command.env("FAULT_EVER", "1");
    }
}

/// Runs a command of this home to its end, however it ends.
#[track_caller]
pub fn run(home: &Home, arguments: &[&str], library: &Path, kind: Kind, at: usize) -> Struck {
    run_command(home, home.command(arguments), library, kind, at)
}

#[track_caller]
fn run_command(home: &Home, mut command: Command, library: &Path, kind: Kind, at: usize) -> Struck {
    inject(&mut command, library, home, kind, at);
    let output = command.stdin(Stdio::null()).output().unwrap();
    if let Some(signal) = output.status.signal() {
        assert_eq!(signal, 9, "it crashed by itself: {output:?}");
    }
    Struck {
        call: std::fs::read_to_string(home.beside("told")).ok(),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command on copies of `template` with every kind of fault, at its first call, its second, and so on until it
/// gets through; looks at each home afterwards.
#[track_caller]
pub fn at_every_call(template: &Home, arguments: &[&str], library: &Path, look: impl Fn(&Home, &Struck)) {
    at_every_call_of(template, |home| home.command(arguments), library, look);
}

/// The same for any program that works on a home.
#[track_caller]
pub fn at_every_call_of(
    template: &Home,
    command: impl Fn(&Home) -> Command,
    library: &Path,
    look: impl Fn(&Home, &Struck),
) {
    let strike = |home: &Home, kind, at| run_command(home, command(home), library, kind, at);
    let counted = strike(&template.copy(), Kind::Count, 1);
    assert_eq!(counted.code, Some(0), "{counted:?}");
    let calls: Vec<String> = counted.call.unwrap().lines().map(str::to_owned).collect();
    assert!(calls.len() > 3, "the library does nothing: {calls:?}");
    // What lasts comes at every third call only, unless there is time.
    let thorough = std::env::var_os("COUNTERSIGN_TEST_EXTERNAL").is_some_and(|value| value == "1");
    for kind in Kind::ALL {
        for at in 1.. {
            let call = |at: usize| calls.get(at).map_or("", String::as_str);
            // What is no write is not done by half. SQLite's index in memory is made in many equal steps.
            let is_write = at > calls.len() || call(at - 1).contains("write");
            let is_step = at > 1 && call(at - 1).ends_with("-shm") && call(at - 2).ends_with("-shm");
            let lasting = matches!(kind, Kind::StaysFull | Kind::StaysBroken);
            let thinned = lasting && !thorough && at % 3 != 1;
            if is_step || thinned || (matches!(kind, Kind::Half | Kind::Short) && !is_write) {
                continue;
            }
            let home = template.copy();
            let struck = strike(&home, kind, at);
            if struck.call.is_none() {
                assert_eq!(struck.code, Some(0), "{struck:?}");
                break;
            }
            // Says where it was when an assertion fails.
            println!("{kind:?} at {}", struck.call.as_deref().unwrap_or_default().trim());
            look(&home, &struck);
        }
    }
}

/// All chains on the trail are whole: numbers without gaps, each line linked to the one before, and nothing that
/// says otherwise.
#[track_caller]
pub fn assert_chains_whole(home: &Home) {
    let mut chains: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for path in files(&home.path().join("audit")) {
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "half a line in {}", path.display());
        // `serve.jsonl`, and what was put aside of it as `serve.000….jsonl`.
        let name = path.file_name().unwrap().to_str().unwrap();
        let chain = chains.entry(name.split('.').next().unwrap().to_owned()).or_default();
        chain.extend(text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()));
    }
    for (writer, mut lines) in chains {
        lines.sort_by_key(|line| line["seq"].as_u64());
        // Retention goes by the clock, and says what it took.
        let removed = lines.iter().any(|line| line["reason"] == "file-removed");
        let first = if removed { lines[0]["seq"].as_u64().unwrap() } else { 1 };
        for (number, line) in (first..).zip(&lines) {
            assert_eq!(line["seq"], number, "{writer}");
            assert_ne!(line["outcome"], "gap", "{line}");
        }
        for pair in lines.windows(2) {
            assert_eq!(pair[1]["prev"], pair[0]["mac"], "{writer}");
        }
    }
}
