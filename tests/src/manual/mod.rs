//! README and the pages of the manual as a reader uses them: commands, outputs, links.
//!
//! Every fenced block of a shell is run, in the order of its page, by one shell in a folder of the
//! page's own; `handoff run` goes on in the background, as in a second terminal. An HTML comment
//! before a block changes that:
//!
//! | comment | meaning |
//! |---|---|
//! | `<!-- not run: REASON -->` | only parsed |
//! | `<!-- file: NAME -->` | the content of a file |
//! | `<!-- printed -->` | what the block before it has printed, but for `…` and words with digits |

mod links;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries;

/// Languages of blocks that hold commands.
const SHELLS: &[&str] = &["sh", "bash", "console", "bat", "powershell"];
/// Ports that the pages name: the public one and that of the status page.
const PORTS: &[&str] = &["8080", "9900"];
/// Longest time for the commands of one page.
const PAGE_SECONDS: &str = "300";

/// The functions around the blocks of a page.
const PRELUDE: &str = r#"
set -euo pipefail
server=
stop() { [ -z "$server" ] || { kill "$server"; wait "$server" || true; server=; }; }
handoff() {
  [ "$1" = run ] || { command handoff "$@"; return; }
  stop
  command handoff "$@" > "$ROOM/server.log" 2>&1 &
  server=$!
  until (exec 3<> "/dev/tcp/127.0.0.1/$PORT") 2> /dev/null; do
    kill -0 "$server" || { cat "$ROOM/server.log"; return 1; }
    sleep 0.05
  done
}
trap stop EXIT
"#;

/// A Markdown file.
#[derive(Debug)]
pub struct Page {
    /// Path from the root of the repository.
    pub path: String,
    /// Its content.
    pub text: String,
}

