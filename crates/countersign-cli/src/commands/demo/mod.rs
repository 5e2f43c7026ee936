//! `countersign demo`: two services on loopback over real TLS, with everything real but the place: the same
//! stores, servers, clients and trail that `init`, `serve` and `call` use. Each step says what must come out and
//! compares; the exit code is 0 only if all of them did.

mod between;
mod chain;
mod impostors;
mod lifecycle;
mod paired;
mod report;
mod signed;
mod stage;
mod story;

use crate::args::DemoArgs;
use crate::failure::Failure;
use report::Report;
use stage::Stage;

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new(args.json);
    let directory = tempfile::Builder::new().prefix("countersign-demo-").tempdir()?;
    runtime.block_on(async {
        let mut stage = Stage::set(directory.path(), &mut report).await?;
        story::exchange(&stage, &mut report)?;
        story::handshakes(&stage, &mut report).await?;
        impostors::callers(&stage, &mut report).await?;
        impostors::servers(&stage, &mut report).await?;
        signed::chapter(&stage, &mut report).await?;
        paired::chapter(&stage, &mut report).await?;
        lifecycle::rotation(&mut stage, &mut report).await?;
        lifecycle::revocation(&stage, &mut report).await?;
        impostors::brute_force(&stage, &mut report).await?;
        story::trail(&stage, &mut report)?;
        chain::chapter(&stage, &mut report)?;
        stage.strike().await;
        Ok::<_, Failure>(())
    })?;
    report.close()
}
