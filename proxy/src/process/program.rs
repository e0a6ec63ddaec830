//! Programs as files: where they are found, and why the system cannot run one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Number of bytes at the start of a file that are read to recognise it.
const HEAD: u64 = 8 * 1024;

/// Starts of files that are no programs, and their names.
const FORMATS: [(&[u8], &str); 10] = [
    (b"PK\x03\x04", "a zip archive or a .jar"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xcf\xfa\xed\xfe", "a program for macOS"),
    (b"\xca\xfe\xba\xbe", "a Java class or a program for macOS"),
    (b"MZ", "a program for Windows"),
    (b"%PDF", "a PDF document"),
];

/// The places at which a process finds programs.
#[derive(Clone, Copy, Debug)]
pub struct SearchPath<'a> {
    /// Value of `PATH`.
    pub folders: &'a OsStr,
    /// Working directory, to which relative folders refer.
    pub workdir: &'a Path,
}

/// Finds the file of a program. A name without a slash is searched in the folders of `PATH`.
///
/// # Errors
/// A text that names the program, and where it was expected.
pub fn find(program: &OsStr, search_path: SearchPath<'_>) -> Result<PathBuf, String> {
    let with_suffix = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(std::env::consts::EXE_SUFFIX);
        let mut all = [path.to_owned(), PathBuf::from(name)].into_iter();
        all.find(|path| path.is_file())
    };
    let path = Path::new(program);
    if path.components().count() > 1 {
        let found = with_suffix(path);
        return found.ok_or_else(|| {
            let name = path.display();
            if path.is_dir() {
                format!("{name} is a folder")
            } else {
                format!("there is no program {name}")
            }
        });
    }
    let mut folders = std::env::split_paths(search_path.folders);
    let found = folders.find_map(|folder| {
        with_suffix(&search_path.workdir.join(folder).join(path))
            .filter(|file| cfg!(windows) || is_executable(file))
    });
    found.ok_or_else(|| {
        format!(
            "there is no program {} in any folder of PATH ({}); one in the release is written with \
             a slash, such as ./app",
            path.display(),
            search_path.folders.display()
        )
    })
}

/// Returns the value of `PATH` that an app with these variables gets.
pub fn path_variable(variables: &super::variables::Variables) -> OsString {
    let is_path = |name: &OsStr| name.eq_ignore_ascii_case("PATH");
    let own = variables.iter().find(|(name, _)| is_path(name));
    let value = own.map(|(_, value)| value.to_owned());
    // exec(3): the folders that are searched without the variable.
    let value = value.or_else(|| std::env::var_os("PATH"));
    value.unwrap_or_else(|| "/bin:/usr/bin".into())
}

/// Returns the reason for which the system cannot run a file; `None` if there is none, or it cannot
/// be known.
pub fn fault(file: &Path, search_path: SearchPath<'_>) -> Option<String> {
    let mut head = Vec::new();
    File::open(file)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut head)
        .ok()?;
    if cfg!(unix) && !is_executable(file) {
        return Some("it is not executable: set its mode with chmod +x".to_owned());
    }
    if let Some(line) = head.strip_prefix(b"#!")
        && cfg!(unix)
    {
        return script_fault(line, search_path);
    }
    if is_native(&head, file) || is_registered(&head, file) {
        let length = fs::metadata(file).ok()?.len();
        return missing_part(&head, length).or_else(|| loader_fault(&head));
    }
    Some(format!("it is {}", describe(&head)))
}

