mod upload;

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::client::{BaseUrl, Client, ClientError, Narration};
use countersign::store::{Listing, Peer};
use countersign::{PeerStore, Profile};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body_util::BodyExt as _;

use super::peer::complain;
use crate::args::CallArgs;
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::show;
use upload::{Content, Upload};

pub(crate) fn run(home: &Home, args: &CallArgs) -> Result<(), Failure> {
    let request = request(args)?;
    let Stores { peers, local } = home.stores()?;
    let mut peer = choose(&*peers, args)?;
    // Where nobody serves, nobody else erases what is over. It is not used in any case.
    let now = show::now();
    if peer.accepted(now).count() < peer.credentials.len() && peers.settle(now).is_ok() {
        peer = peers.get(&peer.name)?;
    }
    // Only once it is known that there is somebody to send it to.
    let content = match &args.data {
        Some(given) => Content::read(given, peer.profile == Profile::Cs1)?,
        None => Content::Held(Bytes::new()),
    };
    let trail = home.trail(&local, "call")?;
    // Followed, so that the store learns which credential the peer has taken: a rotation may wait for that.
    let mut builder =
        Client::builder().timeout(Duration::from_secs(args.timeout)).audit(trail).follow(Arc::clone(&peers));
    if args.verbose {
        builder = builder.narrator(Arc::new(|narration: &Narration| show::err(&format!("{narration}\n"))));
    }
    let client = builder.build(&peer)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let response = match content {
            Content::Held(content) => client.send(request.map(|()| content)).await?,
            Content::Flowing(from) => client.send_streamed(request.map(|()| Upload::new(from))).await?,
        };
        let status = response.status();
        let mut body = response.into_body();
        let step = Duration::from_secs(args.timeout);
        let late = |_| Failure::new(format!("the response stood still for {} seconds", args.timeout));
        while let Some(frame) = tokio::time::timeout(step, body.frame()).await.map_err(late)? {
            let frame = frame?;
            if let Some(piece) = frame.data_ref()
                && !write(piece)?
            {
                break;
            }
        }
        Ok::<_, Failure>(status)
    })?;
    if status.is_success() { Ok(()) } else { Err(Failure::new(format!("{} answered {status}", peer.name))) }
}

/// The peer whose URL is the longest prefix of the one that is called.
fn choose(store: &dyn PeerStore, args: &CallArgs) -> Result<Peer, Failure> {
    if let Some(name) = &args.peer {
        return Ok(store.get(name)?);
    }
    let (origin, path) = BaseUrl::split(&args.url)?;
    let Listing { peers, damaged } = store.read_all()?;
    let mut matching: Vec<(usize, Peer)> = peers
        .into_iter()
        .filter_map(|peer| {
            let url = peer.url.as_deref()?;
            let length = url.len();
            BaseUrl::parse(url).ok()?.covers(&origin, &path).then_some((length, peer))
        })
        .collect();
    matching.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut matching = matching.into_iter();
    match (matching.next(), matching.next()) {
        (Some((one, _)), Some((two, _))) if one == two => {
            Err(Failure::usage("several peers have this URL: choose one with --peer NAME"))
        }
        (Some((_, peer)), _) => Ok(peer),
        (None, _) => {
            // The one that is meant may be among those that cannot be used.
            complain(&damaged)?;
            Err(Failure::new(format!(
                "no peer has this URL: `countersign peer add NAME --url {origin} …` first"
            )))
        }
    }
}

fn request(args: &CallArgs) -> Result<Request<()>, Failure> {
    let has_content = args.data.is_some();
    let method = match &args.request {
        Some(method) => {
            Method::from_bytes(method.as_bytes()).map_err(|_| Failure::usage("-X: that is not a method"))?
        }
        None if has_content => Method::POST,
        None => Method::GET,
    };
    // A wrong URL is told as such before anything else happens.
    BaseUrl::split(&args.url).map_err(|error| match error {
        ClientError::Url { .. } => Failure::usage(error.to_string()),
        refused => refused.into(),
    })?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = args
        .url
        .parse()
        .map_err(|_| Failure::usage("the URL has characters that must be percent-encoded"))?;
    for header in &args.headers {
        let wrong = || Failure::usage("-H: a header is `Name: value`, in visible characters");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        request.headers_mut().append(name, value);
    }
    if has_content && !request.headers().contains_key(CONTENT_TYPE) {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(request)
}

/// To a file or a pipe as it is; to a terminal without what a terminal would obey. `false` when nobody reads any more.
fn write(piece: &[u8]) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = if stdout.is_terminal() {
        stdout.write_all(show::printable_lines(&String::from_utf8_lossy(piece)).as_bytes())
    } else {
        stdout.write_all(piece)
    };
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}
