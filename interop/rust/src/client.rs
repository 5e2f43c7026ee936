//! The client of a server that takes requests without a handshake (`specs/cs1.md`, section 9).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use httpsig_hyper::prelude::message_component::HttpMessageComponentId;
use httpsig_hyper::prelude::{AlgorithmName, HttpSignatureParams, SharedKey};
use httpsig_hyper::{
    ContentDigestType, MessageSignature as _, MessageSignatureReq as _, MessageSignatureRes as _,
    RequestContentDigest as _, ResponseContentDigest as _,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpStream;

use super::{Failure, check};

pub(crate) const CHECKS: [&str; 7] =
    ["get", "post", "skewed-clock", "tampered-body", "tampered-target", "replay", "not-for-us"];

const TAG: &str = "countersign-direct";
const REQUEST: [&str; 4] = ["\"@method\"", "\"@authority\"", "\"@path\"", "\"@query\""];
const RESPONSE: [&str; 9] = [
    "\"@status\"",
    "\"@method\";req",
    "\"@authority\";req",
    "\"@path\";req",
    "\"@query\";req",
    "\"signature-input\";req;key=\"cs\"",
    "\"signature\";req;key=\"cs\"",
    "\"content-digest\"",
    "\"content-type\"",
];
const HOUR: i64 = 3600;
const BODY: &[u8] = b"{\"item\": 1}";

/// A request with its content, and its URI whole: the library takes `@authority` from there.
type Signed = Request<Full<Bytes>>;

pub(crate) struct Client {
    url: String,
    keyid: String,
    to_server: SharedKey,
    to_client: SharedKey,
}

/// How a request is signed.
#[derive(Clone, Copy, Default)]
struct How<'a> {
    /// By how many seconds our clock is ahead.
    ahead: i64,
    /// The server's, if it asked for one.
    nonce: Option<&'a str>,
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac.finalize().into_bytes().to_vec())
}

fn lp(parts: &[&str]) -> Vec<u8> {
    let framed = |part: &&str| [&(part.len() as u32).to_be_bytes(), part.as_bytes()].concat();
    parts.iter().flat_map(framed).collect()
}

