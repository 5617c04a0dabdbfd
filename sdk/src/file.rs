//! Reading files that somebody else wrote.

use std::fs::{File, Metadata};
use std::io::{Error as IoError, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Up to `limit` + 1 bytes of a regular file: one more than allowed is enough to know that it is too large.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io { action: "read", path: path.into(), source };
    // Opening a pipe would wait for its other end: look before opening, and again at what was opened.
    let regular = |meta: &Metadata| {
        if meta.is_file() { Ok(()) } else { Err(IoError::other("not a regular file")) }
    };
    std::fs::metadata(path).and_then(|meta| regular(&meta)).map_err(io)?;
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    regular(&meta).map_err(io)?;
    let limit = limit.saturating_add(1);
    // Its whole length at once: growing step by step would copy it, and take twice the memory.
    let mut bytes = Vec::new();
    let length = usize::try_from(limit.min(meta.len().saturating_add(1))).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(length).map_err(|error| io(IoError::other(error)))?;
    file.take(limit).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
