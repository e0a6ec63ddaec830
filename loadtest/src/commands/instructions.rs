//! `instructions`: handoff's instructions for each request, counted with callgrind.
//!
//! Counted is the thread that serves requests, from one request to another: neither the start and the
//! end of the process nor what handoff does from time to time is in a figure. A request meets a worker
//! that waits for it, and so does its answer, which the app gives after a pause: on a machine with
//! nothing else to do and on a busy one handoff then does the same, step by step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{CommandError, create_scratch, runtime};
use crate::cli::DeployBy;
use crate::cli::bench::InstructionsOptions;
use crate::deploy::Strategy as _;
use crate::deploy::handoff::Handoff;
use crate::deploy::release::Release;
use crate::deploy::site::Site;
use crate::generator::client::Client;
use crate::generator::failure::{Failed, Failure};
use crate::host::binaries::{self, Profile};
use crate::host::install::{self, find};
use crate::host::revision;
use crate::host::system::System;
use crate::report::write_json;
use crate::units::thousands;

/// Maximum growth of a figure over the committed one, in percent.
const TOLERANCE_PERCENT: f64 = 2.0;

/// Number of counts of each case, of which the smallest one is taken.
const COUNTS: usize = 3;

/// Number of requests before the first count, after which nothing happens for the first time.
const WARM_UP: u32 = 20;

/// Start of the names of callgrind's files.
const OUTPUT: &str = "callgrind.out";

/// Part of the names of functions of the data plane.
const WORKER: &str = "handoff::data_plane::";

/// Time that the app takes for an answer, and that a client waits before it goes on. handoff is done
/// with a step long before, also under callgrind.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of requests in a count.
const REQUESTS: u32 = 150;

/// A case: its requests are alike, and sent one after the other.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// handoff's own.
    options: &'static [&'static str],
    is_kept: bool,
    cookies: usize,
    body: usize,
}

/// A small GET on a kept connection.
const GET: Case = Case {
    name: "get_kept",
    options: &[],
    is_kept: true,
    cookies: 0,
    body: 0,
};

const CASES: [Case; 6] = [
    GET,
    Case {
        name: "get_new",
        is_kept: false,
        ..GET
    },
    Case {
        name: "cookies_4_kib",
        cookies: 4096,
        ..GET
    },
    Case {
        name: "body_64_kib",
        body: 64 * 1024,
        ..GET
    },
    Case {
        name: "cookie",
        cookies: 48,
        ..GET
    },
    Case {
        name: "session",
        options: &["--sticky", "cookie"],
        cookies: 48,
        ..GET
    },
];

/// Cases that cost little more than another one of the same run: name, the other one, percent.
const RATIOS: [(&str, &str, f64); 1] = [("session", "cookie", 5.0)];

/// The programs that count.
#[derive(Debug)]
struct Tools {
    valgrind: PathBuf,
    control: PathBuf,
}

/// The file of figures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Figures {
    schema: u32,
    date: String,
    commit: Option<String>,
    rustc: Option<String>,
    profile: String,
    tolerance_percent: f64,
    /// Instructions for each request, by case.
    instructions: BTreeMap<String, u64>,
}

/// Counts, and writes or checks the figures; returns whether they hold.
pub fn run(options: &InstructionsOptions) -> Result<bool, CommandError> {
    let runtime = runtime()?;
    if options.install {
        runtime.block_on(install::install(&[install::TOOLS]));
    }
    let tool = |name| {
        let missing = || format!("run {name}: it is not installed (--install)");
        find(name).ok_or_else(|| CommandError::Other(missing()))
    };
    let tools = Tools {
        valgrind: tool("valgrind")?,
        control: tool("callgrind_control")?,
    };
    let programs = ["handoff", "sample-app"];
    let (profile, folder) = (Profile::release(), options.binaries.as_deref());
    let built = binaries::provide_in(&profile, &programs, &System::Native, folder)?;
    let folder = create_scratch("handoff-instructions-", false)?;
    let mut instructions = BTreeMap::new();
    for case in CASES {
        let own = folder.path().join(case.name);
        let counts = case.count(&own, &tools, &built[0], &built[1]);
        let counts = runtime.block_on(counts)?;
        let figures = counts.map(|count| count / u64::from(REQUESTS));
        eprintln!(
            "{}: {} instructions",
            case.name,
            figures.map(thousands).join(", ")
        );
        let figure = figures.into_iter().min().unwrap_or_default();
        instructions.insert(case.name.to_owned(), figure);
    }
    let file = revision::workspace().join("loadtest/results/instructions.json");
    if options.check {
        return check(&file, &instructions);
    }
    let figures = Figures {
        schema: 1,
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        commit: revision::commit(),
        rustc: revision::rustc(),
        profile: "release".to_owned(),
        tolerance_percent: TOLERANCE_PERCENT,
        instructions,
    };
    write_json(&figures, &file).map_err(CommandError::write(&file))?;
    println!("wrote {}", file.display());
    Ok(true)
}

