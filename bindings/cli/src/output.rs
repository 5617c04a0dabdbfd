//! Where results go: standard output, progress and warnings on standard error, files written as a whole.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::{Builder, NamedTempFile};

/// Standard output and standard error of a command.
pub(crate) struct Terminal {
    out: BufWriter<io::Stdout>,
    closed: bool,
    quiet: bool,
}

impl Terminal {
    /// A terminal; `quiet` silences progress and warnings, never results and errors.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { out: BufWriter::new(io::stdout()), closed: false, quiet }
    }

    /// Writes one line of results.
    ///
    /// A reader that has gone (`f2d2 ... | head`) is no error: what follows is dropped.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = writeln!(self.out, "{text}");
        self.settle(result)
    }

    /// Hands everything written so far to the reader.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.out.flush();
        self.settle(result)
    }

    /// Whether the reader of standard output has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether results are read by a person rather than a file or a program.
    pub(crate) fn is_interactive(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Says something on standard error that does not stop the command.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    }

    /// A bar for `total` images on standard error; invisible if that is not a terminal.
    pub(crate) fn progress(&self, total: usize) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = "{bar:32} {pos}/{len} images  {per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(total as u64);
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    fn settle(&mut self, result: io::Result<()>) -> Result<()> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            other => other.context("cannot write to standard output")?,
        }
        Ok(())
    }
}

/// Prints `error: ...` on standard error.
pub(crate) fn complain(text: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "error: {text}");
}

/// Writes a file as a whole or not at all: an older file at `path` stays until the new one is complete.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = beside(path).with_context(cannot)?;
    let mut writer = BufWriter::new(file.as_file_mut());
    fill(&mut writer).with_context(cannot)?;
    writer.flush().with_context(cannot)?;
    drop(writer);
    file.persist(path).map_err(|e| e.error).with_context(cannot)?;
    Ok(())
}

/// Notices before hours of work that `path` cannot be written after them.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if path.is_dir() {
        return Err(anyhow::anyhow!("it is a folder, need a file name")).with_context(cannot);
    }
    beside(path).map(drop).with_context(cannot)
}

fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = Builder::new();
    builder.prefix(".f2d2-");
    // The umask still applies; without this the finished file would be for its owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_write_leaves_the_older_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_file(&path, |w| Ok(w.write_all(b"old")?)).unwrap();
        let failed = write_file(&path, |w| {
            w.write_all(b"half of the new")?;
            anyhow::bail!("no more")
        });
        assert!(failed.unwrap_err().to_string().starts_with("cannot write "));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_and_missing_folders_are_noticed_early() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&folder.path().join("none/there.json")).is_err());
        assert!(check_writable(&folder.path().join("fine.json")).is_ok());
    }
}
