//! Archives to deploy, as other people's tools make them.

use std::fs;
use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::release::Release;

/// A file in an archive: its name, its content, whether it may be run.
pub type Entry<'a> = (&'a str, Vec<u8>, bool);

/// The program that this is.
pub fn program(release: impl Into<Release>) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("program");
    release.into().write_to(&path);
    fs::read(path).expect("the program")
}

/// `.zip`
pub fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, may_run) in entries {
        // What is large here is a debug build: packing it takes longer than all the rest.
        let level = Some(1);
        let options = SimpleFileOptions::default()
            .compression_level(level)
            .unix_permissions(mode(*may_run));
        zip.start_file(*name, options).expect("an entry");
        zip.write_all(content).expect("an entry");
    }
    zip.finish().expect("a zip").into_inner()
}

/// `.tar.gz`
pub fn tar_gz(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content, may_run) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode(*may_run));
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_slice())
            .expect("an entry");
    }
    let gzip = tar.into_inner().expect("a tar");
    gzip.finish().expect("a tar.gz")
}

fn mode(may_run: bool) -> u32 {
    if may_run { 0o755 } else { 0o644 }
}