/// The folder of a run: returns the site, its release, and handoff under callgrind as a program.
fn prepare(folder: &Path, valgrind: &Path, handoff: &Path) -> io::Result<(Site, Release, PathBuf)> {
    let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native)?;
    fs::write(folder.join("site").join("handoff.toml"), "workers = 1\n")?;
    let artifact = folder.join("site").join("artifact");
    fs::write(&artifact, "release 1\n")?;
    let release = Release::of(1, artifact)?;
    let wrapper = folder.join("handoff");
    let script = format!(
        "#!/bin/sh\nexec '{}' --quiet --tool=callgrind --separate-threads=yes \
         --callgrind-out-file='{}' '{}' \"$@\"\n",
        valgrind.display(),
        folder.join(OUTPUT).display(),
        handoff.display(),
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok((site, release, wrapper))
}

/// Returns the instructions of the worker in the dump of this number: the data plane's code runs in no
/// other thread.
fn count_of_worker(folder: &Path, dump: usize) -> io::Result<u64> {
    let prefix = format!("{OUTPUT}.{dump}-");
    for file in fs::read_dir(folder)? {
        let file = file?;
        if !file.file_name().to_string_lossy().starts_with(&prefix) {
            continue;
        }
        let text = fs::read_to_string(file.path())?;
        if text.contains(WORKER)
            && let Some(count) = parse_count(&text)
        {
            return Ok(count);
        }
    }
    Err(io::Error::other(format!("no worker in {prefix}*")))
}

fn parse_count(text: &str) -> Option<u64> {
    let count = |line: &str| {
        let count = line
            .strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"));
        count?.trim().parse().ok()
    };
    text.lines().rev().find_map(count)
}

fn check(file: &Path, found: &BTreeMap<String, u64>) -> Result<bool, CommandError> {
    let committed = fs::read(file).and_then(|json| Ok(serde_json::from_slice(&json)?));
    let committed: Figures = committed.map_err(CommandError::read(file))?;
    if committed.rustc != revision::rustc() {
        let name = |rustc: Option<String>| rustc.unwrap_or_else(|| "unknown".to_owned());
        let (then, now) = (name(committed.rustc.clone()), name(revision::rustc()));
        eprintln!("loadtest: the committed figures are of {then}, these of {now}");
    }
    let (text, holds) = compare(&committed, found);
    let (ratios, are_held) = compare_pairs(found);
    print!("{text}{ratios}");
    Ok(holds && are_held)
}

/// Describes each figure; returns whether all hold.
fn compare(committed: &Figures, found: &BTreeMap<String, u64>) -> (String, bool) {
    let mut text = String::new();
    let mut all_hold = true;
    for (name, found) in found {
        let line = match committed.instructions.get(name) {
            Some(known) => {
                let growth = (*found as f64 - *known as f64) * 100.0 / *known as f64;
                let holds = growth <= committed.tolerance_percent;
                all_hold &= holds;
                let verdict = if holds { "holds" } else { "FAILS" };
                format!(
                    "{verdict}  {name}: {} instructions, {growth:+.1} % over {} (at most +{} %)",
                    thousands(*found),
                    thousands(*known),
                    committed.tolerance_percent,
                )
            }
            None => {
                all_hold = false;
                format!("FAILS  {name}: there is no committed figure")
            }
        };
        text.push_str(&line);
        text.push('\n');
    }
    (text, all_hold)
}

/// Describes each case that is held against another one of the run; returns whether all hold.
fn compare_pairs(found: &BTreeMap<String, u64>) -> (String, bool) {
    let mut text = String::new();
    let mut all_hold = true;
    for (name, other, limit) in RATIOS {
        let (Some(cost), Some(base)) = (found.get(name), found.get(other)) else {
            continue;
        };
        let growth = (*cost as f64 - *base as f64) * 100.0 / *base as f64;
        let holds = growth <= limit;
        all_hold &= holds;
        let verdict = if holds { "holds" } else { "FAILS" };
        text.push_str(&format!(
            "{verdict}  {name}: {growth:+.1} % over {other} of this run (at most +{limit} %)\n"
        ));
    }
    (text, all_hold)
}

// === impl Tools ===

impl Tools {
    /// Has callgrind do something, and waits until it has.
    fn control(&self, action: &str, pid: u32) -> Result<(), CommandError> {
        let failed = |why: String| {
            CommandError::Other(format!("run callgrind_control {action} {pid}: {why}"))
        };
        let output = Command::new(&self.control)
            .arg(action)
            .arg(pid.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && said.contains("OK") {
            Ok(())
        } else {
            Err(failed(format!("{said}{}", output.status)))
        }
    }
}

// === impl Case ===

impl Case {
    /// Runs handoff under callgrind and sends it requests; returns what each count came to.
    async fn count(
        self,
        folder: &Path,
        tools: &Tools,
        handoff: &Path,
        app: &Path,
    ) -> Result<[u64; COUNTS], CommandError> {
        let (site, release, wrapper) =
            prepare(folder, &tools.valgrind, handoff).map_err(CommandError::folder(folder))?;
        let command = [app.into(), "-port".into(), "{port}".into()];
        let log = folder.join("output.log");
        let mut handoff = Handoff::start(
            self.options,
            &wrapper,
            site,
            &release,
            &command,
            folder,
            &log,
        )
        .await?;
        let counts = self.count_in(&handoff, folder, tools).await;
        handoff.stop().await?;
        counts
    }

