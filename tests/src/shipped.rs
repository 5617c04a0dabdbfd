//! The models that ship with the project, and what their teachers say of images.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use ndarray_npy::NpzReader;

use crate::programs::root;
use crate::skipped;

/// Folders of all shipped models; without any, the test is left out in part.
///
/// # Panics
/// If `models` cannot be read.
pub fn folders() -> Vec<PathBuf> {
    let all = std::fs::read_dir(root().join("models")).unwrap();
    let mut folders: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("model.onnx").is_file());
    folders.sort();
    if folders.is_empty() {
        skipped("no shipped model: models/*/model.onnx");
    }
    folders
}

/// `n` of `images`, or all if there are fewer, evenly spread: a few of each kind.
pub fn some(images: &[Vec<u8>], n: usize) -> Vec<Vec<u8>> {
    let every = images.len() / n.clamp(1, images.len());
    images.iter().step_by(every).cloned().collect()
}

/// What `reference.npz` of a model folder holds.
pub struct Reference {
    /// 8-bit images, as frames hold them.
    pub images: Vec<Vec<u8>>,
    /// Bits per dimension under the teacher in many steps, per image.
    pub bpd: Vec<f64>,
}

/// The reference of a model folder.
///
/// # Panics
/// If it is missing or damaged.
pub fn reference(folder: &Path) -> Reference {
    let mut file = NpzReader::new(File::open(folder.join("reference.npz")).unwrap()).unwrap();
    let images: ArrayD<u8> = file.by_name("images").unwrap();
    let bpd: ArrayD<f64> = file.by_name("bpd_reference").unwrap();
    let images = images.outer_iter().map(|image| image.iter().copied().collect()).collect();
    Reference { images, bpd: bpd.into_iter().collect() }
}
