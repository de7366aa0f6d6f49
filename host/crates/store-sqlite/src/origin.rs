//! Checks whether a write-ahead log was written for the database that it is next to. SQLite applies any log that is
//! complete in itself. A database that was restored next to another database's log would be corrupted.
//!
//! The first page of a log's first transaction carries a stamp in the field that SQLite calls `application_id`. The
//! stamp is a hash of the database's header at the time when that log began. Every page that was copied into the
//! database since then is also in the log itself. A log that began after another process's checkpoint has the same
//! stamp as the database.
//!
//! A log next to another database, next to a backup, or without its database is refused and left as it is. A log without a first
//! page shows nothing and is accepted.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// Length of a database's header, which begins its first page, in bytes.
const HEADER_BYTES: usize = 100;
/// Offset of the `application_id` in the header.
const STAMP_AT: usize = 68;
/// Offset of the schema cookie in the header. Every `VACUUM` increases it, so a vacuumed copy of a database never has
/// the original's value.
const SCHEMA_COOKIE_AT: usize = 40;
const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The first bytes of a log. The last bit is the byte order of the checksums.
const LOG_MAGIC: u32 = 0x377f_0682;
/// The value in databases that were not written by a release with stamps.
const NO_STAMP: i32 = 0;

type Header = [u8; HEADER_BYTES];

/// Returns the stamp for the next log of this database. Correct only while the database's header is as the last
/// checkpoint left it.
pub(crate) fn stamp(database: &File) -> i32 {
    match header(database) {
        Ok(Some(header)) => stamp_of(&header),
        Ok(None) | Err(_) => NO_STAMP,
    }
}

/// Returns whether `log` holds commits of another database, or of another state of this one. A log that does not show
/// its origin is not considered foreign.
///
/// # Errors
/// Returns an error if the database or the log cannot be read.
pub(crate) fn is_foreign(database: &File, log: impl Read) -> io::Result<bool> {
    let header = header(database)?;
    let Some(mut log) = LogReader::begin(log)? else {
        return Ok(false);
    };
    let (mut found, mut committed) = (LogHead::default(), None);
    while log.next_frame()? {
        if log.page_number() == 1 {
            found.note(&log.page, header.as_ref());
        }
        if log.ends_transaction() {
            committed = Some(found);
        }
    }
    Ok(match (committed, header) {
        (None, _) => false,
        // SQLite would remove the log and thereby every commit in it.
        (Some(_), None) => true,
        (Some(found), Some(header)) => found.is_foreign_to(&header),
    })
}

/// The information from the versions of the first page in a log.
#[derive(Clone, Copy, Default)]
struct LogHead {
    first: Option<Header>,
    /// Whether one of them is already in the database.
    is_copied: bool,
}

impl LogHead {
    fn note(&mut self, page: &[u8], database: Option<&Header>) {
        let header: Header = bytes_at(page, 0);
        self.first.get_or_insert(header);
        self.is_copied |= database == Some(&header);
    }

    fn is_foreign_to(self, database: &Header) -> bool {
        let Some(first) = self.first else {
            return false;
        };
        let stamp = stamp_in(&first);
        let is_of_same_state =
            stamp == stamp_in(database) && cookie_in(&first) == cookie_in(database);
        stamp != NO_STAMP && stamp != stamp_of(database) && !self.is_copied && !is_of_same_state
    }
}

fn stamp_in(header: &Header) -> i32 {
    i32::from_be_bytes(bytes_at(header, STAMP_AT))
}

fn cookie_in(header: &Header) -> [u8; 4] {
    bytes_at(header, SCHEMA_COOKIE_AT)
}

/// Returns the header in the file; `None` if the file is shorter.
fn header(database: &File) -> io::Result<Option<Header>> {
    let mut header = [0; HEADER_BYTES];
    match database.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(Some(header)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a hash (FNV-1a) that is positive and never [`NO_STAMP`]. It detects accidents, not forgeries.
fn stamp_of(header: &Header) -> i32 {
    let hash = header.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 1).cast_signed().max(1)
}

/// A write-ahead log, read frame by frame for as long as SQLite would accept the frames.
struct LogReader<R> {
    source: R,
    salts: [u8; 8],
    checksum: LogChecksum,
    frame_header: [u8; FRAME_HEADER_BYTES],
    page: Vec<u8>,
}

impl<R: Read> LogReader<R> {
    /// Reads the log's header. Returns `None` if SQLite would not accept it as a log.
    fn begin(mut source: R) -> io::Result<Option<Self>> {
        let mut header = [0; LOG_HEADER_BYTES];
        if !fill(&mut source, &mut header)? {
            return Ok(None);
        }
        let magic = u32::from_be_bytes(bytes_at(&header, 0));
        let page_bytes = u32::from_be_bytes(bytes_at(&header, 8));
        let mut checksum = LogChecksum {
            sums: [0; 2],
            is_big_endian: magic & 1 == 1,
        };
        checksum.add(&header[..24]);
        let is_log = magic & !1 == LOG_MAGIC
            && page_bytes.is_power_of_two()
            && (512..=65_536).contains(&page_bytes)
            && checksum.stands_in(&header[24..]);
        Ok(is_log.then(|| Self {
            source,
            salts: bytes_at(&header, 16),
            checksum,
            frame_header: [0; FRAME_HEADER_BYTES],
            page: vec![0; page_bytes as usize],
        }))
    }

    /// Reads the next frame. Returns false at the end, or if the next frame is torn or left over from before the log
    /// was restarted.
    fn next_frame(&mut self) -> io::Result<bool> {
        if !fill(&mut self.source, &mut self.frame_header)?
            || !fill(&mut self.source, &mut self.page)?
        {
            return Ok(false);
        }
        self.checksum.add(&self.frame_header[..8]);
        self.checksum.add(&self.page);
        Ok(self.page_number() != 0
            && self.frame_header[8..16] == self.salts
            && self.checksum.stands_in(&self.frame_header[16..]))
    }

    fn page_number(&self) -> u32 {
        u32::from_be_bytes(bytes_at(&self.frame_header, 0))
    }

    fn ends_transaction(&self) -> bool {
        u32::from_be_bytes(bytes_at(&self.frame_header, 4)) != 0
    }
}

/// The checksum over the whole log up to a frame.
struct LogChecksum {
    sums: [u32; 2],
    is_big_endian: bool,
}

impl LogChecksum {
    /// Adds `bytes`, whose length is a multiple of eight.
    fn add(&mut self, bytes: &[u8]) {
        let word = |at| match self.is_big_endian {
            true => u32::from_be_bytes(bytes_at(bytes, at)),
            false => u32::from_le_bytes(bytes_at(bytes, at)),
        };
        let [mut first, mut second] = self.sums;
        for at in (0..bytes.len()).step_by(8) {
            first = first.wrapping_add(word(at)).wrapping_add(second);
            second = second.wrapping_add(word(at + 4)).wrapping_add(first);
        }
        self.sums = [first, second];
    }

    /// Returns whether these eight bytes equal the checksum.
    fn stands_in(&self, bytes: &[u8]) -> bool {
        self.sums
            == [
                u32::from_be_bytes(bytes_at(bytes, 0)),
                u32::from_be_bytes(bytes_at(bytes, 4)),
            ]
    }
}

/// Returns `N` bytes from `at` on. `bytes` must be long enough.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}

/// Fills `buffer`. Returns false if the source ends first.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
