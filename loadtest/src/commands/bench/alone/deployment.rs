//! A handoff that runs sample-app, and the time from a deploy to an answer of the new release.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use handoff::deployment::digest::digest;
use sample_app::overlay::{self, Overlay};

use super::Programs;
use crate::cli::DeployBy;
use crate::deploy::handoff::Handoff;
use crate::deploy::release::Release;
use crate::deploy::site::Site;
use crate::deploy::swap::Swap;
use crate::deploy::{Strategy as _, free_address};
use crate::host::process::Process;
use crate::host::system::System;

/// Maximum time for a release to answer, and of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval at which an answer is asked for: of the times that are measured, it is the error.
const POLL: Duration = Duration::from_micros(300);
/// Length of a file in a folder, in bytes.
const LENGTH_IN_FOLDER: usize = 5_600;
/// Number of files in a folder of a folder.
const FILES_PER_FOLDER: usize = 50;

/// A deployed artifact, whose digest comes with it in the pointer.
#[derive(Clone, Copy, Debug)]
pub enum Artifact {
    /// A file of this length, in bytes; a shorter one is the app alone.
    File(u64),
    /// A folder with this number of files beside the app.
    Folder(usize),
}

/// A running handoff, and the releases that are made for it.
#[derive(Debug)]
pub struct Deployment {
    handoff: Handoff,
    folder: PathBuf,
    artifact: Artifact,
    pub admin: SocketAddr,
    deployed: u32,
}

// === impl Deployment ===

