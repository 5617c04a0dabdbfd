//! INPUTS of the command line → pictures, one by one: files, folders and arrays, decoded only when reached.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::picture::{self, Picture};

/// File name endings that a folder is searched for; a file named on the command line may have any.
const ENDINGS: [&str; 12] =
    ["png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pbm", "pnm", "pam", "tif", "tiff", "webp"];

/// The images that a command is to look at, in order.
pub(crate) struct Inputs(Vec<Source>);

enum Source {
    Image(PathBuf),
    Array { path: PathBuf, key: Option<String> },
    Unusable { input: String, why: String },
}

/// One image, or the reason why there is none.
pub(crate) struct Item {
    /// The file as named on the command line or found in a folder; `file.npz:key` for an array of several.
    pub(crate) input: String,
    /// Position in the array; 0 for an image file.
    pub(crate) index: usize,
    /// Images in `input`.
    pub(crate) of: usize,
    /// The decoded image.
    pub(crate) picture: Result<Picture, String>,
}

impl Inputs {
    /// Lists what `paths` name. Whatever cannot be found becomes an item that says so.
    pub(crate) fn find(paths: &[PathBuf]) -> Self {
        Self(paths.iter().flat_map(|path| sources(path)).collect())
    }

    /// Number of files, an array file counting as one.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The longest name of an input, in characters.
    pub(crate) fn name_width(&self) -> usize {
        self.0.iter().map(|source| source.name().chars().count()).max().unwrap_or(0)
    }

    /// Decodes the images in order; holds one file at a time.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> + '_ {
        self.0.iter().flat_map(Source::items)
    }
}

impl Item {
    /// Name of the image: the input, with the position in brackets where it holds more than one.
    pub(crate) fn name(&self) -> String {
        match self.of {
            1 => self.input.clone(),
            _ => format!("{}[{}]", self.input, self.index),
        }
    }
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Image(path) | Self::Array { path, key: None } => path.display().to_string(),
            Self::Array { path, key: Some(key) } => format!("{}:{key}", path.display()),
            Self::Unusable { input, .. } => input.clone(),
        }
    }

    fn items(&self) -> Box<dyn Iterator<Item = Item>> {
        let input = self.name();
        let single =
            |input, picture| Box::new(std::iter::once(Item { input, index: 0, of: 1, picture }));
        match self {
            Self::Unusable { why, .. } => single(input, Err(why.clone())),
            Self::Image(path) => single(input, picture::decode(path)),
            Self::Array { path, key } => match picture::load_array(path, key.as_deref()) {
                Err(why) => single(input, Err(why)),
                Ok(array) => {
                    let of = array.len();
                    Box::new((0..of).map(move |index| Item {
                        input: input.clone(),
                        index,
                        of,
                        picture: array.picture(index),
                    }))
                }
            },
        }
    }
}

fn sources(path: &Path) -> Vec<Source> {
    let unusable =
        |why: &str| vec![Source::Unusable { input: path.display().to_string(), why: why.into() }];
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => match walk(path) {
            found if found.is_empty() => unusable("holds no images"),
            found => found,
        },
        // Opening a pipe or a device could wait for ever.
        Ok(meta) if !meta.is_file() => unusable("is not a file or folder"),
        Ok(_) if is_array(path) => vec![Source::Array { path: path.into(), key: None }],
        Ok(_) => vec![Source::Image(path.into())],
        Err(error) => match split_key(path) {
            Some((path, key)) => vec![Source::Array { path, key: Some(key) }],
            None => unusable(&error.to_string()),
        },
    }
}

/// Images below `folder`, sorted by name at every level; hidden files are left out.
fn walk(folder: &Path) -> Vec<Source> {
    let shown = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    walk.filter_entry(shown)
        .filter_map(|entry| match entry {
            Ok(entry) => {
                let image = entry.file_type().is_file() && has_ending(entry.path(), &ENDINGS);
                image.then(|| Source::Image(entry.into_path()))
            }
            Err(error) => {
                let input = error.path().unwrap_or(folder).display().to_string();
                Some(Source::Unusable { input, why: error.to_string() })
            }
        })
        .collect()
}