struct Block<'a> {
    line: usize,
    language: &'a str,
    marker: Marker<'a>,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Marker<'a> {
    None,
    NotRun(&'a str),
    File(&'a str),
    Printed,
    Unknown(&'a str),
}

// === impl Page ===

impl Page {
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut marker = Marker::None;
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let start = line.trim_start();
            if let Some(language) = start.strip_prefix("```") {
                let indent = line.len() - start.len();
                let inside = lines
                    .by_ref()
                    .take_while(|(_, line)| line.trim() != "```")
                    .fold(String::new(), |text, (_, line)| {
                        text + line.get(indent..).unwrap_or_default() + "\n"
                    });
                blocks.push(Block {
                    line: number + 1,
                    language: language.trim(),
                    marker,
                    text: inside,
                });
            }
            if !start.is_empty() {
                marker = Marker::read(start);
            }
        }
        blocks
    }

    /// Returns the page without its fenced blocks.
    fn prose(&self) -> String {
        let mut is_code = false;
        let is_prose = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        };
        self.text
            .lines()
            .filter(is_prose)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Returns the texts between backticks in the prose.
    fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        let spans = prose.split('`').skip(1).step_by(2);
        spans.map(|span| span.replace("\\|", "|")).collect()
    }

    /// Returns the commands of handoff in blocks that are not run and in the prose.
    fn commands(&self) -> Vec<String> {
        let blocks = self.blocks();
        let unrun = blocks.iter().filter(|block| block.script().is_none());
        let in_blocks = unrun.flat_map(|block| {
            let text = block.text.replace("\\\n", " ").replace("^\n", " ");
            let lines = text.lines().map(|line| line.trim().to_owned());
            lines.collect::<Vec<_>>()
        });
        let starts = |line: String| {
            let line = line
                .strip_prefix("ExecStart=/usr/local/bin/")
                .unwrap_or(&line);
            line.starts_with("handoff ").then(|| line.to_owned())
        };
        in_blocks.chain(self.spans()).filter_map(starts).collect()
    }

    /// Returns what the rules of the module forbid.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut has_run = false;
        for block in self.blocks() {
            let mut fault =
                |what: &str| faults.push(format!("{}:{}: {what}", self.path, block.line));
            if block.language.is_empty() {
                fault("a block without a language: rustdoc would take it for Rust");
            }
            let is_shell = SHELLS.contains(&block.language);
            match block.marker {
                Marker::Unknown(comment) => fault(&format!("an unknown marker: {comment}")),
                Marker::NotRun("") => fault("not run, without a reason"),
                Marker::NotRun(_) if !is_shell => fault("a block that would not be run anyhow"),
                Marker::None if is_shell && block.script().is_none() => {
                    fault("a block that bash cannot run: say why with <!-- not run: … -->");
                }
                Marker::Printed if !has_run => fault("printed by no block"),
                Marker::None | Marker::NotRun(_) | Marker::File(_) | Marker::Printed => {}
            }
            has_run |= block.script().is_some();
        }
        faults
    }

    /// Runs the blocks, and returns what differs from the page.
    ///
    /// # Errors
    /// A folder that cannot be made, or a shell that cannot be started.
    pub fn run(&self) -> io::Result<Vec<String>> {
        let room = tempfile::tempdir()?;
        let room = room.path().canonicalize()?;
        let home = room.join("home/me");
        let bin = room.join("bin");
        fs::create_dir_all(&home)?;
        fs::create_dir_all(&bin)?;
        symlink(binaries::handoff(), bin.join("handoff"))?;

        // Both are held until the second is known: they differ.
        let held = [listen()?, listen()?];
        let ports = held.map(|(_listener, port)| port.to_string());
        let localized = |text: &str| {
            let text = text.replace("/srv/", &format!("{}/srv/", room.display()));
            PORTS
                .iter()
                .zip(&ports)
                .fold(text, |text, (shown, port)| text.replace(shown, port))
        };

        let blocks = self.blocks();
        let mut script = PRELUDE.to_owned();
        for (number, block) in blocks.iter().enumerate() {
            if let Some(text) = block.script() {
                let text = localized(&text);
                let _ = writeln!(script, "{{\n{text}\n}} > \"$ROOM/{number}\" 2>&1");
            }
        }
        let file = room.join("page.sh");
        fs::write(&file, script)?;
        let path = std::env::var("PATH").unwrap_or_default();
        // Ends the shell and what it has started, too.
        let mut shell = Command::new("timeout");
        shell
            .args([PAGE_SECONDS, "bash"])
            .arg(&file)
            .current_dir(&home)
            .env_remove("XDG_CACHE_HOME")
            .env_remove("CACHE_DIRECTORY")
            .env("HOME", &home)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("ROOM", &room)
            .env("PORT", &ports[0])
            .env("HANDOFF_LISTEN", format!("127.0.0.1:{}", ports[0]))
            .env("HANDOFF_SHUTDOWN_DELAY", "0s")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = binaries::spawn(&mut shell)?.wait()?;

        let mut faults = self.differences(&room);
        if !status.success() {
            let log = fs::read_to_string(room.join("server.log")).unwrap_or_default();
            let output = |number: usize| fs::read_to_string(room.join(number.to_string())).ok();
            let last = (0..blocks.len()).rev().find_map(output);
            let last = last.unwrap_or_default();
            faults.push(format!("{}: {status}\n{last}\n{log}", self.path));
        }
        Ok(faults)
    }

    /// Returns what the page shows otherwise than its blocks have printed.
    fn differences(&self, room: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        let mut printed = String::new();
        for (number, block) in self.blocks().iter().enumerate() {
            if block.script().is_some() {
                let Ok(output) = fs::read_to_string(room.join(number.to_string())) else {
                    break;
                };
                printed = output.replace(&room.display().to_string(), "");
            } else if block.marker == Marker::Printed
                && let Some(line) = missing_line(&block.text, &printed)
            {
                let place = format!("{}:{}", self.path, block.line);
                faults.push(format!("{place}: not printed: {line}\n{printed}"));
            }
        }
        faults
    }

    /// Returns the commands that handoff does not accept, of those that are not run.
    pub fn refused_commands(&self) -> Vec<String> {
        let commands = self.commands().into_iter();
        commands
            .filter_map(|command| Some(format!("{}: {}", self.path, refusal(&command)?)))
            .collect()
    }
}

// === impl Block ===