/// Describes a file that is no program of this machine.
fn describe(head: &[u8]) -> String {
    let mut formats = FORMATS.iter();
    if let Some((_, name)) = formats.find(|(start, _)| head.starts_with(start)) {
        return (*name).to_owned();
    }
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    match elf_machine(head) {
        Some(machine) => format!(
            "a program for another machine ({}, and this one is {})",
            machine_name(machine),
            std::env::consts::ARCH
        ),
        None if head.is_empty() => "an empty file".to_owned(),
        None if head.starts_with(b"\x7fELF") => "an incomplete program".to_owned(),
        None if head.starts_with(b"#!") => {
            "a script, which needs a COMMAND that runs it".to_owned()
        }
        None if head.get(257..262) == Some(b"ustar") => "a tar archive".to_owned(),
        None if head.starts_with(b"\xef\xbb\xbf#!") => {
            "a script with a byte order mark before its #!: save it without".to_owned()
        }
        None if head.iter().all(is_text) => {
            "a text whose first line names no interpreter, such as #!/bin/sh".to_owned()
        }
        None => "neither a program nor a script".to_owned(),
    }
}

/// Checks the interpreter that the first line of a script names, without its `#!`.
fn script_fault(line: &[u8], search_path: SearchPath<'_>) -> Option<String> {
    let end = line.iter().position(|&byte| byte == b'\n');
    let line = String::from_utf8_lossy(&line[..end.unwrap_or(line.len())]).into_owned();
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let interpreter = words.next().unwrap_or_default();
    let is_env = Path::new(interpreter.trim_end()).file_name() == Some("env".as_ref());
    // Other options of `env` may change where it searches.
    let by_env = words.find(|word| *word != "-S");
    let by_env = by_env.filter(|word| is_env && !word.starts_with('-') && !word.contains('='));
    let named = by_env.unwrap_or(interpreter);
    if interpreter.ends_with('\r') || named.ends_with('\r') {
        let named = named.trim_end();
        return Some(format!(
            "its first line (#!) ends with CR LF, as on Windows, so that its interpreter would be \
             \"{named}\\r\": save it with LF"
        ));
    }
    if interpreter.is_empty() {
        return Some("its first line (#!) names no interpreter".to_owned());
    }
    let file = search_path.workdir.join(interpreter);
    let problem = if !file.exists() {
        "does not exist"
    } else if file.is_dir() {
        "is a folder"
    } else if !is_executable(&file) {
        "is not executable"
    } else {
        ""
    };
    if !problem.is_empty() {
        return Some(format!(
            "its interpreter {interpreter}, which its first line (#!) names, {problem}"
        ));
    }
    let missing = find(OsStr::new(by_env?), search_path).err()?;
    Some(format!(
        "its first line (#!) names the interpreter {named}: {missing}"
    ))
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(windows)]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

/// Returns whether the file is of a kind that the system runs itself.
fn is_native(head: &[u8], file: &Path) -> bool {
    if cfg!(windows) {
        let extension = file.extension().unwrap_or_default();
        let mut scripts = ["bat", "cmd"].iter();
        return head.starts_with(b"MZ") || scripts.any(|it| extension.eq_ignore_ascii_case(it));
    }
    elf_machine(head).is_some_and(|machine| match std::env::consts::ARCH {
        // 32-bit programs run too, where the kernel has that option.
        "x86_64" => matches!(machine, 62 | 3),
        "aarch64" => matches!(machine, 183 | 40),
        _ => true,
    })
}

/// Returns the machine of an ELF file: elf(5).
fn elf_machine(head: &[u8]) -> Option<u16> {
    let bytes = <[u8; 2]>::try_from(head.get(18..20)?).ok()?;
    let is_little = head[5] == 1;
    head.starts_with(b"\x7fELF").then_some(if is_little {
        u16::from_le_bytes(bytes)
    } else {
        u16::from_be_bytes(bytes)
    })
}

fn machine_name(machine: u16) -> String {
    let name = match machine {
        3 => "x86",
        8 => "mips",
        20 | 21 => "powerpc",
        22 => "s390",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        _ => return format!("ELF machine {machine}"),
    };
    name.to_owned()
}

