//! Reading files that somebody else wrote.

use std::fs::{File, Metadata};
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult};
use std::path::Path;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::error::{Error, Result};

/// Up to `limit` + 1 bytes of a regular file: one more than allowed is enough to know that it is too large.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let (file, length) = open(path, limit)?;
        // Its whole length at once: growing step by step would copy it, and take twice the memory.
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(IoError::other)?;
        file.take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| Error::Io { action: "read", path: path.into(), source })
}

/// As [`read`], in pages of their own: after a large block of the heap was freed, glibc keeps as much memory for good.
pub(crate) fn read_apart(path: &Path, limit: u64) -> Result<Bytes> {
    let read = || {
        let (mut file, length) = open(path, limit)?;
        let mut pages = MmapMut::map_anon(length)?;
        let mut at = 0;
        while at < length {
            match file.read(&mut pages[at..]) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Bytes::from_owner(pages).slice(..at))
    };
    read().map_err(|source| Error::Io { action: "read", path: path.into(), source })
}

/// A regular file, and how many of its bytes to read: one more than it has, so that it is seen if it grows, or one more
/// than `limit`.
fn open(path: &Path, limit: u64) -> IoResult<(File, usize)> {
    // Opening a pipe would wait for its other end: look before opening, and again at what was opened.
    let regular = |meta: &Metadata| {
        if meta.is_file() { Ok(()) } else { Err(IoError::other("not a regular file")) }
    };
    regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let meta = file.metadata()?;
    regular(&meta)?;
    let length = limit.min(meta.len()).saturating_add(1);
    Ok((file, usize::try_from(length).map_err(IoError::other)?))
}
