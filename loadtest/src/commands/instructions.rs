//! `instructions`: handoff's instructions for each request, counted with callgrind.
//!
//! A case is run with few requests and with many. The difference of the smallest counts, divided by
//! that of the requests, is the figure: start and end of the process cancel out.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{CommandError, runtime};
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
use crate::host::system::System;
use crate::host::{revision, scratch};
use crate::report::write_json;
use crate::units::thousands;

/// Maximum growth of a figure over the committed one, in percent.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Number of runs of each case, of which the smallest count is taken: when an answer comes just after
/// handoff has looked for it, it looks once more, which on a busy machine happens more often.
const RUNS: usize = 3;

/// A case: its requests are alike, and sent one after the other.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// Number of requests; a tenth of it in the run with few.
    requests: u64,
    is_kept: bool,
    cookies: usize,
    body: usize,
}

const CASES: [Case; 4] = [
    Case {
        name: "get_kept",
        requests: 5_000,
        is_kept: true,
        cookies: 0,
        body: 0,
    },
    Case {
        name: "get_new",
        requests: 3_000,
        is_kept: false,
        cookies: 0,
        body: 0,
    },
    Case {
        name: "cookies_4_kib",
        requests: 5_000,
        is_kept: true,
        cookies: 4096,
        body: 0,
    },
    Case {
        name: "body_64_kib",
        requests: 1_500,
        is_kept: true,
        cookies: 0,
        body: 64 * 1024,
    },
];

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
    let valgrind = find("valgrind").ok_or_else(|| {
        CommandError::Other("run valgrind: it is not installed (--install)".to_owned())
    })?;
    let programs = ["handoff", "sample-app"];
    let (profile, folder) = (Profile::release(), options.binaries.as_deref());
    let built = binaries::provide_in(&profile, &programs, &System::Native, folder)?;
    let folder = scratch::create("handoff-instructions-", false);
    let folder = folder.map_err(CommandError::folder(&std::env::temp_dir()))?;
    let mut instructions = BTreeMap::new();
    for case in CASES {
        let few = case.requests / 10;
        let mut counts = [u64::MAX; 2];
        for run in 0..RUNS {
            for (count, requests) in counts.iter_mut().zip([few, case.requests]) {
                let own = folder
                    .path()
                    .join(format!("{}-{requests}-{run}", case.name));
                let counted = count_run(&own, case, requests, &valgrind, &built[0], &built[1]);
                *count = runtime.block_on(counted)?.min(*count);
            }
        }
        let figure = counts[1].saturating_sub(counts[0]) / (case.requests - few);
        eprintln!("{}: {} instructions", case.name, thousands(figure));
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

/// Runs handoff under callgrind while the requests are sent; returns all its instructions.
async fn count_run(
    folder: &Path,
    case: Case,
    requests: u64,
    valgrind: &Path,
    handoff: &Path,
    app: &Path,
) -> Result<u64, CommandError> {
    let output = folder.join("callgrind.out");
    let prepare = || -> io::Result<(Site, Release, PathBuf)> {
        let site = Site::create(folder.join("site"), DeployBy::Pointer, System::Native)?;
        fs::write(folder.join("site").join("handoff.toml"), "workers = 1\n")?;
        // A few bytes: the count of a run must not depend on how often the artifact is read.
        let artifact = folder.join("site").join("artifact");
        fs::write(&artifact, "release 1\n")?;
        let release = Release::of(1, artifact)?;
        let wrapper = folder.join("handoff");
        let script = format!(
            "#!/bin/sh\nexec '{}' --quiet --tool=callgrind --callgrind-out-file='{}' '{}' \"$@\"\n",
            valgrind.display(),
            output.display(),
            handoff.display(),
        );
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok((site, release, wrapper))
    };
    let (site, release, wrapper) = prepare().map_err(CommandError::folder(folder))?;
    let command = [app.into(), "-port".into(), "{port}".into()];
    let log = folder.join("output.log");
    let mut handoff = Handoff::start(&wrapper, site, &release, &command, folder, &log).await?;
    let sent = case.send(handoff.server(), requests).await;
    handoff.stop().await?;
    sent.map_err(|failed| {
        CommandError::Other(format!(
            "send a request of {}: {}",
            case.name, failed.detail
        ))
    })?;
    let text = fs::read_to_string(&output).map_err(CommandError::read(&output))?;
    let missing = || CommandError::Other(format!("find the count in {}", output.display()));
    parse_count(&text).ok_or_else(missing)
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
    print!("{text}");
    Ok(holds)
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

// === impl Case ===

impl Case {
    /// Sends the requests, one after the other.
    async fn send(self, server: SocketAddr, count: u64) -> Result<(), Failed> {
        let request = self.request(server);
        let mut client = None;
        for _ in 0..count {
            let mut open = match client.take() {
                Some(open) => open,
                None => Client::connect(server).await?,
            };
            let response = open.send(&request).await?;
            if response.status != 200 {
                let detail = format!("status {}", response.status);
                return Err(Failed::new(Failure::Status, detail));
            }
            client = self.is_kept.then_some(open);
        }
        Ok(())
    }

    fn request(self, server: SocketAddr) -> Vec<u8> {
        let line = if self.body > 0 {
            "POST /upload"
        } else {
            "GET /version"
        };
        let mut head = format!("{line} HTTP/1.1\r\nHost: {server}\r\n");
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
    fn requests_have_the_size_that_their_case_says() {
        let server = ([127, 0, 0, 1], 80).into();
        let [get, _, cookies, body] = CASES.map(|case| case.request(server).len());
        assert_eq!(cookies - get, "Cookie: \r\n".len() + 4096);
        assert!(body > 64 * 1024);
    }
}