    async fn count_in(
        self,
        handoff: &Handoff,
        folder: &Path,
        tools: &Tools,
    ) -> Result<[u64; COUNTS], CommandError> {
        let pid = handoff.pid().unwrap_or_default();
        let mut client = None;
        let mut request = self.request(handoff.server(), &[]);
        let set = self.send(handoff.server(), WARM_UP, &request, &mut client);
        let set = set.await?;
        if !set.is_empty() {
            request = self.request(handoff.server(), &set);
        }
        let mut counts = [0; COUNTS];
        for (dump, count) in (1..).zip(&mut counts) {
            tools.control("--zero", pid)?;
            let sent = self.send(handoff.server(), REQUESTS, &request, &mut client);
            sent.await?;
            tools.control("--dump", pid)?;
            *count = count_of_worker(folder, dump).map_err(CommandError::read(folder))?;
        }
        Ok(counts)
    }

    /// Sends the requests, one after the other; returns the cookies of the last response.
    async fn send(
        self,
        server: SocketAddr,
        count: u32,
        request: &[u8],
        client: &mut Option<Client>,
    ) -> Result<Vec<String>, CommandError> {
        let failed = |failed: Failed| {
            CommandError::Other(format!(
                "send a request of {}: {}",
                self.name, failed.detail
            ))
        };
        let mut cookies = Vec::new();
        for _ in 0..count {
            let mut open = match client.take() {
                Some(open) => open,
                None => Client::connect(server).await.map_err(failed)?,
            };
            sleep(PAUSE).await;
            let response = open.send(request).await.map_err(failed)?;
            if response.status != 200 {
                let detail = format!("status {}", response.status);
                return Err(failed(Failed::new(Failure::Status, detail)));
            }
            cookies = response.cookies;
            *client = self.is_kept.then_some(open);
        }
        // The last one, too, is done with.
        sleep(PAUSE).await;
        Ok(cookies)
    }

    /// Returns the request, with these cookies behind the case's own.
    fn request(self, server: SocketAddr, set: &[String]) -> Vec<u8> {
        let method = if self.body > 0 { "POST" } else { "GET" };
        let pause = PAUSE.as_millis();
        let mut head = format!("{method} /slow?ms={pause} HTTP/1.1\r\nHost: {server}\r\n");
        if !self.is_kept {
            head.push_str("Connection: close\r\n");
        }
        if self.cookies > 0 {
            // As browsers send them: in one field.
            let mut cookies = String::new();
            for number in 0.. {
                if cookies.len() >= self.cookies {
                    break;
                }
                cookies.push_str(&format!("cookie{number:02}={}; ", "v".repeat(54)));
            }
            cookies.truncate(self.cookies);
            for cookie in set {
                cookies.push_str("; ");
                cookies.push_str(cookie);
            }
            head.push_str(&format!("Cookie: {cookies}\r\n"));
        }
        if self.body > 0 {
            head.push_str(&format!("Content-Length: {}\r\n", self.body));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.resize(request.len() + self.body, b'x');
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_the_output_of_callgrind() {
        let text = "events: Ir\nfn=(1)\n0 17\n\ntotals: 123456\n";
        assert_eq!(parse_count(text), Some(123_456));
        assert_eq!(parse_count("events: Ir\n"), None);
    }

    #[test]
    fn a_figure_may_grow_by_the_tolerance_and_shrink_at_will() {
        let instructions = |count| BTreeMap::from([("get_kept".to_owned(), count)]);
        let committed = Figures {
            schema: 1,
            date: String::new(),
            commit: None,
            rustc: None,
            profile: "release".to_owned(),
            tolerance_percent: 3.0,
            instructions: instructions(1000),
        };
        for (count, holds) in [(900, true), (1030, true), (1031, false)] {
            let (text, all_hold) = compare(&committed, &instructions(count));
            assert_eq!(all_hold, holds, "{text}");
        }
        let other = BTreeMap::from([("new".to_owned(), 1)]);
        assert!(!compare(&committed, &other).1);
    }

    #[test]
    fn a_case_may_cost_so_much_more_than_its_other() {
        for (cost, holds) in [(1000, true), (1050, true), (1051, false)] {
            let found = [("cookie", 1000), ("session", cost)];
            let found = found.map(|(name, count)| (name.to_owned(), count)).into();
            let (text, all_hold) = compare_pairs(&found);
            assert_eq!(all_hold, holds, "{text}");
        }
    }

    #[test]
    fn requests_have_the_size_that_their_case_says() {
        let server = ([127, 0, 0, 1], 80).into();
        let [get, _, cookies, body, cookie, session] =
            CASES.map(|case| case.request(server, &["a=1".to_owned()]).len());
        assert_eq!(cookies - get, "Cookie: ; a=1\r\n".len() + 4096);
        assert!(body > 64 * 1024);
        assert_eq!(cookie, session);
    }
}
