//! Reading files that somebody else wrote.

use std::fs::{File, Metadata};
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult};
use std::path::Path;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::error::{Error, Result};

/// Up to `limit` + 1 bytes of a regular file: one more than allowed is enough to know that it is too large. They are in
/// pages of their own: after a large block of the heap was freed, glibc keeps as much memory for good.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Bytes> {
    read_pages(path, limit).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

fn read_pages(path: &Path, limit: u64) -> IoResult<Bytes> {
    // Opening a pipe would wait for its other end: look before opening, and again at what was opened.
    let regular = |meta: &Metadata| {
        if meta.is_file() { Ok(()) } else { Err(IoError::other("not a regular file")) }
    };
    regular(&std::fs::metadata(path)?)?;
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    regular(&meta)?;
    // A byte more than there should be shows whether there is more.
    let length = limit.min(meta.len()).saturating_add(1);
    let mut pages = MmapMut::map_anon(usize::try_from(length).map_err(IoError::other)?)?;
    let mut at = 0;
    while at < pages.len() {
        match file.read(&mut pages[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if at < pages.len() {
        return Ok(Bytes::from_owner(pages).slice(..at));
    }
    // Too large, or of those files that do not know their size.
    let mut all = pages.to_vec();
    file.take(limit.saturating_add(1) - length).read_to_end(&mut all)?;
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_beyond_the_limit_is_read_and_no_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"12345").unwrap();
        for (limit, need) in [(0, &b"1"[..]), (4, b"12345"), (5, b"12345"), (u64::MAX, b"12345")] {
            assert_eq!(read(file.path(), limit).unwrap(), need, "limit {limit}");
        }
        std::fs::write(file.path(), b"").unwrap();
        assert_eq!(read(file.path(), 10).unwrap(), &b""[..]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_does_not_know_its_size_is_read_to_its_end() {
        let bytes = read(Path::new("/proc/self/status"), 1 << 20).unwrap();
        assert!(bytes.starts_with(b"Name:") && bytes.ends_with(b"\n"), "{bytes:?}");
        assert_eq!(read(Path::new("/proc/self/status"), 3).unwrap(), &b"Name"[..]);
    }
}