impl Client {
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let [url, client, server, file] = ["URL", "API_KEY", "THEIR_KEY", "SECRET_FILE"]
            .map(|name| std::env::var(format!("COUNTERSIGN_{name}")));
        let secret = std::fs::read_to_string(Path::new(&file?))?;
        let (client, server) = (client?, server?);
        // Section 2.
        let prk = mac(b"countersign/1", &[secret.trim_end_matches(['\r', '\n']).as_bytes()])?;
        let kd = mac(&prk, &[&lp(&["dir", &client, &server]), &[1]])?;
        let key = |label: &str| Ok::<_, Failure>(SharedKey::HmacSha256(mac(&kd, &[&lp(&[label]), &[1]])?));
        Ok(Self {
            url: url?,
            keyid: format!("{client}:{server}"),
            to_server: key("req")?,
            to_client: key("rsp")?,
        })
    }

    async fn sign(
        &self,
        method: Method,
        target: &str,
        body: &'static [u8],
        how: How<'_>,
    ) -> Result<Signed, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.url))
            .body(Full::from(body).map_err(|never| match never {}).boxed())?;
        let mut covered = REQUEST.to_vec();
        if !body.is_empty() {
            request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            request = request.set_content_digest(&ContentDigestType::Sha256).await?;
            covered.extend(["\"content-type\"", "\"content-digest\""]);
        }
        let covered: Result<Vec<_>, _> = covered.into_iter().map(HttpMessageComponentId::try_from).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let created = now.checked_add_signed(how.ahead).ok_or("a time before 1970")?;
        let mut parameters = HttpSignatureParams::try_new(&covered?)?;
        parameters.set_created(created).set_expires(created + 20).set_random_nonce();
        parameters.set_alg(&AlgorithmName::HmacSha256).set_keyid(&self.keyid).set_tag(TAG);
        if let Some(nonce) = how.nonce {
            parameters.set_nonce(nonce);
        }
        request.set_message_signature(&parameters, &self.to_server, Some("cs")).await?;
        Ok(request.map(|_| Full::from(body)))
    }

    async fn send(&self, request: &Signed) -> Result<Response<Full<Bytes>>, Failure> {
        let authority = request.uri().authority().ok_or("no authority")?.as_str();
        let stream = TcpStream::connect(authority).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut sent = request.clone();
        sent.headers_mut().insert(HOST, HeaderValue::try_from(authority)?);
        let target = request.uri().path_and_query().ok_or("no path")?;
        *sent.uri_mut() = Uri::from(target.clone());
        let answered = async {
            let (parts, body) = sender.send_request(sent).await?.into_parts();
            Ok::<_, Failure>(Response::from_parts(parts, Full::from(body.collect().await?.to_bytes())))
        };
        tokio::pin!(answered, connection);
        loop {
            tokio::select! {
                response = &mut answered => return response,
                ended = &mut connection => ended?,
            }
        }
    }

    /// Signature, coverage, and digest of the content.
    async fn verify(&self, response: &Response<Full<Bytes>>, request: &Signed) -> Result<(), Failure> {
        let label =
            response.verify_message_signature(&self.to_client, Some(&self.keyid), Some(request)).await?;
        check(label == "cs", "another label")?;
        let parameters = response.get_signature_params()?.swap_remove("cs").ok_or("no parameters")?;
        check(parameters.tag.as_deref() == Some(TAG), "another tag")?;
        let covered: Vec<String> = parameters.covered_components.iter().map(ToString::to_string).collect();
        for component in RESPONSE {
            check(covered.iter().any(|one| one == component), format!("{component} is not covered"))?;
        }
        response.clone().verify_content_digest().await?;
        Ok(())
    }

    /// The verified answer. Signs once more, with the server's nonce, where it asks for that.
    async fn call(
        &self,
        method: Method,
        target: &str,
        body: &'static [u8],
        ahead: i64,
    ) -> Result<(Signed, Response<Full<Bytes>>), Failure> {
        let mut request = self.sign(method.clone(), target, body, How { ahead, nonce: None }).await?;
        let mut response = self.send(&request).await?;
        if let Some(nonce) = asked_for(&response)? {
            request = self.sign(method, target, body, How { ahead, nonce: Some(&nonce) }).await?;
            response = self.send(&request).await?;
        }
        self.verify(&response, &request).await?;
        Ok((request, response))
    }

    pub(crate) async fn run(&self, name: &str) -> Result<(), Failure> {
        match name {
            "get" => greets(self.call(Method::GET, "/hello?a=b&c=%20", b"", 0).await?.1).await,
            "post" => greets(self.call(Method::POST, "/invoices", BODY, 0).await?.1).await,
            "skewed-clock" => self.skewed_clock().await,
            "tampered-body" => {
                let request = self.sign(Method::POST, "/invoices", BODY, How::default()).await?;
                let changed = request.map(|_| Full::from(&b"{\"item\": 2}"[..]));
                refused(self.send(&changed).await?, "digest-mismatch").await
            }
            "tampered-target" => {
                let mut request = self.sign(Method::GET, "/hello?a=b", b"", How::default()).await?;
                *request.uri_mut() = format!("{}/hello?a=c", self.url).parse()?;
                refused(self.send(&request).await?, "authentication-failed").await
            }
            "replay" => {
                let request = self.sign(Method::POST, "/invoices", BODY, How::default()).await?;
                self.verify(&self.send(&request).await?, &request).await?;
                refused(self.send(&request).await?, "request-replayed").await
            }
            "not-for-us" => self.not_for_us().await,
            _ => Err("there is no such check".into()),
        }
    }

    async fn skewed_clock(&self) -> Result<(), Failure> {
        for ahead in [-HOUR, HOUR] {
            let first = self.sign(Method::GET, "/hello", b"", How { ahead, nonce: None }).await?;
            let first = self.send(&first).await?;
            let nonce = asked_for(&first)?.ok_or("no nonce was given")?;
            refused(first, "nonce-required").await?;
            check(nonce.starts_with("csn."), nonce.as_str())?;
            let request = self.sign(Method::GET, "/hello", b"", How { ahead, nonce: Some(&nonce) }).await?;
            let response = self.send(&request).await?;
            self.verify(&response, &request).await?;
            greets(response).await?;
            refused(self.send(&request).await?, "request-replayed").await?;
            greets(self.call(Method::POST, "/invoices", BODY, ahead).await?.1).await?;
        }
        Ok(())
    }

    /// What is changed in an answer, or answers another request, the library refuses.
    async fn not_for_us(&self) -> Result<(), Failure> {
        let (request, good) = self.call(Method::GET, "/hello", b"", 0).await?;
        let (mut status, mut field) = (good.clone(), good.clone());
        *status.status_mut() = http::StatusCode::CREATED;
        field.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
        let longer = [&good.body().clone().collect().await?.to_bytes()[..], b" "].concat();
        let body = good.clone().map(|_| Full::from(longer));
        let other = self.sign(Method::GET, "/hello", b"", How::default()).await?;
        let unsigned = Request::builder().uri(format!("{}/hello", self.url)).body(Full::default())?;
        let unsigned = self.send(&unsigned).await?;
        let changed =
            [(status, &request), (field, &request), (body, &request), (good, &other), (unsigned, &request)];
        for (number, (response, request)) in changed.iter().enumerate() {
            check(self.verify(response, request).await.is_err(), format!("number {number} was taken"))?;
        }
        Ok(())
    }
}

/// The nonce that the server wants to be signed (RFC 9421, section 5).
fn asked_for(response: &Response<Full<Bytes>>) -> Result<Option<String>, Failure> {
    let Some(field) = response.headers().get("accept-signature").filter(|_| response.status() == 401) else {
        return Ok(None);
    };
    let members: sfv::Dictionary = sfv::Parser::new(field.as_bytes()).parse()?;
    let Some(sfv::ListEntry::InnerList(list)) = members.get("cs") else {
        return Err("no member `cs`".into());
    };
    let text =
        |name: &str| list.params.get(name).and_then(|value| value.as_string()).map(ToString::to_string);
    check(text("tag").as_deref() == Some(TAG), "another tag")?;
    Ok(text("nonce"))
}

async fn content(response: Response<Full<Bytes>>) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

async fn refused(response: Response<Full<Bytes>>, kind: &str) -> Result<(), Failure> {
    check(response.status() == 401, response.status().as_str())?;
    check(!response.headers().contains_key("signature"), "a refusal is signed")?;
    let problem = content(response).await?;
    check(problem["type"] == format!("urn:countersign:problem:{kind}"), problem.to_string())
}

async fn greets(response: Response<Full<Bytes>>) -> Result<(), Failure> {
    check(response.status() == 200, response.status().as_str())?;
    let content = content(response).await?;
    check(content["service"] == "billing", content.to_string())
}
