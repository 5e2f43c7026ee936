//! A look at a peer's server without any credential: whether it is there, whether its certificate is trusted, and
//! what its clock says. Blocking, for diagnosis.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use countersign_store::Trust;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::trust::tls_config;
use super::{BaseUrl, ClientError, failed};

/// Longer than the head of any sensible response, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// What was seen of a server.
#[derive(Debug)]
pub struct Probe {
    /// Whether it is there and its certificate is trusted. If only the certificate is not, the next member is set.
    pub reached: Result<(), ClientError>,
    /// The certificate that it showed, trusted or not. `None` without TLS or connection.
    pub certificate: Option<CertificateDer<'static>>,
    /// What its clock said, if it answered.
    pub date: Option<Dated>,
}

/// A server's `Date` (RFC 9110, section 6.6.1), and between which times of our clock it was written.
#[derive(Clone, Debug)]
pub struct Dated {
    /// The field as it came, made printable.
    pub text: String,
    /// Our clock when the request was sent.
    pub after: SystemTime,
    /// Our clock when the answer had come.
    pub before: SystemTime,
}

/// Connects as a client with this trust would, and asks for the head of the response to `HEAD` on the URL. Nothing
/// that identifies us is sent. `patience` is for each step: connecting, each read, each write.
#[must_use]
pub fn probe(base: &BaseUrl, trust: &Trust, patience: Duration) -> Probe {
    let mut probe = Probe { reached: Ok(()), certificate: None, date: None };
    if let Err(error) = look(base, trust, patience, &mut probe) {
        if base.is_tls() && probe.certificate.is_none() {
            // Seen on a second connection that trusts nobody: what the trusting one refused is not at hand.
            probe.certificate = shown_certificate(base, patience);
        }
        probe.reached = Err(error);
    }
    probe
}

fn look(base: &BaseUrl, trust: &Trust, patience: Duration, probe: &mut Probe) -> Result<(), ClientError> {
    let failed = |error: io::Error| failed::to_connect(base.to_string(), &error);
    let mut tcp = connect(base, patience).map_err(failed)?;
    if !base.is_tls() {
        probe.date = head(&mut tcp, base).map_err(failed)?;
        return Ok(());
    }
    let mut tls = connection(base, tls_config(trust)?)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).map_err(failed)?;
    }
    probe.certificate =
        tls.peer_certificates().and_then(<[_]>::first).map(|shown| shown.clone().into_owned());
    probe.date = head(&mut Stream::new(&mut tls, &mut tcp), base).map_err(failed)?;
    Ok(())
}

fn connect(base: &BaseUrl, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (base.host().as_str(), base.port()).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connection(base: &BaseUrl, config: ClientConfig) -> Result<ClientConnection, ClientError> {
    let name = ServerName::try_from(base.host()).map_err(|error| ClientError::Trust(error.to_string()))?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| ClientError::Trust(error.to_string()))
}

/// Sends `HEAD` and reads the head of the response; its `Date`.
fn head(stream: &mut (impl io::Read + io::Write), base: &BaseUrl) -> io::Result<Option<Dated>> {
    let (path, host, after) = (base.prefix(), base.authority(), SystemTime::now());
    let request = format!("HEAD {path}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let start = Instant::now();
    let mut read = Vec::new();
    let mut buffer = [0; 2048];
    while !read.windows(4).any(|window| window == b"\r\n\r\n") && read.len() < MAX_HEAD {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
        // A server that drips must not keep us for ever.
        if start.elapsed() > Duration::from_secs(30) {
            break;
        }
    }
    let before = SystemTime::now();
    let text = String::from_utf8_lossy(&read);
    if !text.starts_with("HTTP/1.") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/1.1"));
    }
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let date = fields.find(|(name, _)| name.eq_ignore_ascii_case("date"));
    Ok(date.map(|(_, value)| Dated {
        text: countersign_protocol::wire::printable(value.trim(), 60),
        after,
        before,
    }))
}

/// The certificate that the server shows to somebody who then hangs up.
fn shown_certificate(base: &BaseUrl, patience: Duration) -> Option<CertificateDer<'static>> {
    let seen = Arc::new(Refusing::default());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut tcp = connect(base, patience).ok()?;
    let mut tls = connection(base, config).ok()?;
    while tls.is_handshaking() && tls.complete_io(&mut tcp).is_ok() {}
    seen.0.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Takes note of a certificate and refuses it, whatever it is.
#[derive(Debug, Default)]
struct Refusing(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Refusing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Err(Error::General("seen".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nothing is trusted".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nothing is trusted".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
