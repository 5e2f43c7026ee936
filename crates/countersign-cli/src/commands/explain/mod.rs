//! `countersign explain`: why a signature did not match. It shows what was signed and what should have been. It
//! shows no secret, no signature, and never the one that would have been right: its output ends up in tickets.

mod capture;
mod judge;
mod mistakes;
mod report;
mod signed;
mod visible;

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::Path;

use countersign::Profile;
use zeroize::Zeroizing;

use self::capture::Captured;
use self::judge::{Context, Verdict};
use crate::args::ExplainArgs;
use crate::external::External;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::show;

/// Longer than any request that the endpoints take, with its head.
const MAX: u64 = 64 * 1024;
/// Longer than any content that is held until its digest is verified, unless that is configured otherwise.
const MAX_SIGNED: u64 = 2 * 1024 * 1024;

pub(crate) fn run(home: &Home, args: &ExplainArgs) -> Result<(), Failure> {
    let Stores { peers: store, local } = home.stores()?;
    let peer = store.get(&args.peer)?;
    let others = store.read_all()?;
    if peer.profile == Profile::Cs1 {
        if args.challenge.is_some() {
            return Err(Failure::usage(
                "--challenge: under the profile cs1 no request is signed over a challenge",
            ));
        }
        let config = home.config()?;
        let external = home.external(&config);
        let (service, lookup) = (&config.service, store.lookup_key());
        let here = signed::Here {
            service,
            peer: &peer,
            others: &others,
            lookup,
            state: &*local,
            external: &external,
            moment: show::moment,
        };
        let request = read(&args.file, MAX_SIGNED)?;
        // Of `curl -v`, one text has both.
        let is_same = args.response.as_deref() == Some(args.file.as_path());
        let other = args.response.as_deref().filter(|_| !is_same);
        let other = other.map(|path| read(path, MAX_SIGNED)).transpose()?;
        let response = if is_same { Some(&request) } else { other.as_ref() };
        let explained = signed::explain(&here, &request, response.map(|bytes| bytes.as_slice()));
        let explained = explained.map_err(Failure::new)?;
        let what = if response.is_some() { "response" } else { "request" };
        if args.json {
            show::json(&explained.json)?;
        } else {
            show::out(&show::printable_lines(&explained.text))?;
        }
        return told(explained.verdict, &format!("the {what} is not as the profile wants it"));
    }
    if args.response.is_some() {
        return Err(Failure::usage("--response: only under the profile cs1 are responses signed"));
    }
    let captured = Captured::read(&read(&args.file, MAX)?);
    if captured.api_key.is_none() && captured.challenge.is_none() && captured.signature.is_none() {
        return Err(Failure::new(
            "there is no API key, no challenge and no signature in this request: give the request that carries the signature, with its headers or its JSON body",
        ));
    }
    let context = Context {
        peer: &peer,
        others: &others,
        lookup: store.lookup_key(),
        captured: &captured,
        handed_out: args.challenge.as_deref(),
    };
    let judgement = context.judge();
    if args.json {
        show::json(&report::json(&peer, &captured, &judgement))?;
    } else {
        show::out(&show::printable_lines(&report::text(&peer, &captured, &judgement)))?;
    }
    told(judgement.verdict, "the signature is not the right one")
}

fn told(verdict: Verdict, wrong: &str) -> Result<(), Failure> {
    match verdict {
        Verdict::Right => Ok(()),
        Verdict::Wrong => Err(Failure::new(wrong)),
        Verdict::Incomplete => {
            Err(Failure::new("something is missing, so that the signature could not be judged"))
        }
    }
}

fn read(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if path != Path::new("-") {
        let file = File::open(path).context(|| path.display().to_string())?;
        return bounded(file, max).context(|| path.display().to_string())?;
    }
    if std::io::stdin().is_terminal() {
        eprintln!("Paste the request, and end it with Ctrl-D:");
    }
    bounded(std::io::stdin(), max).context(|| "standard input".to_owned())?
}

fn bounded(source: impl Read, max: u64) -> std::io::Result<Result<Zeroizing<Vec<u8>>, Failure>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    source.take(max + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() as u64 > max {
        Err(Failure::new(format!(
            "the request is longer than {} KiB: give the head and the body of one request",
            max / 1024
        )))
    } else {
        Ok(bytes)
    })
}
