//! The file of compiled pipelines: written as a whole, read only if it is intact and of this very driver.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::file;

const MAGIC: &[u8; 8] = b"f2d2pipe";
const DIGEST: usize = 32;
/// Largest file that is read: a driver's pipelines take some hundred kilobytes.
const LARGEST: u64 = 64 << 20;

/// A cache file for one adapter and driver.
#[derive(Debug)]
pub(super) struct CacheFile {
    path: PathBuf,
    key: String,
}

impl CacheFile {
    /// The file in `folder`, or in the user's cache folder; `None` if there is neither.
    pub(super) fn new(folder: Option<&Path>, info: &wgpu::AdapterInfo) -> Option<Self> {
        let folder = folder.map(Path::to_owned).or_else(user_folder)?;
        let name = wgpu::util::pipeline_cache_key(info)?;
        // Another driver or another version of this library compiles other code.
        let version = env!("CARGO_PKG_VERSION");
        let key = format!("{name} {} {} {version}", info.driver, info.driver_info);
        Some(Self { path: folder.join(format!("{name}.bin")), key })
    }

    /// What was saved; `None` if there is nothing, or nothing that was saved under this key and is whole.
    pub(super) fn load(&self) -> Option<Vec<u8>> {
        let bytes = file::read(&self.path, LARGEST).ok()?;
        let (head, data) = bytes.split_at_checked(MAGIC.len() + DIGEST)?;
        (head == self.head(data)).then(|| data.to_vec())
    }

    /// Replaces the file; a reader sees the old one or the new one. A failure costs time at the next start only.
    pub(super) fn save(&self, data: &[u8]) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&self.head(data))?;
        file.write_all(data)?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn head(&self, data: &[u8]) -> Vec<u8> {
        let digest = Sha256::new().chain_update(&self.key).chain_update([0]).chain_update(data);
        [MAGIC.as_slice(), &digest.finalize()].concat()
    }
}

fn user_folder() -> Option<PathBuf> {
    let variable =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || {
        let home = variable("HOME")?;
        let part = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        Some(home.join(part))
    };
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("LOCALAPPDATA")).or_else(home);
    base.map(|base| base.join("f2d2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_of_the_same_driver_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub").join("cache.bin");
        let cache = CacheFile { path: path.clone(), key: "driver 1".into() };
        assert_eq!(cache.load(), None);
        cache.save(b"pipelines").unwrap();
        assert_eq!(cache.load().as_deref(), Some(b"pipelines".as_slice()));
        cache.save(b"more pipelines").unwrap();
        assert_eq!(cache.load().as_deref(), Some(b"more pipelines".as_slice()));
        let foreign = CacheFile { path: path.clone(), key: "driver 2".into() };
        assert_eq!(foreign.load(), None);
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(cache.load(), None, "{end} bytes");
        }
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.load(), None, "byte {i}");
        }
        let nowhere = CacheFile { path: path.join("below a file"), key: String::new() };
        assert!(nowhere.save(b"x").is_err() && nowhere.load().is_none());
    }
}
