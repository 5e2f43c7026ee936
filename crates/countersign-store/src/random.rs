/// `N` bytes from the operating system's random generator.
///
/// # Panics
/// If the operating system has no randomness to give: nothing can be done safely then.
#[must_use]
#[allow(clippy::panic, reason = "going on without randomness would be worse than any crash")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        panic!("the operating system gives no random bytes");
    }
    bytes
}