/// Returns the positions of the entries of a 64-bit program's table of segments.
fn elf_segments(head: &[u8]) -> Option<impl Iterator<Item = usize>> {
    let is_elf64_le = head.starts_with(b"\x7fELF\x02\x01");
    let table = elf_number(head, 32, 8).filter(|_| is_elf64_le)?;
    let (size, count) = (elf_number(head, 54, 2)?, elf_number(head, 56, 2)?);
    let at = move |index: u64| usize::try_from(table.checked_add(index * size)?).ok();
    let read = head.len();
    Some((0..count).filter_map(at).filter(move |&at| at < read))
}

fn elf_number(head: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = head.get(at..at.checked_add(length)?)?;
    let value = bytes.iter().rev();
    Some(value.fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
}

/// Checks that a 64-bit program has all of what it loads: elf(5).
fn missing_part(head: &[u8], length: u64) -> Option<String> {
    const PT_LOAD: u64 = 1;
    const HEADER: usize = 64;
    let loaded = elf_segments(head).into_iter().flatten();
    let loaded = loaded.filter(|&entry| elf_number(head, entry, 4) == Some(PT_LOAD));
    let end = |entry| {
        let start = elf_number(head, entry + 8, 8)?;
        start.checked_add(elf_number(head, entry + 32, 8)?)
    };
    let is_cut = head.starts_with(b"\x7fELF\x02") && head.len() < HEADER;
    let whole = if is_cut {
        HEADER as u64
    } else {
        loaded.filter_map(end).max()?
    };
    (length < whole).then(|| {
        format!("it is incomplete: it has {length} bytes, and a whole one {whole} at least")
    })
}

/// Checks that the loader of a dynamically linked 64-bit program exists. Without it the system reports
/// that the program itself does not.
fn loader_fault(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let entry = elf_segments(head)?.find(|&entry| elf_number(head, entry, 4) == Some(PT_INTERP))?;
    let start = usize::try_from(elf_number(head, entry + 8, 8)?).ok()?;
    let length = usize::try_from(elf_number(head, entry + 32, 8)?).ok()?;
    let loader = head.get(start..start.checked_add(length)?)?;
    let loader = std::str::from_utf8(loader).ok()?.trim_end_matches('\0');
    (!Path::new(loader).exists()).then(|| {
        format!("its loader {loader} does not exist here: it was built for another system")
    })
}

/// Returns whether an interpreter is registered for files like this one: binfmt_misc of Linux.
fn is_registered(head: &[u8], file: &Path) -> bool {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc");
    let mut entries = entries.into_iter().flatten().flatten();
    entries.any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        is_registered_by(&text, head, file)
    })
}

