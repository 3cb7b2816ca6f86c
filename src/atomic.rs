//! Files that appear whole or not at all: written beside their target, synced, then renamed over it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::temporary;

/// Creates or replaces `path` with what `fill` writes. If anything fails, or the process dies, `path` is as
/// it was before.
///
/// # Errors
/// No file can be made in the folder of `path`, `fill` fails, or the disk is full.
pub fn write(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    let cannot_write = |source| Error::io("cannot write", path, source);
    let target = resolve(path)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".llama-svf-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Temporary files are private by default; a result gets what the user's umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(directory_of(&target)).map_err(cannot_write)?;
    let _listed = temporary::Listed::new(temporary.path());
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffered).and_then(|()| buffered.flush()).map_err(cannot_write)?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(cannot_write)?;
    temporary.persist(&target).map_err(|error| cannot_write(error.error))?;
    sync_directory(&target).map_err(cannot_write)
}

/// Gives the finished `file`, which lies at `from` in the directory of `to`, its final name.
///
/// # Errors
/// The file cannot be synced or renamed.
pub fn publish(file: &File, from: &Path, to: &Path) -> Result<()> {
    let cannot_write = |source| Error::io("cannot write", to, source);
    let target = resolve(to)?;
    file.sync_all().map_err(cannot_write)?;
    fs::rename(from, &target).map_err(cannot_write)?;
    sync_directory(&target).map_err(cannot_write)
}

/// The regular or new file that `path` stands for. A rename would replace a link or a device itself.
fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {
            fs::canonicalize(path).map_err(|source| Error::io("cannot write", path, source))
        }
        Ok(_) => Err(Error::expected("the name of a file to write", "a directory or device").file(path)),
        // Whatever else is wrong shows when the temporary file is created.
        Err(_) => Ok(path.to_path_buf()),
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the rename survive a power failure, where the system lets directories be synced.
fn sync_directory(target: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory_of(target))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gguf");
        fs::write(&path, "old").unwrap();
        let error = write(&path, |out| {
            out.write_all(&[7; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().contains("a.gguf: cannot write: "), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(directory.path()), ["a.gguf"]);
    }

    #[test]
    fn a_writer_that_panics_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gguf");
        let outcome = std::panic::catch_unwind(|| write(&path, |_| panic!("interrupted")));
        assert!(outcome.is_err());
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no/such/a.gguf");
        let error = write(&path, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("a.gguf: cannot write: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_a_device_or_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, |out| out.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        for path in [Path::new("/dev/null"), directory.path()] {
            let error = write(path, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("expected the name of a file to write"), "{error}");
        }
    }
}
