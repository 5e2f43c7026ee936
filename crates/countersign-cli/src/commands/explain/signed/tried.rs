//! What a request's target may have been where it was signed: what a proxy on the way rewrites.

use countersign::protocol::cs1::request::RequestParts;

use super::super::External;
use super::super::judge::Signer;
use super::message::Message;

/// The parts of a request that proxies rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) method: String,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
}

impl Target {
    pub(super) fn as_it_came(message: &Message) -> Self {
        let host = message.host.clone().unwrap_or_default().to_ascii_lowercase();
        Self {
            method: message.method.clone(),
            authority: host,
            path: message.path.clone(),
            query: message.query.clone().filter(|query| !query.is_empty()),
        }
    }

    pub(super) fn parts<'a>(&'a self, message: &'a Message) -> RequestParts<'a> {
        let Self { method, authority, path, query } = self;
        RequestParts { method, authority, path, query: query.as_deref(), fields: &message.fields }
    }

    /// What is another than in `right`, in words.
    pub(super) fn differences(&self, right: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, signed: &str, came: &str| {
            if signed != came {
                differences.push(format!("{what} was `{signed}` where it was signed, and is `{came}` here"));
            }
        };
        compare("@method", &self.method, &right.method);
        compare("@authority", &self.authority, &right.authority);
        compare("@path", &self.path, &right.path);
        let query = |target: &Self| format!("?{}", target.query.as_deref().unwrap_or_default());
        compare("@query", &query(self), &query(right));
        differences
    }
}

/// What a server makes of the request, and what is wrong with where it was sent to. A request of our own goes to others: what
/// they are called there is their configuration.
pub(super) fn right(
    message: &Message,
    external: &[External],
    signer: Option<Signer>,
) -> (Target, Option<String>) {
    let came = Target::as_it_came(message);
    if signer == Some(Signer::Us) || external.is_empty() {
        let authority = came.authority.strip_suffix(":443").unwrap_or(&came.authority).to_owned();
        return (Target { authority, ..came }, None);
    }
    let found = external.iter().find_map(|one| Some((one, one.signed_for(&came.authority)?)));
    if let Some((found, authority)) = found {
        let path = format!("{}{}", found.url.prefix(), came.path);
        return (Target { authority, path, ..came }, None);
    }
    let known: Vec<&str> = external.iter().map(|external| external.url.authority()).collect();
    let told = match &message.host {
        None => "the request does not say where it was sent to (`Host`)".to_owned(),
        Some(host) => format!(
            "the request was sent to `{}`, which is not one of the URLs under which this service is reached ({}): a proxy has put another `Host` in, or the URL is missing in `external_urls` under [serve]",
            countersign::protocol::wire::printable(host, 100),
            known.join(", ")
        ),
    };
    // With one URL there is no doubt which one was meant.
    match external {
        [only] => {
            let path = format!("{}{}", only.url.prefix(), came.path);
            (Target { authority: only.url.authority().to_owned(), path, ..came }, Some(told))
        }
        _ => (came, Some(told)),
    }
}

/// Targets that this may have been, those with fewer changes first.
pub(super) fn candidates(
    message: &Message,
    came: &Target,
    right: &Target,
    external: &[External],
) -> Vec<Target> {
    let mut authorities = vec![right.authority.clone(), came.authority.clone()];
    authorities.extend(message.host.clone());
    for external in external {
        authorities.extend([
            external.url.authority().to_owned(),
            format!("{}:443", external.url.authority()),
            format!("{}:80", external.url.authority()),
        ]);
    }
    let bare = came.authority.rsplit_once(':').map(|(host, _)| host.to_owned());
    authorities.extend(bare);
    let mut paths = vec![right.path.clone(), came.path.clone()];
    for external in external {
        paths.push(format!("{}{}", external.url.prefix(), came.path));
    }
    paths.push(came.path.trim_end_matches('/').to_owned());
    paths.push(format!("{}/", came.path));
    paths.extend(decoded(&came.path));
    // Without the first segment: a prefix that was put in front of it.
    paths.extend(
        came.path.get(1..).and_then(|path| path.find('/').and_then(|at| path.get(at..))).map(str::to_owned),
    );
    let mut queries = vec![came.query.clone(), None];
    queries.extend(came.query.as_deref().map(|query| Some(query.replace("%20", "+"))));
    queries.extend(came.query.as_deref().map(|query| Some(query.replace('+', "%20"))));
    let mut methods = vec![came.method.clone()];
    methods.extend(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned));
    let (methods, authorities) = (unique(methods), unique(authorities));
    let (paths, queries) = (unique(paths), unique(queries));
    let mut all: Vec<(usize, Target)> = Vec::new();
    for method in &methods {
        for authority in &authorities {
            for path in &paths {
                for query in &queries {
                    let target = Target {
                        method: method.clone(),
                        authority: authority.clone(),
                        path: path.clone(),
                        query: query.clone(),
                    };
                    let changes = target.differences(right).len();
                    all.push((changes, target));
                }
            }
        }
    }
    all.sort_by_key(|(changes, _)| *changes);
    all.into_iter().map(|(_, target)| target).collect()
}

/// Each once, in their order.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut unique: Vec<T> = Vec::new();
    for value in values {
        if !unique.contains(&value) {
            unique.push(value);
        }
    }
    unique
}

/// Percent-encoded letters written out, as some proxies do.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.first_chunk::<2>().filter(|_| *first == b'%');
        let code = escape
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|decoded| decoded != path)
}