impl Block<'_> {
    /// Returns the commands of bash that the block stands for.
    fn script(&self) -> Option<String> {
        let is_run = self.marker == Marker::None && ["sh", "bash"].contains(&self.language);
        if let Marker::File(name) = self.marker {
            let text = self.text.trim_end();
            let folder = "mkdir -p \"$(dirname";
            return Some(format!(
                "{folder} {name})\"\ncat > {name} << 'END'\n{text}\nEND"
            ));
        }
        is_run.then(|| self.text.clone())
    }
}

// === impl Marker ===

impl<'a> Marker<'a> {
    /// Reads the line before a block.
    fn read(line: &'a str) -> Self {
        let comment = line
            .strip_prefix("<!--")
            .and_then(|line| line.strip_suffix("-->"));
        let Some(comment) = comment.map(str::trim) else {
            return Self::None;
        };
        match comment.split_once(':') {
            Some(("not run", reason)) => Self::NotRun(reason.trim()),
            Some(("file", name)) => Self::File(name.trim()),
            None if comment == "printed" => Self::Printed,
            Some(_) | None => Self::Unknown(comment),
        }
    }
}

/// Returns the folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns README, the manual and the files for contributors.
///
/// # Errors
/// A page that cannot be read.
pub fn pages() -> io::Result<Vec<Page>> {
    pages_below(&["proxy", ".github"])
}

/// Returns README and all pages in these folders of the repository.
///
/// # Errors
/// A page that cannot be read.
pub fn pages_below(folders: &[&str]) -> io::Result<Vec<Page>> {
    let mut pages = Vec::new();
    let mut add = |path: &Path, text| {
        let path = path.strip_prefix(root()).unwrap_or(path);
        let path = path.display().to_string();
        pages.push(Page { path, text });
    };
    let readme = root().join("README.md");
    add(&readme, fs::read_to_string(&readme)?);
    for folder in folders {
        each_file(&root().join(folder), "md", &mut add)?;
    }
    Ok(pages)
}

/// Calls `see` with each file below `folder` that has the extension, in the order of their paths.
///
/// # Errors
/// A file that cannot be read.
pub fn each_file(
    folder: &Path,
    extension: &str,
    see: &mut impl FnMut(&Path, String),
) -> io::Result<()> {
    let entries = fs::read_dir(folder)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            each_file(&path, extension, see)?;
        } else if path.extension().is_some_and(|own| own == extension) {
            see(&path, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Returns a listener on a free port: as long as it lives, no other gets the same.
fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Returns the first line that was not printed, in order; lines with `…` alone stand for any.
fn missing_line<'a>(shown: &'a str, printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines().map(shape);
    let mut expected = shown.lines().filter(|line| line.trim() != "…");
    if shown.trim().is_empty() {
        return Some("(nothing is shown)");
    }
    expected.find(|line| !printed.any(|printed| printed == shape(line)))
}

/// Returns a line's words, with `#` for those that differ from run to run: they have digits, or are
/// random ids.
fn shape(line: &str) -> Vec<String> {
    let is_id = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let varies = word.bytes().any(|byte| byte.is_ascii_digit()) || is_id(word);
        let word = if varies { "#" } else { word };
        if !(varies && words.last().is_some_and(|last| last == "#")) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Returns why handoff does not accept these arguments. Nothing is run, as `--help` is the last one.
///
/// # Panics
/// When handoff cannot be started.
pub fn refusal(line: &str) -> Option<String> {
    let ends = [" | ", " || ", " && ", " > ", " # ", "; "];
    let end = ends.iter().filter_map(|end| line.find(end)).min();
    let command = &line[..end.unwrap_or(line.len())];
    let (own, _) = command.split_once(" -- ").unwrap_or((command, ""));
    let words = own.split_whitespace().skip(1);
    let words = words.map(|word| word.trim_matches(['"', '\'']));
    let words = words.filter(|word| !word.contains('…') && *word != "SHELL");
    let mut handoff = Command::new(binaries::handoff());
    handoff.args(words).arg("--help");
    handoff.stdin(Stdio::null()).stdout(Stdio::null());
    handoff.stderr(Stdio::piped());
    let ended = binaries::spawn(&mut handoff).and_then(|child| child.wait_with_output());
    let ended = ended.expect("handoff can be started");
    let error = String::from_utf8_lossy(&ended.stderr);
    (!ended.status.success()).then(|| format!("{line}: {error}"))
}
