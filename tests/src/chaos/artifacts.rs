//! The artifacts that are deployed, and how its files come to be.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::schedule::{Bad, Good};
use crate::release::{sha256, sha256_of};
use crate::{binaries, source};

/// More than a page, so that it takes more than one write.
const PADDING: usize = 20_000;
const PIECE_PAUSE: Duration = Duration::from_millis(60);

/// The watched folder, and all that was ever in it.
#[derive(Debug)]
pub struct Artifacts {
    folder: PathBuf,
    versions: usize,
    written: Vec<Written>,
}

/// A whole artifact that was deployed.
#[derive(Clone, Debug)]
struct Written {
    file: String,
    digest: String,
    version: String,
}

// === impl Artifacts ===

impl Artifacts {
    /// Those of a watched folder, in which nothing is.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            versions: 0,
            written: Vec::new(),
        }
    }

    /// Writes a release that serves, and says as what version.
    pub fn good(&mut self, good: Good) -> String {
        let version = self.next_version();
        let args = match good {
            Good::Plain | Good::Proven | Good::Late => "",
            Good::Slow => "--ready-after 700ms",
            Good::Stubborn => "--ignore-stop",
            Good::Leaking => "--leak-child",
        };
        let mut script = script(&version, args);
        if good == Good::Late {
            script = script.replace("\nexec", "\nsleep 0.5\nexec");
        }
        if good == Good::Proven {
            let digest = sha256_of(script.as_bytes());
            self.write(&format!("{version}.sha256"), digest.as_bytes());
        }
        self.write(&version, script.as_bytes());
        self.written(&version, &version);
        version
    }

    /// Writes one that does not, and says as what version it would.
    pub fn bad(&mut self, bad: Bad) -> String {
        let version = self.next_version();
        let args = match bad {
            Bad::Exits => "--exit-code 3",
            Bad::NeverReady => "--never-ready",
            Bad::NeverBinds => "--never-bind",
            Bad::CrashesEarly => "--never-ready --crash-after 300ms",
            // Whoever deploys it kills it.
            Bad::CrashesLate | Bad::NoProgram | Bad::WrongDigest | Bad::CutArchive => "",
        };
        let script = script(&version, args);
        match bad {
            // No two contents are the same: one that was refused is not even tried again.
            Bad::NoProgram => self.write(&version, format!("\x7fELF{version}").as_bytes()),
            Bad::CutArchive => {
                let start = format!("PK\x03\x04\x14\0{version}");
                self.write(&format!("{version}.zip"), start.as_bytes());
            }
            Bad::WrongDigest => {
                let other = sha256_of(b"something else");
                self.write(&format!("{version}.sha256"), other.as_bytes());
                self.write(&version, script.as_bytes());
            }
            Bad::Exits
            | Bad::NeverReady
            | Bad::NeverBinds
            | Bad::CrashesEarly
            | Bad::CrashesLate => self.write(&version, script.as_bytes()),
        }
        // An overwrite removes the digest: what was refused for it would be accepted without it.
        let has_wrong_digest = matches!(bad, Bad::WrongDigest);
        if !has_wrong_digest && self.folder.join(&version).is_file() {
            self.written(&version, &version);
        }
        version
    }

    /// Returns the path of a whole artifact.
    pub fn path(&self, version: &str) -> PathBuf {
        self.folder.join(version)
    }

    /// Makes the newest good one another, piece by piece, and says as what version.
    pub fn overwrite(&mut self, pieces: usize) -> String {
        let is_there = |written: &&Written| self.folder.join(&written.file).is_file();
        let file = self.written.iter().rev().find(is_there);
        let file = file.map_or_else(|| "app".to_owned(), |written| written.file.clone());
        let version = self.next_version();
        let path = self.folder.join(&file);
        // A digest of what was there before is not this one's.
        let _ = fs::remove_file(self.folder.join(format!("{file}.sha256")));
        let script = script(&version, "");
        source::overwrite_slowly(&path, script.as_bytes(), pieces, PIECE_PAUSE);
        self.written(&file, &version);
        version
    }

    /// Removes the folder with everything in it.
    pub fn delete_folder(&self) {
        fs::remove_dir_all(&self.folder).expect("the watched folder can be removed");
    }

    /// Makes it again, empty.
    pub fn make_folder(&self) {
        fs::create_dir_all(&self.folder).expect("the watched folder can be made");
    }

    /// The version of a release, by the name that handoff gives it; none when nothing like it was
    /// ever deployed as a whole.
    pub fn version_of(&self, release: &str) -> Option<&str> {
        let (file, digits) = release.rsplit_once('-')?;
        let is_it = |written: &&Written| written.file == file && written.digest.starts_with(digits);
        self.written.iter().find(is_it).map(|it| &*it.version)
    }

    fn next_version(&mut self) -> String {
        self.versions += 1;
        format!("v{}", self.versions)
    }

    fn write(&self, file: &str, content: &[u8]) {
        let _alone = binaries::write_or_spawn();
        fs::write(self.folder.join(file), content).expect("an artifact can be written");
    }

    /// Records that the file's present content was deployed as this version.
    fn written(&mut self, file: &str, version: &str) {
        self.written.push(Written {
            file: file.to_owned(),
            digest: sha256(&self.folder.join(file)),
            version: version.to_owned(),
        });
    }
}

/// Starts `sample-app`. Whoever runs only a part of it is found out: that serves under a name that
/// was never deployed.
fn script(version: &str, args: &str) -> String {
    let app = binaries::sample_app().display();
    let padding = "# as long as a program is\n".repeat(PADDING / 26);
    format!(
        "#!/bin/sh\n\
         [ \"$(tail -n 1 \"$0\")\" = '# whole' ] || exec {app} --version-name half-{version} \"$@\"\n\
         {padding}\
         exec {app} --version-name {version} {args} \"$@\"\n\
         # whole\n"
    )
}
