//! SHA-256 (FIPS 180-4) of short messages, around the compression function of the `sha2` crate.
//!
//! That crate's own hasher serves messages of any length, and its states cannot be had. HMAC over a signature base begins at a
//! state that is prepared, has the whole message at hand, and hashes it in one go: see [`crate::mac`].

use sha2::block_api::compress256;
use zeroize::{Zeroize, Zeroizing};

use crate::copy::copy;

/// Bytes in a block.
pub(crate) const BLOCK: usize = 64;

/// Bytes that the processor reads of a block at a time. What was written in smaller pieces a moment ago it cannot read before
/// all of them have reached the memory, and that waits for every step before.
const LANE: usize = 16;

/// What is carried from block to block.
#[derive(Clone, Copy)]
pub(crate) struct State([u32; 8]);

impl Zeroize for State {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl State {
    /// Section 5.3.3.
    const INITIAL: Self = Self([
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ]);

    /// After one block. A key is in the block or in what comes of it, so neither is left behind.
    pub(crate) fn after(block: &Zeroizing<[u8; BLOCK]>) -> Zeroizing<Self> {
        let mut state = Zeroizing::new(Self::INITIAL);
        compress256(&mut state.0, std::slice::from_ref(block));
        state
    }

    /// As a hash is written. Both halves, so that what reads sixteen bytes of it finds them where they were put at once.
    #[inline]
    fn halves(&self) -> [[u8; LANE]; 2] {
        let mut halves = [[0; LANE]; 2];
        let words = self.0.map(u32::to_be);
        for (to, word) in halves.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_ne_bytes();
        }
        halves
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.halves().as_flattened());
        bytes
    }
}

/// SHA-256 of 48 bytes.
#[inline]
pub(crate) fn hash_of_48(one: &[u8; LANE], [two, three]: &[[u8; LANE]; 2]) -> [u8; 32] {
    static LAST: [u8; LANE] = last_lane(true, 48);
    let mut state = State::INITIAL;
    compress_lanes(&mut state, &[*one, *two, *three, LAST]);
    state.bytes()
}

/// The hash of a message of which one block is hashed already, and that ends with the hash `of_another`.
#[inline]
pub(crate) fn after_block_and_hash(state: &Zeroizing<State>, of_another: &Hashed) -> [u8; 32] {
    static LAST: [[u8; LANE]; 2] = [(1_u128 << 127).to_be_bytes(), last_lane(false, BLOCK + 32)];
    let mut state = state.clone();
    let ([one, two], [three, four]) = (of_another.0, LAST);
    compress_lanes(&mut state, &[one, two, three, four]);
    state.bytes()
}

#[inline(always)]
fn compress_lanes(state: &mut State, lanes: &[[u8; LANE]; BLOCK / LANE]) {
    compress256(&mut state.0, lanes.as_flattened().as_chunks().0);
}

/// The end of a message of so many bytes (section 5.1.1), with or without the one behind it.
const fn last_lane(with_one: bool, bytes: usize) -> [u8; LANE] {
    let one = if with_one { 1 << 127 } else { 0 };
    (one | (bytes as u128 * 8)).to_be_bytes()
}

/// A hash, to be hashed again.
pub(crate) struct Hashed([[u8; LANE]; 2]);

/// Hashes a message that comes in pieces. They are gathered in room for `BLOCKS` blocks, less one that the end may need, since
/// many blocks at once take less time than each alone.
#[derive(Clone)]
pub(crate) struct Hasher<const BLOCKS: usize> {
    /// Of a MAC that was not finished it is still as good as the key.
    state: Zeroizing<State>,
    /// Bytes that are in `state`.
    hashed: u64,
    gathered: [[u8; BLOCK]; BLOCKS],
    used: usize,
}

impl<const BLOCKS: usize> Hasher<BLOCKS> {
    const ROOM: usize = {
        assert!(BLOCKS > 1, "the end needs a block of its own");
        (BLOCKS - 1) * BLOCK
    };

