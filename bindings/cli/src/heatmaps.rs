//! A folder of heat maps on one colour scale, whatever their number: maps wait in a temporary file until the scale
//! of the whole run is known.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use f2d2::HeatMap;

use crate::inputs::{Inputs, Item};
use crate::overlay::{self, Extent, Scale};

/// Heat maps of a run that is under way.
pub(crate) struct HeatMaps {
    folder: PathBuf,
    waiting: BufWriter<File>,
    // One entry per item of the run; `None` where there is no map.
    maps: Vec<Option<Waiting>>,
    extent: Extent,
}

struct Waiting {
    file: PathBuf,
    width: usize,
    height: usize,
}

impl HeatMaps {
    /// Makes `folder` if need be.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        let cannot = || format!("cannot make the folder {}", folder.display());
        std::fs::create_dir_all(&folder).with_context(cannot)?;
        // In the folder itself: it has to have room for the pictures anyway.
        let waiting = tempfile::tempfile_in(&folder)
            .with_context(|| format!("cannot write in {}", folder.display()))?;
        let waiting = BufWriter::new(waiting);
        Ok(Self { folder, waiting, maps: Vec::new(), extent: Extent::default() })
    }

    /// Notes the next item of the run and says where its heat map will be.
    pub(crate) fn add(&mut self, item: &Item, map: Option<&HeatMap>) -> Result<Option<PathBuf>> {
        let entry = match map {
            None => None,
            Some(map) => {
                let bytes: Vec<u8> = map.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                let cannot = || format!("cannot write in {}", self.folder.display());
                self.waiting.write_all(&bytes).with_context(cannot)?;
                self.extent.add(map);
                let file = self.folder.join(file_name(self.maps.len(), item));
                Some(Waiting { file, width: map.width, height: map.height })
            }
        };
        let file = entry.as_ref().map(|waiting| waiting.file.clone());
        self.maps.push(entry);
        Ok(file)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Number of heat maps.
    pub(crate) fn len(&self) -> usize {
        self.maps.iter().flatten().count()
    }

    /// The colour scale of all maps so far.
    pub(crate) fn scale(&self) -> Scale {
        self.extent.scale()
    }

    /// Draws every heat map; `inputs` are those of the run.
    pub(crate) fn write(self, inputs: &Inputs) -> Result<()> {
        let scale = self.scale();
        let mut file = self.waiting.into_inner().map_err(|e| e.into_error())?;
        file.rewind()?;
        let mut waiting = BufReader::new(file);
        for (item, entry) in inputs.items().zip(self.maps) {
            let Some(entry) = entry else { continue };
            let mut bytes = vec![0; entry.width * entry.height * size_of::<f32>()];
            waiting.read_exact(&mut bytes).context("cannot read the heat maps back")?;
            let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let values = bytes.chunks_exact(size_of::<f32>()).map(value).collect();
            let map = HeatMap { width: entry.width, height: entry.height, values };
            // A file that has vanished since it was scored has a score but no picture.
            if let Ok(picture) = &item.picture {
                let panel = overlay::panel(picture.image());
                overlay::save(&overlay::draw(&panel, &map, scale), &entry.file)?;
            }
        }
        Ok(())
    }
}

/// `000012_shirt.png`: the number in the run keeps names apart and in order.
fn file_name(number: usize, item: &Item) -> String {
    let base = Path::new(&item.input).file_name().unwrap_or_default().to_string_lossy();
    let base = match base.rsplit_once('.') {
        // file.npz:key keeps its key.
        Some((stem, ending)) => match ending.split_once(':') {
            Some((_, key)) => format!("{stem}_{key}"),
            None => stem.to_owned(),
        },
        None => base.into_owned(),
    };
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let base: String = base.chars().map(plain).take(80).collect();
    match item.of {
        1 => format!("{number:06}_{base}.png"),
        _ => format!("{number:06}_{base}_{}.png", item.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(input: &str, index: usize, of: usize) -> Item {
        Item { input: input.into(), index, of, picture: Err(String::new()) }
    }

    #[test]
    fn file_names_are_unique_and_harmless() {
        assert_eq!(file_name(12, &item("a/b/shirt 1.png", 0, 1)), "000012_shirt_1.png");
        assert_eq!(file_name(3, &item("x/m.npz:test/a", 7, 9)), "000003_a_7.png");
        assert_eq!(file_name(3, &item("x/m.npz:test", 7, 9)), "000003_m_test_7.png");
    }

    #[test]
    fn maps_are_drawn_for_valid_items_only() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("in.png");
        image::GrayImage::new(28, 28).save(&source).unwrap();
        let paths = [folder.path().join("none.png"), source];
        let inputs = Inputs::find(&paths);
        let mut maps = HeatMaps::new(folder.path().join("out")).unwrap();
        let map = HeatMap { width: 28, height: 28, values: vec![1.0; 784] };
        let given = [None, Some(&map)];
        let files: Vec<_> =
            inputs.items().zip(given).map(|(i, m)| maps.add(&i, m).unwrap()).collect();
        assert_eq!((maps.len(), &files[0]), (1, &None));
        maps.write(&inputs).unwrap();
        let file = files[1].as_ref().unwrap();
        assert_eq!(image::open(file).unwrap().height(), 280);
        assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 1);
    }
}
