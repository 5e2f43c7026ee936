use serde::Serialize;

use crate::failure::Failure;
use crate::show::{self, Paint};

/// Tells the steps as they happen, and remembers whether all came out as they should.
pub(super) struct Report {
    json: bool,
    paint: Paint,
    steps: usize,
    failed: Vec<String>,
}

#[derive(Serialize)]
struct Step<'a> {
    step: &'a str,
    title: &'a str,
    expected: &'a str,
    got: &'a str,
    ok: bool,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, paint: Paint::stdout(), steps: 0, failed: Vec::new() }
    }

    /// Begins a chapter.
    pub(super) fn chapter(&self, title: &str, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        show::out(&format!("\n{}\n{}\n", self.paint.title(title), self.paint.dim(text)))
    }

    /// One step: what must come out, and what did.
    pub(super) fn step(&mut self, step: &str, title: &str, expected: &str, got: &str) -> Result<(), Failure> {
        let ok = expected == got;
        self.steps += 1;
        if !ok {
            self.failed.push(step.to_owned());
        }
        if self.json {
            let line = serde_json::to_string(&Step { step, title, expected, got, ok })?;
            return show::out(&format!("{line}\n"));
        }
        let got = show::printable_lines(got);
        show::out(&if ok {
            format!("  {} {title:<72} {}\n", self.paint.good("ok"), self.paint.dim(&got))
        } else {
            format!("  {} {title}\n       expected {expected}\n       got      {got}\n", self.paint.bad("NO"))
        })
    }

    /// Something to know that cannot fail.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { show::out(&format!("     {}\n", self.paint.dim(text))) }
    }

    pub(super) fn close(self) -> Result<(), Failure> {
        if !self.failed.is_empty() {
            let failed = self.failed.join(", ");
            return Err(Failure::new(format!(
                "{} of {} steps went wrong: {failed}",
                self.failed.len(),
                self.steps
            )));
        }
        if self.json {
            return Ok(());
        }
        let all = format!("All {} steps came out as they should.", self.steps);
        show::out(&format!("\n{}\n", self.paint.good(&all)))
    }
}
