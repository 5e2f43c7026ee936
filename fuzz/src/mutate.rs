//! A small deterministic mutator, so that a stable compiler without a fuzzer tries the same inputs every time.

/// Pseudo-random numbers from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From a name, so that each target has a sequence of its own.
    #[must_use]
    pub fn of(name: &str) -> Self {
        // FNV-1a.
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }
}

/// What turns up in texts at their edges.
const PIECES: [&[u8]; 28] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\t",
    b"\"",
    b"\\",
    b"/",
    b"..",
    b"=",
    b"==",
    b",",
    b":",
    b";",
    b"@",
    b"%2e",
    b"%00",
    b"{",
    b"}",
    b"[",
    b"null",
    b"-1",
    b"1e999",
    b"\\u0000",
    b"\xff",
    b"\xc3\xa9",
    b"\x1b[31m",
];

/// A changed copy of one of `inputs`: up to four changes, each to a bit, a byte, a range, or with a piece of another.
#[must_use]
pub fn mutated(inputs: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = inputs[numbers.below(inputs.len())].clone();
    for _ in 0..=numbers.below(4) {
        let place = numbers.below(bytes.len() + 1);
        let end = (place + 1 + numbers.below(16)).min(bytes.len());
        match numbers.below(8) {
            0 if place < bytes.len() => bytes[place] ^= 1 << numbers.below(8),
            1 if place < bytes.len() => bytes[place] = numbers.below(256) as u8,
            2 if place < bytes.len() => drop(bytes.drain(place..end)),
            3 if place < bytes.len() => {
                let again = bytes[place..end].to_vec();
                drop(bytes.splice(place..place, again));
            }
            4 => bytes.truncate(place),
            5 => {
                let other = &inputs[numbers.below(inputs.len())];
                let start = numbers.below(other.len());
                let stop = (start + 1 + numbers.below(64)).min(other.len());
                drop(bytes.splice(place..place, other[start..stop].iter().copied()));
            }
            6 => bytes.insert(place, numbers.below(256) as u8),
            _ => drop(bytes.splice(place..place, PIECES[numbers.below(PIECES.len())].iter().copied())),
        }
    }
    bytes
}