fn is_registered_by(entry: &str, head: &[u8], file: &Path) -> bool {
    let value = |key: &str| {
        let mut lines = entry.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    };
    let hex = |text: &str| -> Option<Vec<u8>> {
        let pairs = (0..text.len()).step_by(2);
        pairs
            .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
            .collect()
    };
    if !entry.starts_with("enabled") {
        return false;
    }
    if let Some(extension) = value("extension") {
        return file.extension() == Some(extension.trim_start_matches('.').as_ref());
    }
    let offset = value("offset").and_then(|offset| offset.parse().ok());
    let magic = value("magic").and_then(hex).unwrap_or_default();
    let mask = value("mask").and_then(hex).unwrap_or_default();
    let Some(start) = head.get(offset.unwrap_or(0)..) else {
        return false;
    };
    let masked = |at: usize, byte: u8| byte & mask.get(at).copied().unwrap_or(0xff);
    let mut pairs = start.iter().zip(&magic).enumerate();
    !magic.is_empty()
        && start.len() >= magic.len()
        && pairs.all(|(at, (&byte, &wanted))| masked(at, byte) == masked(at, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folders(folders: &str) -> SearchPath<'_> {
        SearchPath {
            folders: folders.as_ref(),
            workdir: Path::new("/"),
        }
    }

    /// Writes an executable file, and returns why it cannot be run.
    #[cfg(unix)]
    fn fault_of(content: &[u8]) -> Option<String> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        fault(&file, in_folders("/usr/bin:/bin"))
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_cannot_run_is_named_by_its_kind() {
        let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
        foreign.resize(64, 0);
        foreign[18] = if cfg!(target_arch = "s390x") { 8 } else { 22 };
        for (content, part) in [
            (&b"#!/bin/sh\r\nexit\r\n"[..], "CR LF"),
            (b"#!/usr/bin/env sh\r\n", "CR LF"),
            (b"#!/no/such/perl -w\n", "its interpreter /no/such/perl"),
            (b"#! /no/such/perl", "its interpreter /no/such/perl"),
            (b"#!/usr/bin/env no-such-python\n", "no-such-python"),
            (b"#!\n", "names no interpreter"),
            (b"echo hello\n", "names no interpreter"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
            (b"", "an empty file"),
            (
                b"#!/tmp\n",
                "its interpreter /tmp, which its first line (#!) names, is a folder",
            ),
            (b"#!/etc/passwd\n", "is not executable"),
            (b"\x7fELF\x02\x01\x01", "an incomplete program"),
            (b"MZ\x90\0", "for Windows"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\xfd7zXZ\0rest", "an xz archive"),
            (b"\0\x01\x02", "neither a program nor a script"),
            (&foreign, "a program for another machine"),
        ] {
            let found = fault_of(content).unwrap_or_default();
            let text = String::from_utf8_lossy(content);
            assert!(found.contains(part), "{text:?}: {found}");
            assert_eq!(found.is_empty(), part.is_empty(), "{text:?}: {found}");
        }
        for good in [
            &b"#!/bin/sh\n"[..],
            b"#!/usr/bin/env -S A=1 sh -e\n",
            b"#!/usr/bin/env -u A sh\n",
        ] {
            assert_eq!(fault_of(good), None);
        }
        let own = std::env::current_exe().unwrap();
        assert_eq!(fault(&own, in_folders("")), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_missing_loader_is_named() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let head = &own[..HEAD as usize];
        let Some(at) = head.windows(7).position(|bytes| bytes == b"/ld-lin") else {
            return eprintln!("skipped: this program is linked statically");
        };
        let mut head = head.to_vec();
        head[at + 1] = b'X';
        let found = loader_fault(&head).unwrap_or_default();
        assert!(found.contains("/Xd-lin"), "{found}");
    }

    #[test]
    fn a_registered_interpreter_takes_files_by_their_start_or_extension() {
        let by_magic =
            "enabled\ninterpreter /q\nflags: \noffset 0\nmagic 7f454c46ff\nmask ffffffff00\n";
        let by_name = "enabled\ninterpreter /j\nflags: \nextension .jar\n";
        let app = Path::new("app.jar");
        assert!(is_registered_by(by_magic, b"\x7fELF\x02", app));
        assert!(!is_registered_by(by_magic, b"\x7fELX\x02", app));
        assert!(!is_registered_by(by_magic, b"\x7fEL", app));
        assert!(is_registered_by(by_name, b"", app));
        assert!(!is_registered_by(by_name, b"", Path::new("app")));
        assert!(!is_registered_by("disabled\nextension .jar\n", b"", app));
    }

    #[test]
    fn a_program_is_searched_in_the_path() {
        let sh = if cfg!(windows) { "cmd" } else { "sh" };
        let path = std::env::var("PATH").unwrap();
        assert!(find(OsStr::new(sh), in_folders(&path)).is_ok());
        let missing = find(OsStr::new("nodee"), in_folders(&path)).unwrap_err();
        assert!(
            missing.contains("nodee") && missing.contains("PATH"),
            "{missing}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_relative_folder_of_the_path_is_in_the_working_directory() {
        let search_path = SearchPath {
            folders: "no/such:bin".as_ref(),
            workdir: Path::new("/usr"),
        };
        let found = find(OsStr::new("env"), search_path).unwrap();
        assert_eq!(found, Path::new("/usr/bin/env"));
    }
}