    /// For a new message.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { state: Zeroizing::new(State::INITIAL), hashed: 0, gathered: [[0; BLOCK]; BLOCKS], used: 0 }
    }

    /// For a message of which one block is hashed already.
    #[inline(always)]
    pub(crate) fn after_block(state: &Zeroizing<State>) -> Self {
        Self { state: state.clone(), hashed: BLOCK as u64, gathered: [[0; BLOCK]; BLOCKS], used: 0 }
    }

    /// Takes the next piece.
    #[inline(always)]
    pub(crate) fn update(&mut self, piece: &[u8]) {
        let end = self.used + piece.len();
        match self.gathered.as_flattened_mut().get_mut(self.used..end) {
            Some(room) if end <= Self::ROOM => {
                copy(piece, room);
                self.used = end;
            }
            _ => self.update_in_parts(piece),
        }
    }

    #[inline(never)]
    fn update_in_parts(&mut self, piece: &[u8]) {
        let (start, rest) = piece.split_at(piece.len().min(Self::ROOM - self.used));
        self.update(start);
        if self.used == Self::ROOM {
            self.compress_gathered(BLOCKS - 1);
            let (blocks, rest) = rest.as_chunks();
            self.compress(blocks);
            self.update(rest);
        }
    }

    fn compress(&mut self, blocks: &[[u8; BLOCK]]) {
        compress256(&mut self.state.0, blocks);
        self.hashed += blocks.as_flattened().len() as u64;
    }

    /// The first blocks of what was gathered.
    #[inline]
    fn compress_gathered(&mut self, blocks: usize) {
        compress256(&mut self.state.0, self.gathered.get(..blocks).unwrap_or_default());
        self.hashed += (blocks * BLOCK) as u64;
        self.used = 0;
    }

    /// The hash.
    #[inline]
    pub(crate) fn finish(&mut self) -> [u8; 32] {
        self.end();
        self.state.bytes()
    }

    /// The same to be hashed again.
    #[inline]
    pub(crate) fn finish_to_hash(&mut self) -> Hashed {
        self.end();
        Hashed(self.state.halves())
    }

    #[inline]
    fn end(&mut self) {
        let bits = (self.hashed + self.used as u64) * 8;
        let blocks = (self.used + 1 + size_of_val(&bits)).div_ceil(BLOCK);
        // Section 5.1.1: a one, zeros, and at the end of a block the length in bits.
        let end = self.gathered.as_flattened_mut().get_mut(self.used..blocks * BLOCK).unwrap_or_default();
        if let Some(([one, zeros @ ..], length)) = end.split_last_chunk_mut::<8>() {
            *one = 0x80;
            zeros.fill(0);
            *length = bits.to_be_bytes();
        }
        self.compress_gathered(blocks);
    }
}

/// Erases what was gathered, too.
impl<const BLOCKS: usize> Zeroize for Hasher<BLOCKS> {
    fn zeroize(&mut self) {
        self.state.zeroize();
        self.gathered.as_flattened_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::num::u8::ANY;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn hash<const BLOCKS: usize>(pieces: &[Vec<u8>]) -> [u8; 32] {
        let mut hasher = Hasher::<BLOCKS>::new();
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish()
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_hash_that_the_crate_computes(pieces in vec(vec(ANY, 0..300), 0..12)) {
            let expected: [u8; 32] = Sha256::digest(pieces.concat()).into();
            proptest::prop_assert_eq!(hash::<2>(&pieces), expected);
            proptest::prop_assert_eq!(hash::<3>(&pieces), expected);
            proptest::prop_assert_eq!(hash::<17>(&pieces), expected);
        }

        #[test]
        fn a_block_that_is_hashed_before_counts(block: [u8; BLOCK], rest in vec(ANY, 0..200)) {
            let mut hasher = Hasher::<2>::after_block(&State::after(&Zeroizing::new(block)));
            hasher.update(&rest);
            let expected: [u8; 32] = Sha256::digest([&block[..], &rest].concat()).into();
            proptest::prop_assert_eq!(hasher.finish(), expected);
        }
    }

    #[test]
    fn a_message_of_every_length_has_its_hash() {
        let message: Vec<u8> = (0..=255).cycle().take(1_200).collect();
        for length in 0..message.len() {
            let message = vec![message[..length].to_vec()];
            let expected: [u8; 32] = Sha256::digest(&message[0]).into();
            assert_eq!(hash::<2>(&message), expected, "{length}");
            assert_eq!(hash::<17>(&message), expected, "{length}");
        }
    }
}
