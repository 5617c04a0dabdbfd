//! The calibration file: JSON with a format version, checked completely when read, replaced
//! atomically when written.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::binding::Binding;
use super::density::Density;
use super::pac;
use crate::error::{Error, Result};

/// The version that this library reads and writes.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What is stored. Threshold and guarantee follow from it, so that they cannot contradict it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) format_version: u32,
    pub(super) binding: Binding,
    /// Highest false-alarm rate.
    pub(super) alpha: f64,
    /// Probability that it is exceeded after all.
    pub(super) delta: f64,
    /// Seed of the split and of the fit.
    pub(super) seed: u64,
    /// Names of the statistics, in order, [D].
    pub(super) statistics: Vec<String>,
    /// Images that the density was fitted to.
    pub(super) density_images: usize,
    pub(super) density: Density,
    /// Scores of the other images, ascending.
    pub(super) scores: Vec<f64>,
}

/// Read before the rest, so that a newer file is called that.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl Record {
    /// # Errors
    /// [`Error::CalibrationCorrupt`] with the reason.
    pub(super) fn from_json(json: &str) -> Result<Self> {
        let version: Version = serde_json::from_str(json).map_err(corrupt)?;
        if version.format_version != FORMAT_VERSION {
            let found = version.format_version;
            return Err(corrupt(format!("format version is {found}, need {FORMAT_VERSION}")));
        }
        let record: Self = serde_json::from_str(json).map_err(corrupt)?;
        record.check()?;
        Ok(record)
    }

    /// # Errors
    /// [`Error::CalibrationCorrupt`] if the parts contradict each other.
    pub(super) fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |why| Err(corrupt(why)))
    }

    /// # Errors
    /// [`Error::CalibrationCorrupt`] if it cannot be represented.
    pub(super) fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(corrupt)
    }

    fn fault(&self) -> Option<String> {
        if !is_rate(self.alpha) || !is_rate(self.delta) {
            return Some(format!(
                "alpha {} or delta {} is not between 0 and 1",
                self.alpha, self.delta
            ));
        }
        let (schedules, floors) = (self.binding.schedules.len(), self.binding.noise_floors.len());
        if schedules != floors {
            return Some(format!("there are {schedules} schedules for {floors} noise floors"));
        }
        let mut names = self.statistics.clone();
        names.sort_unstable();
        if names.windows(2).any(|w| w[0] == w[1]) {
            return Some("a statistic is named twice".into());
        }
        let dimension = self.density.dimension();
        if self.statistics.len() != dimension {
            let got = self.statistics.len();
            return Some(format!("there are {got} statistics, the density has {dimension}"));
        }
        if self.density_images == 0 {
            return Some("the density was fitted to no image".into());
        }
        let (got, need) = (self.scores.len(), pac::minimum(self.alpha, self.delta));
        if got < need {
            return Some(format!("there are {got} scores, need at least {need}"));
        }
        if self.scores.iter().any(|s| !s.is_finite()) {
            return Some("a score is not finite".into());
        }
        let sorted = self.scores.windows(2).all(|w| w[0] <= w[1]);
        if !sorted {
            return Some("the scores are not in ascending order".into());
        }
        self.density.fault()
    }
}

/// Whether `x` is a probability that excludes both certainties.
pub(super) fn is_rate(x: f64) -> bool {
    x > 0.0 && x < 1.0
}

/// The text of a calibration file.
///
/// # Errors
/// [`Error::Io`], or [`Error::CalibrationCorrupt`] for a file that is too large or not text.
pub(super) fn read(path: &Path) -> Result<String> {
    let bytes = crate::file::read(path, LARGEST_FILE)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(corrupt(format!("file is larger than {LARGEST_FILE} bytes")));
    }
    String::from_utf8(bytes.into()).map_err(corrupt)
}

/// Writes the file, or fails and leaves what was there before.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write(path: &Path, json: &str) -> Result<()> {
    replace(path, json).map_err(|source| Error::Io { action: "write", path: path.into(), source })
}