fn split_key(path: &Path) -> Option<(PathBuf, String)> {
    let (file, key) = path.to_str()?.rsplit_once(':')?;
    (has_ending(Path::new(file), &["npz"]) && !key.is_empty()).then(|| (file.into(), key.into()))
}

fn is_array(path: &Path) -> bool {
    has_ending(path, &["npy", "npz"])
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GrayImage;
    use ndarray::{Array3, Array4};
    use ndarray_npy::{NpzWriter, write_npy};

    fn names(paths: &[PathBuf]) -> Vec<String> {
        Inputs::find(paths).items().map(|item| item.name()).collect()
    }

    fn why(path: PathBuf) -> String {
        Inputs::find(&[path]).items().next().unwrap().picture.err().unwrap()
    }

    #[test]
    fn folders_are_searched_recursively_in_name_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.png", "a.PNG", "b/2.png", "b/10.png", ".hidden.png"] {
            let file = folder.path().join(name);
            GrayImage::new(3, 2).save_with_format(file, image::ImageFormat::Png).unwrap();
        }
        fs::write(folder.path().join("notes.txt"), "no image").unwrap();
        let root = folder.path().display().to_string();
        let expected = ["a.PNG", "b/10.png", "b/2.png", "c.png"].map(|n| format!("{root}/{n}"));
        assert_eq!(names(&[folder.path().into()]), expected);
        let all_decode = Inputs::find(&[folder.path().into()]).items().all(|i| i.picture.is_ok());
        assert!(all_decode);
    }

    #[test]
    fn what_cannot_be_found_or_decoded_is_an_item_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(why(folder.path().join("none.png")).contains("No such file"));
        assert_eq!(why(folder.path().into()), "holds no images");
        let text = folder.path().join("text.png");
        fs::write(&text, "not an image").unwrap();
        assert!(why(text).contains("cannot decode"));
    }

    #[test]
    fn arrays_give_their_images_and_keys_choose_among_several() {
        let folder = tempfile::tempdir().unwrap();
        let npy = folder.path().join("a.npy");
        write_npy(&npy, &Array3::<u8>::from_shape_fn((3, 4, 5), |(n, _, _)| n as u8)).unwrap();
        let items: Vec<Item> = Inputs::find(std::slice::from_ref(&npy)).items().collect();
        assert_eq!(items.len(), 3);
        let picture = items[2].picture.as_ref().unwrap();
        assert_eq!((picture.image().width(), picture.image().height()), (5, 4));
        assert!(picture.image().as_bytes().iter().all(|&v| v == 2));
        assert_eq!(items[2].name(), format!("{}[2]", npy.display()));

        let npz = folder.path().join("b.npz");
        let mut writer = NpzWriter::new_compressed(fs::File::create(&npz).unwrap());
        writer.add_array("train", &Array4::<u8>::zeros((2, 4, 4, 3))).unwrap();
        writer.add_array("real", &Array3::<f32>::zeros((2, 4, 4))).unwrap();
        writer.finish().unwrap();
        let keyed = |key: &str| PathBuf::from(format!("{}:{key}", npz.display()));
        assert_eq!(names(&[keyed("train")]).len(), 2);
        assert!(why(npz.clone()).contains("write file.npz:key with one of train, real"));
        assert!(why(keyed("other")).contains("train, real"));
        let dtype = why(keyed("real"));
        assert!(dtype.contains("<f4") && dtype.contains("uint8"), "{dtype}");
    }

    #[test]
    fn arrays_of_other_shapes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let npy = folder.path().join("a.npy");
        write_npy(&npy, &ndarray::Array2::<u8>::zeros((4, 5))).unwrap();
        assert!(why(npy.clone()).contains("[4, 5]"));
        write_npy(&npy, &Array4::<u8>::zeros((1, 4, 5, 2))).unwrap();
        assert!(why(npy).contains("[1, 4, 5, 2]"));
    }
}