impl Deployment {
    /// Starts it, and waits until the first release serves.
    pub async fn start(
        programs: &Programs,
        name: &str,
        artifact: Artifact,
    ) -> Result<Self, String> {
        let folder = programs.folder.join(name);
        let admin = free_address().await.map_err(|error| error.to_string())?;
        let create = || -> io::Result<(Site, Release)> {
            let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native)?;
            let settings = format!("admin = \"{admin}\"\n");
            fs::write(folder.join("site/handoff.toml"), settings)?;
            fs::create_dir_all(folder.join("made"))?;
            let base = base(&folder);
            fs::copy(&programs.app, &base)?;
            match artifact {
                Artifact::File(length) => pad(&base, length)?,
                Artifact::Folder(files) => fill(&folder.join("made/folder"), files)?,
            }
            Ok((site, make(&folder, artifact, 1)?))
        };
        let (site, first) = create().map_err(|error| error.to_string())?;
        let app = match artifact {
            Artifact::File(_) => "{artifact}",
            Artifact::Folder(_) => "{artifact}/app",
        };
        let command = [app, "-port", "{port}"].map(Into::into);
        let log = folder.join("output.log");
        let started = Handoff::start(
            &[],
            &programs.handoff,
            site,
            &first,
            &command,
            &folder,
            &log,
        );
        let handoff = started
            .await
            .map_err(|error| format!("failed to {error}"))?;
        Ok(Self {
            handoff,
            folder,
            artifact,
            admin,
            deployed: 1,
        })
    }

    pub fn server(&self) -> SocketAddr {
        self.handoff.server()
    }

    pub fn pid(&self) -> Result<u32, String> {
        let pid = self.handoff.pid();
        pid.ok_or_else(|| "handoff ended by itself".to_owned())
    }

    /// Returns what is deployed now.
    pub fn deployed(&self) -> PathBuf {
        place(&self.folder, self.artifact, self.deployed)
    }

    /// Makes and deploys the next release, and waits until clients see it. Returns the time from the
    /// pointer to the first answer, without what the app takes to start, in milliseconds.
    pub async fn swap(&mut self) -> Result<f64, String> {
        self.wait_until_synced()?;
        self.deployed += 1;
        let made = make(&self.folder, self.artifact, self.deployed).and_then(|release| {
            // What is on its way to the disk would be another deploy's.
            rustix::fs::syncfs(File::open(&self.folder)?)?;
            Ok(release)
        });
        let release = made.map_err(|error| error.to_string())?;
        let own = self.start_alone(&release).await?;
        let begun = Instant::now();
        let deployed = self.handoff.deploy(&release, &mut Swap::of(&release)).await;
        deployed.map_err(|error| format!("failed to {error}"))?;
        wait_until_answering(self.server(), &release.name())?;
        Ok(begun.elapsed().as_secs_f64() * 1e3 - own)
    }

    /// Waits until every private copy is on the disk.
    pub fn wait_until_synced(&self) -> Result<(), String> {
        let begun = Instant::now();
        let is_unsynced = || -> io::Result<bool> {
            for copies in fs::read_dir(self.folder.join("cache/releases"))? {
                for file in fs::read_dir(copies?.path())? {
                    if file?.path().extension().is_some_and(|it| it == "unsynced") {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        };
        while is_unsynced().map_err(|error| error.to_string())? {
            if begun.elapsed() > PATIENCE {
                return Err(format!("a private copy is not synced within {PATIENCE:?}"));
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// Ends it.
    pub async fn stop(mut self) {
        if let Err(error) = self.handoff.stop().await {
            eprintln!("loadtest: failed to {error}");
        }
    }

    /// Returns the time from the start of the app to its first answer, in milliseconds.
    async fn start_alone(&self, release: &Release) -> Result<f64, String> {
        let server = free_address().await.map_err(|error| error.to_string())?;
        let arguments = ["-port".to_owned(), server.port().to_string()];
        let app = match self.artifact {
            Artifact::File(_) => release.file.clone(),
            Artifact::Folder(_) => release.file.join("app"),
        };
        let begun = Instant::now();
        let log = self.folder.join("output.log");
        let started = Process::spawn(&System::Native, &app, &arguments, &log);
        let mut process = started.map_err(|error| error.to_string())?;
        wait_until_answering(server, &release.name())?;
        let took = begun.elapsed();
        let _ = process.stop(PATIENCE).await;
        Ok(took.as_secs_f64() * 1e3)
    }
}

/// Sends a GET on a connection of its own, and returns the answer.
pub fn ask(server: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn wait_until_answering(server: SocketAddr, release: &str) -> Result<(), String> {
    let begun = Instant::now();
    let field = format!("x-release: {release}\r\n");
    while !ask(server, "/").is_ok_and(|answer| answer.to_ascii_lowercase().contains(&field)) {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{release} does not answer within {PATIENCE:?}"));
        }
        sleep(POLL);
    }
    Ok(())
}

fn base(folder: &Path) -> PathBuf {
    folder.join("made/base")
}

fn place(folder: &Path, artifact: Artifact, number: u32) -> PathBuf {
    match artifact {
        Artifact::File(_) => folder.join(format!("made/v{number}")),
        Artifact::Folder(_) => folder.join("made/folder"),
    }
}

/// Makes a release. In a folder, the app and one more file are new.
fn make(folder: &Path, artifact: Artifact, number: u32) -> io::Result<Release> {
    let place = place(folder, artifact, number);
    let overlay = Overlay {
        version: format!("v{number}"),
        args: Vec::new(),
    };
    match artifact {
        Artifact::File(_) => {
            let before = number.saturating_sub(2);
            // The pointer still names the previous one.
            let _ = fs::remove_file(folder.join(format!("made/v{before}")));
            overlay::write(&base(folder), &place, &overlay)?;
            Release::of(number, place)
        }
        Artifact::Folder(_) => {
            let new = folder.join("made/app");
            overlay::write(&base(folder), &new, &overlay)?;
            // A process runs from the one that it replaces.
            fs::rename(new, place.join("app"))?;
            fs::write(place.join("0/0"), overlay.version)?;
            Ok(Release {
                number,
                sha256: digest(&place)?.hex(),
                file: place,
            })
        }
    }
}

/// Makes a file longer, with bytes that no file system leaves out.
fn pad(file: &Path, length: u64) -> io::Result<()> {
    const PART: usize = 1 << 20;
    let mut missing = length.saturating_sub(fs::metadata(file)?.len()) as usize;
    let mut file = File::options().append(true).open(file)?;
    let part: Vec<u8> = (0..PART).map(|at| (at % 251) as u8 | 1).collect();
    while missing > 0 {
        let length = missing.min(PART);
        file.write_all(&part[..length])?;
        missing -= length;
    }
    Ok(())
}

fn fill(folder: &Path, files: usize) -> io::Result<()> {
    for number in 0..files {
        let inner = folder.join((number / FILES_PER_FOLDER).to_string());
        if number.is_multiple_of(FILES_PER_FOLDER) {
            fs::create_dir_all(&inner)?;
        }
        let mut content = format!("file {number}\n").into_bytes();
        content.resize(LENGTH_IN_FOLDER, b'x');
        fs::write(inner.join((number % FILES_PER_FOLDER).to_string()), content)?;
    }
    Ok(())
}
