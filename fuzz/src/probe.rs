//! A server that says anything to `doctor`'s look at it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use countersign::Trust;
use countersign::client::{BaseUrl, probe};

use crate::input;

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A server that answers each request with what is to be answered now, and hangs up.
static SERVER: LazyLock<BaseUrl> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    BaseUrl::parse(&url).unwrap()
});

fn answer(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.extend_from_slice(&byte);
    }
    // The other side may have heard enough.
    let _ = stream.write_all(&ANSWER.lock().unwrap());
}

pub(crate) fn date(input: &[u8]) {
    input.clone_into(&mut ANSWER.lock().unwrap());
    let seen = probe(&SERVER, &Trust::System, Duration::from_secs(20));
    assert!(seen.certificate.is_none());
    if let Err(error) = &seen.reached {
        input::assert_printable(&error.to_string());
        assert!(!input.starts_with(b"HTTP/1.") && seen.date.is_none());
        return;
    }
    assert!(input.starts_with(b"HTTP/1."));
    let Some(date) = seen.date else { return };
    input::assert_printable(&date.text);
    assert!(date.text.len() <= 63 && date.after <= date.before);
    // It is the first field of that name in the head, or in what came instead of one.
    let text = input::text(input);
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("date")).unwrap();
    let safe: String = value.trim().chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    assert!(date.text.trim_end_matches("...").len() <= safe.len());
    assert!(safe.starts_with(date.text.trim_end_matches("...")) || input.len() > 16 * 1024);
}
