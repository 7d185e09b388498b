//! Changed copies of a seed, the same ones in every run.

/// A small generator of numbers with a fixed start (SplitMix64); not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.bits() % n as u64) as usize }
    }
}

/// Pieces that parsers of ours treat as special.
const TOKENS: [&[u8]; 24] = [
    b"*",
    b"%",
    b"%%",
    b"%REQ(x)%",
    b"---\n",
    b": ",
    b"- ",
    b"\n",
    b"  ",
    b"{",
    b"[",
    b"&a ",
    b"*a",
    b"<<: ",
    b"/../",
    b"//",
    b"%2f",
    b"%00",
    b"\xff",
    "\u{e4}".as_bytes(),
    b"\0",
    b"\r\n",
    b"18446744073709551616",
    b"===\n",
];

/// A copy with one to four changes: a byte flipped, a token put in, a piece taken out, doubled, or taken from `other`.
pub fn mutate(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let len = random.below(24).min(out.len() - at);
        match random.below(6) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 => drop(out.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
            2 => drop(out.drain(at..at + len)),
            3 => {
                let piece = out[at..at + len].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            4 => {
                let from = random.below(other.len());
                let piece = &other[from..(from + 40).min(other.len())];
                out.splice(at..at + len, piece.iter().copied());
            }
            _ => out.truncate(at.max(out.len() / 2)),
        }
    }
    out
}