fn replace(path: &Path, json: &str) -> io::Result<()> {
    // A rename is atomic only within one file system, so the temporary file is a neighbour.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    options.prefix(".calibration");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The usual rights of a new file (less the umask), not the private ones of a temporary
        // file.
        options.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = options.tempfile_in(folder)?;
    file.write_all(json.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::CalibrationCorrupt { why: why.to_string() }
}

/// Bytes; several million scores.
const LARGEST_FILE: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::super::fixture::calibration;
    use super::*;

    #[test]
    fn the_round_trip_is_exact() {
        let record = calibration().record;
        let json = record.to_json().unwrap();
        let back = Record::from_json(&json).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.to_json().unwrap(), json);
        let mut other = record.clone();
        other.scores[0] = other.scores[0].next_down();
        assert_ne!(Record::from_json(&other.to_json().unwrap()).unwrap(), record);
    }

    #[test]
    fn each_corruption_is_refused_with_its_reason() {
        let changes: [(&str, &str, Value); 26] = [
            ("/format_version", "format version is 2, need 1", json!(2)),
            ("/format_version", "invalid type", json!("1")),
            ("/alpha", "alpha", json!(0.0)),
            ("/alpha", "null", Value::Null),
            ("/delta", "delta", json!(1.0)),
            ("/alpha", "scores, need at least", json!(0.001)),
            ("/seed", "invalid value", json!(-1)),
            ("/statistics", "0 statistics", json!([])),
            ("/statistics/1", "named twice", json!("nll@1")),
            ("/density_images", "no image", json!(0)),
            ("/density/center", "centre", json!([])),
            ("/density/scale/0", "scale", json!(0.0)),
            ("/density/scale/0", "scale", json!(-1.0)),
            ("/density/scale", "scale", json!([1.0, 1.0, 1.0])),
            ("/density/center/0", "null", Value::Null),
            ("/density/mixture", "no components", json!([])),
            ("/density/mixture/0/weight", "weights", json!(0.5)),
            ("/density/mixture/0/mean", "covariance", json!([0.0])),
            ("/density/mixture/0/covariance/2", "positive definite", json!(-1.0)),
            ("/density/mixture/0/covariance", "positive definite", json!([1.0])),
            ("/scores", "0 scores", json!([])),
            ("/scores/0", "ascending", json!(1e9)),
            ("/scores/3", "null", Value::Null),
            ("/binding/schedules", "schedules for", json!([[1.0, 0.0]])),
            ("/binding/schedules/0", "monotone", json!([0.5, 0.5])),
            ("/binding/precision", "null", Value::Null),
        ];
        let json = calibration().record.to_json().unwrap();
        for (place, reason, value) in changes {
            let mut changed: Value = serde_json::from_str(&json).unwrap();
            *changed.pointer_mut(place).unwrap() = value;
            refused(&changed.to_string(), reason);
        }
        for place in ["", "/binding", "/binding/preprocess", "/density", "/density/mixture/0"] {
            let mut changed: Value = serde_json::from_str(&json).unwrap();
            changed.pointer_mut(place).unwrap()["surprise"] = json!(1);
            refused(&changed.to_string(), "unknown field `surprise`");
        }
        for text in ["", "[]", "{}", "null", "\u{0}", &json[..json.len() / 2]] {
            refused(text, "");
        }
        refused(&json.replacen("\"alpha\":0.05", "\"alpha\":1e999", 1), "out of range");
        refused(&json.replacen("\"alpha\":0.05", "\"alpha\":NaN", 1), "expected value");
        refused(&json.replacen("{", "{\"alpha\":0.05,", 1), "duplicate field");
        refused(&format!("{json}{json}"), "trailing");
    }

    fn refused(json: &str, reason: &str) {
        match Record::from_json(json) {
            Err(Error::CalibrationCorrupt { why }) => {
                assert!(why.contains(reason), "{reason}: {why}")
            }
            other => panic!("{reason}: {other:?}"),
        }
    }

    #[test]
    fn saving_replaces_and_a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(read(&path).unwrap(), "new\n");

        // A folder cannot be replaced by a file, whatever the user's rights.
        let target = folder.path().join("folder");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("inside"), "old").unwrap();
        assert!(matches!(write(&target, "new"), Err(Error::Io { action: "write", .. })));
        assert_eq!(fs::read_to_string(target.join("inside")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file is left");
        assert!(write(&folder.path().join("none/calibration.json"), "new").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_read_only_folder_keeps_its_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        write(&path, "old").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let writable = fs::write(folder.path().join("probe"), "").is_ok();
        let saved = write(&path, "new");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if writable {
            eprintln!("skipped: this user may write anywhere");
            return;
        }
        assert!(matches!(saved, Err(Error::Io { .. })));
        assert_eq!(read(&path).unwrap(), "old\n");
    }

    #[test]
    fn unreadable_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        assert!(matches!(read(&path), Err(Error::Io { action: "read", .. })));
        assert!(matches!(read(folder.path()), Err(Error::Io { .. })));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(Error::CalibrationCorrupt { .. })));
    }
}
