use countersign::store::random;
use countersign::{ApiKey, SharedSecret};
use zeroize::Zeroizing;

use crate::args::KeygenArgs;
use crate::failure::Failure;
use crate::show;

/// Prints what was asked for by name: a fresh key and a fresh secret.
pub(crate) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let key = ApiKey::generate(&random());
    let secret = SharedSecret::generate(&Zeroizing::new(random()));
    let (key, secret) = (key.expose(), secret.expose());
    let text = if args.json {
        format!("{{\"apiKey\":\"{key}\",\"secret\":\"{secret}\"}}\n")
    } else {
        format!("API_KEY={key}\nSECRET={secret}\n")
    };
    show::out(&Zeroizing::new(text))
}
