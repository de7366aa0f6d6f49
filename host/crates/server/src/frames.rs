//! A parser for the frame headers of an HTTP/2 client. It detects whether the client is in the middle of a request's head, which
//! hyper does not expose. It buffers no bytes except an incomplete frame header.

/// The client connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The position in a connection's bytes.
#[derive(Debug)]
pub(crate) enum FrameParser {
    /// Only the first bytes of the preface have arrived, this many.
    Preface(usize),
    /// HTTP/1, which has no frames.
    None,
    /// Between two frames, or within one.
    Frame(FrameHeader),
}

#[derive(Debug, Default)]
pub(crate) struct FrameHeader {
    head: [u8; FRAME_HEAD],
    head_bytes: usize,
    /// The bytes of the frame's payload that have not arrived.
    payload: usize,
    /// The field block of a request's head continues in the next frame.
    is_continued: bool,
    heads_ended: u64,
}

impl Default for FrameParser {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl FrameParser {
    /// Whether the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Frame(_))
    }

    /// Whether the client must send more before it may pause: it is within a frame other than DATA, or between the frames of one
    /// head.
    pub(crate) fn is_amid_head(&self) -> bool {
        match self {
            Self::Preface(bytes) => *bytes > 0,
            Self::None => false,
            Self::Frame(frame) => frame.is_amid_head(),
        }
    }

    /// Returns the number of heads, and of frames of other kinds except DATA, that have ended.
    pub(crate) fn heads_ended(&self) -> u64 {
        match self {
            Self::Preface(_) | Self::None => 0,
            Self::Frame(frame) => frame.heads_ended,
        }
    }

    /// Processes bytes that the client has sent.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        if let Self::Preface(seen) = self {
            let rest = &PREFACE[*seen..];
            let new = bytes.len().min(rest.len());
            if bytes[..new] != rest[..new] {
                *self = Self::None;
                return;
            }
            *seen += new;
            bytes = &bytes[new..];
            if *seen < PREFACE.len() {
                return;
            }
            *self = Self::Frame(FrameHeader::default());
        }
        if let Self::Frame(frame) = self {
            frame.read(bytes);
        }
    }
}

impl FrameHeader {
    fn is_amid_head(&self) -> bool {
        let is_in_data = self.head_bytes == FRAME_HEAD && self.head[3] == DATA;
        self.is_continued || (self.head_bytes > 0 && !is_in_data)
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let new = bytes.len().min(FRAME_HEAD - self.head_bytes);
            self.head[self.head_bytes..][..new].copy_from_slice(&bytes[..new]);
            self.head_bytes += new;
            bytes = &bytes[new..];
            if self.head_bytes < FRAME_HEAD {
                return;
            }
            if new > 0 {
                self.begin();
            }
            let new = bytes.len().min(self.payload);
            self.payload -= new;
            bytes = &bytes[new..];
            if self.payload == 0 {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.head_bytes = 0;
        if self.head[3] != DATA && !self.is_continued {
            self.heads_ended += 1;
        }
    }

    /// Starts the payload after the frame header is complete.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_continued = flags & END_HEADERS == 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![
            0,
            (payload >> 8) as u8,
            payload as u8,
            kind,
            flags,
            0,
            0,
            0,
            1,
        ];
        bytes.resize(FRAME_HEAD + payload, 9);
        bytes
    }

    /// Returns the values of `is_amid_head` after each byte, without consecutive repetitions.
    fn amid(bytes: &[u8]) -> Vec<bool> {
        let mut frames = FrameParser::default();
        frames.read(PREFACE);
        let mut all: Vec<bool> = bytes
            .iter()
            .map(|byte| {
                frames.read(&[*byte]);
                frames.is_amid_head()
            })
            .collect();
        all.dedup();
        all
    }

    #[test]
    fn a_client_is_amid_a_head_until_its_last_byte() {
        assert_eq!(amid(&frame(HEADERS, END_HEADERS, 300)), [true, false]);
        let continued = [frame(HEADERS, 0, 3), frame(CONTINUATION, END_HEADERS, 3)].concat();
        assert_eq!(amid(&continued), [true, false]);
        assert_eq!(amid(&continued[..12]), [true], "between its two frames");
        assert_eq!(amid(&frame(6, 0, 8)), [true, false]);
        assert_eq!(amid(&frame(4, 0, 0)), [true, false]);
    }

    #[test]
    fn a_head_ends_with_its_last_frame() {
        let mut frames = FrameParser::default();
        frames.read(PREFACE);
        let all = [
            frame(4, 0, 6),
            frame(HEADERS, 0, 3),
            frame(CONTINUATION, 0, 3),
            frame(CONTINUATION, END_HEADERS, 3),
            frame(DATA, 0, 5),
        ];
        let ended = all.map(|bytes| {
            frames.read(&bytes);
            frames.heads_ended()
        });
        assert_eq!(ended, [1, 1, 1, 2, 2]);
    }

    #[test]
    fn a_client_is_not_amid_a_head_within_a_data_frame() {
        let data = frame(DATA, 0, 10);
        assert_eq!(amid(&data), [true, false], "in the frame's head alone");
    }

    #[test]
    fn http1_bytes_are_not_parsed_as_frames() {
        let mut frames = FrameParser::default();
        frames.read(b"PRI * HT");
        assert!(frames.is_amid_head() && !frames.is_http2());
        frames.read(b"ML\r\n");
        assert!(!frames.is_amid_head() && !frames.is_http2());
        frames.read(PREFACE);
        assert!(!frames.is_http2(), "too late");
    }

    #[test]
    fn the_result_of_the_frame_parser_does_not_depend_on_the_pieces() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut all = PREFACE.to_vec();
        for _ in 0..200 {
            let kind = [DATA, HEADERS, CONTINUATION, 6][random.usize(..4)];
            all.extend(frame(kind, random.u8(..8), random.usize(..600)));
        }
        let mut whole = FrameParser::default();
        whole.read(&all);
        let mut piecewise = FrameParser::default();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(random.usize(..=rest.len().min(40)));
            piecewise.read(piece);
            rest = others;
        }
        assert_eq!(format!("{whole:?}"), format!("{piecewise:?}"));
    }
}
