//! Chunked framing, followed byte by byte.

/// Where in the framing the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Chunked {
    #[default]
    SizeStart,
    Size(u64),
    Extension(u64),
    Data(u64),
    DataEnd,
    /// In the trailers; whether the line so far is empty.
    Trailer(bool),
}

/// How far the framing has come.
pub(crate) enum Step {
    /// All bytes belong to the body.
    More,
    /// The body ends after so many.
    Ended(usize),
    /// The last of so many bytes can't be in such framing.
    Broken(usize),
}

impl Chunked {
    /// Goes over these bytes, to know where the body ends.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            if let Self::Data(left) = *self {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += n;
                let left = left - n as u64;
                *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match self.next(byte) {
                Some(Self::SizeStart) if matches!(self, Self::Trailer(true)) => return Step::Ended(at),
                Some(next) => *self = next,
                None => return Step::Broken(at),
            }
        }
        Step::More
    }

    /// The state after a byte; from an empty trailer line back to the start means the end.
    pub(crate) fn next(self, byte: u8) -> Option<Self> {
        let digit = || char::from(byte).to_digit(16).map(u64::from);
        let after_size = |n| if n == 0 { Self::Trailer(true) } else { Self::Data(n) };
        Some(match (self, byte) {
            (Self::SizeStart, _) => Self::Size(digit()?),
            (Self::Size(n) | Self::Extension(n), b'\n') => after_size(n),
            (Self::Size(n), b'\r' | b';' | b' ' | b'\t') => Self::Extension(n),
            (Self::Size(n), _) => Self::Size(n.checked_mul(16)?.checked_add(digit()?)?),
            (Self::Extension(n), _) => Self::Extension(n),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::SizeStart,
            (Self::DataEnd, _) => return None,
            (Self::Trailer(true), b'\n') => Self::SizeStart,
            (Self::Trailer(true), b'\r') => Self::Trailer(true),
            (Self::Trailer(_), b'\n') => Self::Trailer(true),
            (Self::Trailer(_), _) => Self::Trailer(false),
            (Self::Data(_), _) => return None,
        })
    }
}
