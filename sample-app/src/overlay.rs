//! A release's version and arguments, appended to the app's executable.
//!
//! ```text
//! │ executable │ overlay as JSON │ length of the JSON, u64 LE │ magic, 8 bytes │
//! ```
//!
//! ELF, Mach-O and PE loaders ignore what follows the image, so the result runs as before.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"SAMPLE\x00\x01";
const TRAILER: u64 = 16;

/// The data that make one copy of the app a release of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The version that every answer names. Visible ASCII, as it goes into a header.
    pub version: String,
    /// Arguments that come before those of the command line, so that the latter win.
    #[serde(default)]
    pub args: Vec<String>,
}

/// Reads the overlay of `executable`.
///
/// `None` means a plain executable. So does a tail that only looks like an overlay: bytes that
/// were not written by [`write()`] belong to the program.
///
/// # Errors
///
/// When `executable` cannot be opened or read.
pub fn read(executable: &Path) -> io::Result<Option<Overlay>> {
    let read = || -> io::Result<_> { locate(&mut File::open(executable)?) };
    Ok(named("reading", executable, read())?.1)
}

/// Copies `source` to `target` with `overlay` in place of the one that `source` may have.
///
/// `target` is overwritten in place, as a plain copy would, and gets the permissions of
/// `source`. Whoever must never see half a file writes elsewhere and renames.
///
/// # Errors
///
/// When `source` cannot be read, `target` cannot be written (on Unix a running executable
/// cannot), or both are the same file.
pub fn write(source: &Path, target: &Path, overlay: &Overlay) -> io::Result<()> {
    let mut from = named("reading", source, File::open(source))?;
    let (program, _) = named("reading", source, locate(&mut from))?;
    if target.exists() && source.canonicalize()? == target.canonicalize()? {
        let same = io::Error::new(io::ErrorKind::InvalidInput, "it is also the source");
        return named("writing", target, Err(same));
    }
    let json = serde_json::to_vec(overlay)?;
    let copy = || -> io::Result<()> {
        let mut to = File::create(target)?;
        from.rewind()?;
        let copied = io::copy(&mut (&mut from).take(program), &mut to)?;
        if copied != program {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the source shrank meanwhile",
            ));
        }
        let mut tail = json;
        tail.extend_from_slice(&(tail.len() as u64).to_le_bytes());
        tail.extend_from_slice(&MAGIC);
        to.write_all(&tail)?;
        to.set_permissions(from.metadata()?.permissions())
    };
    named("writing", target, copy())
}

/// The length of the program alone, and the overlay that follows it.
fn locate(file: &mut File) -> io::Result<(u64, Option<Overlay>)> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(json_end) = end.checked_sub(TRAILER) else {
        return Ok((end, None));
    };
    let mut length = [0; 8];
    let mut magic = [0; 8];
    file.seek(SeekFrom::Start(json_end))?;
    file.read_exact(&mut length)?;
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Ok((end, None));
    }
    let Some(program) = json_end.checked_sub(u64::from_le_bytes(length)) else {
        return Ok((end, None));
    };
    let mut json = Vec::new();
    file.seek(SeekFrom::Start(program))?;
    file.take(json_end - program).read_to_end(&mut json)?;
    Ok(match serde_json::from_slice(&json) {
        Ok(overlay) => (program, Some(overlay)),
        Err(_) => (end, None),
    })
}

fn named<T>(doing: &str, path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| {
        io::Error::new(error.kind(), format!("{doing} {}: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const PROGRAM: &[u8] = b"\x7fELF, or so it says";

    fn overlay(version: &str, args: &[&str]) -> Overlay {
        Overlay {
            version: version.into(),
            args: args.iter().map(|&arg| arg.into()).collect(),
        }
    }

    fn program() -> (TempDir, std::path::PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, PROGRAM).unwrap();
        (dir, path)
    }

    #[test]
    fn what_was_written_is_read_back_and_the_program_is_untouched() {
        let (dir, plain) = program();
        let release = dir.path().join("release");
        let v1 = overlay(
            "v1",
            &["--ready-after", "2s", "--journal", "ü \"quoted\" \\"],
        );

        write(&plain, &release, &v1).unwrap();

        assert_eq!(read(&release).unwrap(), Some(v1));
        assert!(fs::read(&release).unwrap().starts_with(PROGRAM));
        assert_eq!(fs::read(&plain).unwrap(), PROGRAM);
    }

    #[test]
    fn a_plain_executable_has_no_overlay() {
        let (dir, plain) = program();
        let empty = dir.path().join("empty");
        fs::write(&empty, b"").unwrap();

        assert_eq!(read(&plain).unwrap(), None);
        assert_eq!(read(&empty).unwrap(), None);
    }

    #[test]
    fn a_release_made_from_a_release_carries_one_overlay() {
        let (dir, plain) = program();
        let first = dir.path().join("first");
        let second = dir.path().join("second");
        let direct = dir.path().join("direct");

        write(
            &plain,
            &first,
            &overlay("a-rather-long-version", &["--never-ready"]),
        )
        .unwrap();
        write(&first, &second, &overlay("v2", &[])).unwrap();
        write(&plain, &direct, &overlay("v2", &[])).unwrap();

        assert_eq!(read(&second).unwrap(), Some(overlay("v2", &[])));
        assert_eq!(fs::read(&second).unwrap(), fs::read(&direct).unwrap());
    }

    #[test]
    fn a_longer_target_is_cut_to_the_new_release() {
        let (dir, plain) = program();
        let target = dir.path().join("target");
        fs::write(&target, [b'x'; 4096]).unwrap();

        write(&plain, &target, &overlay("v1", &[])).unwrap();

        assert_eq!(read(&target).unwrap(), Some(overlay("v1", &[])));
        assert!(fs::metadata(&target).unwrap().len() < 4096);
    }

    #[test]
    fn a_corrupt_tail_belongs_to_the_program() {
        let (dir, plain) = program();
        let release = dir.path().join("release");
        let again = dir.path().join("again");
        write(&plain, &release, &overlay("v1", &[])).unwrap();
        let whole = fs::read(&release).unwrap();
        let length_at = whole.len() - TRAILER as usize;

        let cut = whole[..whole.len() - 3].to_vec();
        let mut too_long = whole.clone();
        too_long[length_at..length_at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut off_by_one = whole.clone();
        off_by_one[length_at] -= 1;
        let mut not_json = whole;
        not_json[PROGRAM.len()] = b'!';

        for corrupt in [cut, too_long, off_by_one, not_json] {
            fs::write(&release, &corrupt).unwrap();
            assert_eq!(read(&release).unwrap(), None);

            write(&release, &again, &overlay("v2", &[])).unwrap();
            assert_eq!(read(&again).unwrap(), Some(overlay("v2", &[])));
            assert!(fs::read(&again).unwrap().starts_with(&corrupt));
        }
    }

    #[test]
    fn a_source_is_never_its_own_target() {
        let (_dir, plain) = program();

        let error = write(&plain, &plain, &overlay("v1", &[])).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(fs::read(&plain).unwrap(), PROGRAM);
    }

    #[test]
    fn an_error_names_the_file() {
        let error = read(Path::new("/nowhere/at/all")).unwrap_err();

        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_release_may_be_executed_like_its_source() {
        use std::os::unix::fs::PermissionsExt;

        let (dir, plain) = program();
        let release = dir.path().join("release");
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o750)).unwrap();

        write(&plain, &release, &overlay("v1", &[])).unwrap();

        assert_eq!(
            fs::metadata(&release).unwrap().permissions().mode() & 0o777,
            0o750
        );
    }
}
