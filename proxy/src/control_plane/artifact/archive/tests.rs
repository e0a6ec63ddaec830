use std::fs;
use std::io::{self, Cursor, Write as _};

use super::*;
use ::tar::{EntryType, Header};
use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;
use flate2::Compression;
use flate2::write::GzEncoder;

const LIMITS: Limits = Limits {
    bytes: 200 << 20,
    entries: 50,
    ratio: 200,
    outside_links: false,
};

/// The content of an entry, in either format.
enum Is<'a> {
    File(&'a [u8], u32),
    Folder,
    Link(&'a str),
    HardLink(&'a str),
    Device,
}

fn text(content: &str) -> Is<'_> {
    Is::File(content.as_bytes(), 0o644)
}

fn zip_of(entries: &[(&str, Is<'_>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for (name, is) in entries {
        match is {
            Is::File(content, mode) => {
                zip.start_file(*name, options.unix_permissions(*mode))
                    .unwrap();
                zip.write_all(content).unwrap();
            }
            Is::Folder => zip.add_directory(*name, options).unwrap(),
            Is::Link(target) => zip.add_symlink(*name, *target, options).unwrap(),
            Is::HardLink(_) | Is::Device => unreachable!("zips have none"),
        }
    }
    zip.finish().unwrap().into_inner()
}

fn tar_of(entries: &[(&str, Is<'_>)]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, is) in entries {
        let mut header = Header::new_gnu();
        header.set_mtime(1_000_000_000);
        header.set_mode(0o644);
        let (kind, target, content): (_, _, &[u8]) = match is {
            Is::File(content, mode) => {
                header.set_mode(*mode);
                (EntryType::Regular, None, content)
            }
            Is::Folder => (EntryType::Directory, None, &[]),
            Is::Link(target) => (EntryType::Symlink, Some(target), &[]),
            Is::HardLink(target) => (EntryType::Link, Some(target), &[]),
            Is::Device => (EntryType::Char, None, &[]),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // The library checks names; a malicious packer does not.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(target) = target {
            gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

struct Unpacked {
    folder: tempfile::TempDir,
    result: Result<(), ArchiveError>,
}

fn unpack_with(format: ArchiveFormat, content: &[u8], limits: Limits) -> Unpacked {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    fs::write(&packed, content).unwrap();
    // Something to be reached by `../`.
    fs::write(folder.path().join("victim"), "untouched").unwrap();
    let mut file = File::open(packed).unwrap();
    let result = unpack(format, &mut file, &folder.path().join("top"), limits);
    let victim = fs::read_to_string(folder.path().join("victim")).unwrap();
    assert_eq!(victim, "untouched");
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert!(names <= 3, "something was written outside");
    Unpacked { folder, result }
}

// === impl Unpacked ===

impl Unpacked {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("top").join(name)
    }

    #[track_caller]
    fn text(&self, name: &str) -> String {
        self.result.as_ref().unwrap();
        fs::read_to_string(self.path(name)).unwrap()
    }

    #[track_caller]
    fn assert_refused(&self, why: &str) {
        match &self.result {
            Err(ArchiveError::Refused(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("not refused because it {why}: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_broken(&self) {
        assert!(
            matches!(self.result, Err(ArchiveError::Broken(_))),
            "{:?}",
            self.result
        );
    }
}

/// Unpacks the same entries in both formats.
fn both(entries: &[(&str, Is<'_>)]) -> [Unpacked; 2] {
    both_with(entries, LIMITS)
}

fn both_with(entries: &[(&str, Is<'_>)], limits: Limits) -> [Unpacked; 2] {
    [
        unpack_with(ArchiveFormat::Zip, &zip_of(entries), limits),
        unpack_with(ArchiveFormat::TarGz, &tar_of(entries), limits),
    ]
}

#[test]
fn an_archive_is_known_by_its_name() {
    assert_eq!(
        ArchiveFormat::of("app.zip"),
        Some((ArchiveFormat::Zip, "app"))
    );
    assert_eq!(
        ArchiveFormat::of("a.b.ZIP"),
        Some((ArchiveFormat::Zip, "a.b"))
    );
    assert_eq!(
        ArchiveFormat::of("app.tar.gz"),
        Some((ArchiveFormat::TarGz, "app"))
    );
    assert_eq!(
        ArchiveFormat::of("app.Tgz"),
        Some((ArchiveFormat::TarGz, "app"))
    );
    for name in ["app", "app.jar", "app.gz", ".zip", "zip", "é"] {
        assert_eq!(ArchiveFormat::of(name), None, "{name}");
    }
}

#[test]
fn an_archive_is_unpacked_as_it_is() {
    for unpacked in both(&[
        ("app-1/", Is::Folder),
        ("app-1/empty/", Is::Folder),
        ("app-1/bin/run", text("#!/bin/sh")),
        ("./app-1/größe.txt", text("")),
    ]) {
        assert_eq!(unpacked.text("app-1/bin/run"), "#!/bin/sh");
        assert_eq!(unpacked.text("app-1/größe.txt"), "");
        assert!(unpacked.path("app-1/empty").is_dir());
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for (name, why) in [
        ("../victim", "leads out"),
        ("a/../../victim", "leads out"),
        ("/victim", "absolute"),
        ("//server/share/victim", "absolute"),
        ("C:/victim", "drive letter"),
        ("c:victim", "drive letter"),
    ] {
        for unpacked in both(&[("good", text("x")), (name, text("y"))]) {
            unpacked.assert_refused(why);
        }
    }
    for name in [r"..\victim", r"a\..\..\victim", r"\\server\share\x"] {
        let zip = zip_of(&[(name, text("y"))]);
        let refused = unpack_with(ArchiveFormat::Zip, &zip, LIMITS).result;
        assert!(matches!(refused, Err(ArchiveError::Refused(_))), "{name}");
    }
}

#[test]
fn a_zip_with_backslashes_has_folders() {
    let zip = zip_of(&[(r"bin\run", text("x"))]);
    let unpacked = unpack_with(ArchiveFormat::Zip, &zip, LIMITS);
    assert_eq!(unpacked.text("bin/run"), "x");
}

#[test]
fn more_than_the_limits_is_refused() {
    let zeros = vec![0; 3 << 20];
    let bytes = Limits {
        bytes: 2 << 20,
        ..LIMITS
    };
    for unpacked in both_with(&[("zeros", Is::File(&zeros, 0o644))], bytes) {
        unpacked.assert_refused("--max-unpacked");
    }
    // One byte less than the limit is enough.
    let enough = Limits {
        bytes: 3 << 20,
        ..LIMITS
    };
    for unpacked in both_with(&[("zeros", Is::File(&zeros, 0o644))], enough) {
        unpacked.result.unwrap();
    }
    let bomb = vec![0; (65 << 20) as usize];
    for unpacked in both(&[("zeros", Is::File(&bomb, 0o644))]) {
        unpacked.assert_refused("--max-ratio");
    }
    let names: Vec<String> = (0..51).map(|n| format!("{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, text(""))).collect();
    for unpacked in both(&many) {
        unpacked.assert_refused("--max-entries");
    }
    // The list is not read of one that says that it is too long.
    let mut zip = zip_of(&[("a", text(""))]);
    let mut end = b"PK\x06\x06".to_vec();
    end.resize(32, 0);
    end.extend_from_slice(&51_u64.to_le_bytes());
    zip.extend_from_slice(&end);
    unpack_with(ArchiveFormat::Zip, &zip, LIMITS).assert_refused("--max-entries");
    // Folders count that are not listed.
    let deep = "d/".repeat(60) + "x";
    let folders = [(&*deep, text(""))];
    unpack_with(ArchiveFormat::Zip, &zip_of(&folders), LIMITS).assert_refused("--max-entries");
}

#[test]
fn a_tars_headers_and_its_end_cannot_fill_the_memory() {
    let mut tar = GzEncoder::new(Vec::new(), Compression::fast());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(100 << 20);
    header.set_cksum();
    tar.write_all(header.as_bytes()).unwrap();
    tar.write_all(&vec![b'a'; 100 << 20]).unwrap();
    let packed = tar.finish().unwrap();
    unpack_with(ArchiveFormat::TarGz, &packed, LIMITS).assert_refused("header");

    let mut padded = GzEncoder::new(Vec::new(), Compression::fast());
    padded.write_all(&vec![0; 100 << 20]).unwrap();
    let packed = padded.finish().unwrap();
    unpack_with(ArchiveFormat::TarGz, &packed, LIMITS).assert_refused("header");
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let tar = tar_of(&[("a", text("1")), ("./a", text("2"))]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("twice");
    let tar = tar_of(&[("a", text("1")), ("a/x", text("2"))]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("twice");
    // No library writes such a zip.
    let mut zip = zip_of(&[("name-1", text("1")), ("name-2", text("2"))]);
    patch(&mut zip, b"name-2", b"name-1");
    unpack_with(ArchiveFormat::Zip, &zip, LIMITS).assert_refused("twice");
    let zip = zip_of(&[("a", text("1")), ("./a", text("2"))]);
    unpack_with(ArchiveFormat::Zip, &zip, LIMITS).assert_refused("twice");
}

#[test]
fn what_all_entries_have_in_common_is_none() {
    // `git archive` begins with the commit.
    let mut tar = ::tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let comment = b"18 comment=7f12ab\n";
    for (kind, name, content) in [
        (EntryType::XGlobalHeader, "pax_global_header", &comment[..]),
        (EntryType::Regular, "a", b"1"),
    ] {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    }
    let tar = tar.into_inner().unwrap().finish().unwrap();
    let unpacked = unpack_with(ArchiveFormat::TarGz, &tar, LIMITS);
    assert_eq!(unpacked.text("a"), "1");
    assert!(!unpacked.path("pax_global_header").exists());
}

#[test]
fn the_words_of_an_archive_stay_on_one_line() {
    let error = ArchiveError::Refused("a\nb\x1b".to_owned());
    assert_eq!(error.to_string(), "is refused: a\\x0ab\\x1b");
}

#[test]
fn a_file_without_a_name_is_refused() {
    let tar = tar_of(&[(".", text("1"))]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("has no name");
}

#[test]
fn an_encrypted_entry_is_refused_before_anything_is_written() {
    let mut zip = zip_of(&[("plain", text("1")), ("secret", text("2"))]);
    // The flag, in the central directory's last header.
    let header = zip.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    zip[header + 8] |= 1;
    let unpacked = unpack_with(ArchiveFormat::Zip, &zip, LIMITS);
    unpacked.assert_refused("encrypted");
    assert!(!unpacked.path("plain").exists());
}

#[test]
fn what_is_neither_file_nor_folder_nor_link_is_refused() {
    let tar = tar_of(&[("null", Is::Device)]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("neither");
    let tar = tar_of(&[("second", Is::HardLink("../victim"))]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("leads out");
    let tar = tar_of(&[("l", Is::Link("x")), ("second", Is::HardLink("l"))]);
    unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("no file");
    let tar = tar_of(&[("first", text("x")), ("second", Is::HardLink("first"))]);
    let unpacked = unpack_with(ArchiveFormat::TarGz, &tar, LIMITS);
    assert_eq!(unpacked.text("second"), "x");
}

#[test]
fn a_part_of_an_archive_is_not_refused_but_not_whole() {
    let more = "more ".repeat(400);
    let entries = [("a", text("some text")), ("b/c", text(&more))];
    for (format, whole) in [
        (ArchiveFormat::Zip, zip_of(&entries)),
        (ArchiveFormat::TarGz, tar_of(&entries)),
    ] {
        for end in 0..whole.len() {
            unpack_with(format, &whole[..end], LIMITS).assert_broken();
        }
        unpack_with(format, &whole, LIMITS).result.unwrap();
        // Written from both ends, with the middle still missing: zeros.
        let mut holed = whole.clone();
        let middle = whole.len() / 3..whole.len() / 3 + 8;
        holed[middle].fill(0);
        unpack_with(format, &holed, LIMITS).assert_broken();
    }
}

#[test]
fn a_tar_whose_last_members_are_missing_is_not_whole() {
    // Two members in a row, as some packers write: the first alone is good gzip.
    let gzip = |content: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    };
    let mut tar = Vec::new();
    let packed = tar_of(&[("a", text("1"))]);
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*packed), &mut tar).unwrap();
    let (first, second) = (gzip(&tar[..1024]), gzip(&tar[1024..]));
    unpack_with(ArchiveFormat::TarGz, &first, LIMITS).assert_broken();
    let both = [first, second].concat();
    assert_eq!(
        unpack_with(ArchiveFormat::TarGz, &both, LIMITS).text("a"),
        "1"
    );
}

fn patch(content: &mut [u8], from: &[u8], to: &[u8]) {
    for at in 0..=content.len() - from.len() {
        if content[at..].starts_with(from) {
            content[at..at + from.len()].copy_from_slice(to);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod unix {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_right_to_be_run_is_kept_and_no_other_privilege_is() {
        for unpacked in both(&[
            ("run", Is::File(b"x", 0o755)),
            ("text", Is::File(b"x", 0o640)),
            ("setuid", Is::File(b"x", 0o4755)),
        ]) {
            unpacked.result.as_ref().unwrap();
            let mode = |name| {
                let metadata = fs::metadata(unpacked.path(name)).unwrap();
                metadata.permissions().mode() & 0o7777
            };
            assert_eq!(
                [mode("run"), mode("text"), mode("setuid")],
                [0o755, 0o640, 0o755]
            );
        }
    }

    #[test]
    fn what_was_packed_on_windows_may_be_run() {
        let mut zip = zip_of(&[("app", text("x"))]);
        // Made by: MS-DOS.
        let header = zip.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        zip[header + 5] = 0;
        let unpacked = unpack_with(ArchiveFormat::Zip, &zip, LIMITS);
        unpacked.text("app");
        let mode = fs::metadata(unpacked.path("app")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o755);
    }

    #[test]
    fn links_that_stay_inside_are_kept_and_others_are_refused() {
        for unpacked in both(&[
            ("lib/x.so.1", text("lib")),
            ("lib/x.so", Is::Link("x.so.1")),
            ("bin/x", Is::Link("../lib/x.so")),
        ]) {
            assert_eq!(unpacked.text("bin/x"), "lib");
            let target = fs::read_link(unpacked.path("bin/x")).unwrap();
            assert_eq!(target, Path::new("../lib/x.so"));
        }
        for target in ["../victim", "/etc/passwd", "a/../../victim"] {
            for unpacked in both(&[("link", Is::Link(target))]) {
                unpacked.assert_refused("--allow-outside-links");
            }
            let allowed = Limits {
                outside_links: true,
                ..LIMITS
            };
            for unpacked in both_with(&[("link", Is::Link(target))], allowed) {
                unpacked.result.as_ref().unwrap();
                let link = fs::read_link(unpacked.path("link")).unwrap();
                assert_eq!(link, Path::new(target));
            }
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let allowed = Limits {
            outside_links: true,
            ..LIMITS
        };
        let entries = [("out", Is::Link("..")), ("out/victim", text("written"))];
        for unpacked in both_with(&entries, allowed) {
            unpacked.assert_refused("twice");
        }
        // Nor to where nothing is yet, nor inside.
        let entries = [("out", Is::Link("..")), ("out/new", text("written"))];
        for unpacked in both_with(&entries, allowed) {
            unpacked.assert_refused("twice");
        }
        for unpacked in both(&[
            ("folder", Is::Folder),
            ("link", Is::Link("folder")),
            ("link/x", text("written")),
        ]) {
            unpacked.assert_refused("twice");
        }
        let tar = tar_of(&[("a", Is::Link("b")), ("a/x", text("2"))]);
        unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("twice");
    }

    #[test]
    fn a_link_to_nothing_is_refused() {
        for unpacked in both(&[("link", Is::Link(""))]) {
            unpacked.assert_refused("leads to \"\"");
        }
        let zip = zip_of(&[("link", Is::Link("a\0b"))]);
        unpack_with(ArchiveFormat::Zip, &zip, LIMITS).assert_refused("leads to \"a\\0b\"");
    }

    #[test]
    fn a_second_name_is_a_files() {
        for target in ["folder", "none"] {
            let tar = tar_of(&[("folder", Is::Folder), ("second", Is::HardLink(target))]);
            unpack_with(ArchiveFormat::TarGz, &tar, LIMITS).assert_refused("no file before it");
        }
    }

    fn piece() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "..", ".", "l"]).prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn no_accepted_links_lead_out_together(
            links in prop::collection::vec(
                (prop::collection::vec(piece(), 1..4), prop::collection::vec(piece(), 1..5)),
                1..8,
            )
        ) {
            let links: Vec<(String, String)> = links
                .iter()
                .map(|(name, target)| (name.join("/"), target.join("/")))
                .collect();
            let entries: Vec<_> = links
                .iter()
                .map(|(name, target)| (&**name, Is::Link(target)))
                .chain([("a/a/x", text("x")), ("b/x", text("x"))])
                .collect();
            let unpacked = unpack_with(ArchiveFormat::TarGz, &tar_of(&entries), LIMITS);
            if unpacked.result.is_ok() {
                let top = fs::canonicalize(unpacked.path("")).unwrap();
                for (name, _) in &links {
                    if let Ok(real) = fs::canonicalize(top.join(name)) {
                        prop_assert!(real.starts_with(&top), "{:?} is {:?}", name, real);
                    }
                }
            }
        }

        #[test]
        fn no_bytes_panic_or_write_outside(content: Vec<u8>, at: prop::sample::Index, to: u8) {
            let entries = [("a", text("some")), ("b/c", text("more")), ("l", Is::Link("a"))];
            for (format, mut whole) in [
                (ArchiveFormat::Zip, zip_of(&entries)),
                (ArchiveFormat::TarGz, tar_of(&entries)),
            ] {
                let at = at.index(whole.len());
                whole[at] = to;
                let _ = unpack_with(format, &whole, LIMITS);
                let _ = unpack_with(format, &content, LIMITS);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_has_the_permissions_and_the_time_that_the_archive_says() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut tar = ::tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (kind, name, mode) in [
        (EntryType::Directory, "private", 0o700),
        (EntryType::Regular, "private/key", 0o644),
        (EntryType::Directory, "unsaid", 0),
    ] {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        tar.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap().finish().unwrap();
    let unpacked = unpack_with(ArchiveFormat::TarGz, &tar, LIMITS);
    let look = |name: &str| fs::metadata(unpacked.path(name)).unwrap();
    let private = look("private");
    assert_eq!(private.permissions().mode() & 0o777, 0o700);
    let time = std::time::Duration::from_secs(1_000_000_000);
    let since = private
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH);
    assert_eq!(since.unwrap(), time);
    assert_ne!(look("unsaid").permissions().mode() & 0o700, 0);
}
