//! The load generators: wrk, ab and h2load.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::host::install::find;
use crate::units::median;

/// A load, and the tool that offers it.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Maximum number of requests on kept connections, with wrk.
    Kept { connections: usize },
    /// Maximum number of requests on a new connection each, with ab.
    New { connections: usize },
    /// Maximum number of requests on this many streams at a time of each connection of HTTP/2, with
    /// h2load.
    Streams { connections: usize, streams: usize },
    /// Requests at a rate on kept connections, with h2load.
    Paced { connections: usize, per_second: f64 },
}

/// The result of a load. Every request was answered with 2xx.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub requests: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Load {
    /// Returns the number of connections.
    pub fn connections(self) -> usize {
        match self {
            Self::Kept { connections }
            | Self::New { connections }
            | Self::Streams { connections, .. }
            | Self::Paced { connections, .. } => connections,
        }
    }

    /// Returns the rate, if there is one.
    pub fn per_second(self) -> Option<f64> {
        match self {
            Self::Kept { .. } | Self::New { .. } | Self::Streams { .. } => None,
            Self::Paced { per_second, .. } => Some(per_second),
        }
    }

    /// Offers the load for whole seconds; `folder` is for the tool's files.
    pub async fn offer(
        self,
        server: SocketAddr,
        path: &str,
        time: Duration,
        folder: &Path,
    ) -> Result<Measured, String> {
        let url = format!("http://{server}{path}");
        let (seconds, count) = (time.as_secs().max(1), self.connections().to_string());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Kept { connections } => {
                let (threads, time) = (threads.min(connections).to_string(), format!("{seconds}s"));
                let arguments = ["-t", &threads, "-c", &count, "-d", &time, "--latency", &url];
                parse_wrk(&run("wrk", &arguments).await?)
            }
            Self::New { .. } => {
                // Without a number, the time limit allows 50,000 requests only.
                let (time, most) = (seconds.to_string(), "1000000");
                let arguments = ["-q", "-r", "-c", &count, "-t", &time, "-n", most, &url];
                parse_ab(&run("ab", &arguments).await?)
            }
            Self::Streams { streams, .. } => {
                let streams = streams.to_string();
                let arguments = [
                    "-c",
                    &count,
                    "-m",
                    &streams,
                    "-D",
                    &seconds.to_string(),
                    &url,
                ];
                logged(&arguments, folder).await
            }
            Self::Paced {
                connections,
                per_second,
            } => {
                let rate = format!("{:.3}", per_second / connections as f64);
                let time = seconds.to_string();
                let arguments = ["--h1", "-c", &count, "--rps", &rate, "-D", &time, &url];
                logged(&arguments, folder).await
            }
        }
    }
}

/// Runs h2load, which logs each request to a file in `folder`.
async fn logged(arguments: &[&str], folder: &Path) -> Result<Measured, String> {
    let log = folder.join("h2load.log");
    // It appends.
    let _ = std::fs::remove_file(&log);
    let file = log.display().to_string();
    let arguments = [&["-t", "1", "--log-file", &file], arguments].concat();
    let requests = parse_h2load(&run("h2load", &arguments).await?)?;
    let log = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
    let (p50_ms, p99_ms) = parse_log(&log).ok_or("h2load has logged no request")?;
    Ok(Measured {
        requests,
        p50_ms,
        p99_ms,
    })
}

/// Sends a number of requests on kept connections.
pub async fn send(server: SocketAddr, requests: u64, connections: usize) -> Result<u64, String> {
    let (requests, connections) = (requests.to_string(), connections.to_string());
    let url = format!("http://{server}/small");
    let arguments = ["--h1", "-t", "1", "-n", &requests, "-c", &connections, &url];
    parse_h2load(&run("h2load", &arguments).await?)
}

async fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let missing = || format!("{tool} is not installed (--install)");
    let program: PathBuf = find(tool).ok_or_else(missing)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|error| format!("{tool}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or_default();
    Err(format!("{tool} ended with {}: {last}", output.status))
}

/// Returns the first number after `label` in its line.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.split_once(label))?.1;
    let word = line.split_whitespace().next()?;
    word.trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .ok()
}

fn parse_wrk(text: &str) -> Result<Measured, String> {
    for label in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        if let Some(line) = text.lines().find(|line| line.contains(label)) {
            return Err(line.trim().to_owned());
        }
    }
    let unreadable = || format!("wrk's output is not understood: {text}");
    let requests = text
        .lines()
        .find_map(|line| line.split_once(" requests in "));
    let requests = requests.and_then(|(count, _)| count.trim().parse().ok());
    let percentile = |label: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(label))?;
        parse_wrk_time(line.trim())
    };
    Ok(Measured {
        requests: requests.ok_or_else(unreadable)?,
        p50_ms: percentile("50%").ok_or_else(unreadable)?,
        p99_ms: percentile("99%").ok_or_else(unreadable)?,
    })
}

fn parse_wrk_time(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (value, unit) = text.split_at(at);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(value.parse::<f64>().ok()? * factor)
}

fn parse_ab(text: &str) -> Result<Measured, String> {
    let failed = number_after(text, "Failed requests:").unwrap_or(1.0);
    let other = number_after(text, "Non-2xx responses:").unwrap_or(0.0);
    if failed + other > 0.0 {
        return Err(format!(
            "{failed} requests failed, {other} got another status"
        ));
    }
    let number =
        |label| number_after(text, label).ok_or_else(|| format!("ab does not say {label:?}"));
    Ok(Measured {
        requests: number("Complete requests:")? as u64,
        p50_ms: number("50%")?,
        p99_ms: number("99%")?,
    })
}

/// Returns the number of requests.
fn parse_h2load(text: &str) -> Result<u64, String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("requests: "));
    let line = line.ok_or("h2load does not say how many requests it made")?;
    let counts = line.split(", ").filter_map(|part| part.split_once(' '));
    let counts: Vec<(u64, &str)> = counts
        .filter_map(|(count, what)| Some((count.parse().ok()?, what)))
        .collect();
    let count = |wanted| {
        counts
            .iter()
            .find(|(_, what)| *what == wanted)
            .map_or(0, |c| c.0)
    };
    let lost = count("failed") + count("errored") + count("timeout");
    let other = number_after(text, "2xx, ").unwrap_or(0.0);
    match count("succeeded") {
        0 => Err(format!("no request succeeded: {line}")),
        _ if lost > 0 || other > 0.0 => Err(line.to_owned()),
        done => Ok(done),
    }
}

/// Returns p50 and p99 in milliseconds of the log, which has the start, the status and the time in
/// microseconds of each request.
fn parse_log(log: &str) -> Option<(f64, f64)> {
    let times = log
        .lines()
        .filter_map(|line| line.rsplit('\t').next()?.parse::<f64>().ok());
    let mut times: Vec<f64> = times.map(|us| us / 1e3).collect();
    times.sort_unstable_by(f64::total_cmp);
    let p99 = *times.get((times.len() * 99).div_ceil(100).checked_sub(1)?)?;
    Some((median(times)?, p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_understood() {
        let good = "  Latency Distribution\n     50%  791.00us\n     75%    1.16ms\n     99%   11.57ms\n  \
                    128327 requests in 2.03s, 25.46MB read\nRequests/sec:  63096.97\n";
        let expected = Measured {
            requests: 128_327,
            p50_ms: 0.791,
            p99_ms: 11.57,
        };
        assert_eq!(parse_wrk(good), Ok(expected));
        let lost = "  Socket errors: connect 0, read 3, write 0, timeout 0\n".to_owned() + good;
        assert!(parse_wrk(&lost).unwrap_err().contains("read 3"));
        assert!(parse_wrk("").is_err());
    }

    #[test]
    fn ab_is_understood() {
        let good = "Complete requests:      20656\nFailed requests:        0\n  50%      5\n  99%     16\n";
        let expected = Measured {
            requests: 20_656,
            p50_ms: 5.0,
            p99_ms: 16.0,
        };
        assert_eq!(parse_ab(good), Ok(expected));
        assert!(parse_ab(&good.replace("        0", "        2")).is_err());
        assert!(parse_ab(&(good.to_owned() + "Non-2xx responses:      7\n")).is_err());
    }

    #[test]
    fn h2load_is_understood() {
        let good = "requests: 300 total, 300 started, 300 done, 300 succeeded, 0 failed, 0 errored, 0 timeout\n\
                    status codes: 300 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(parse_h2load(good), Ok(300));
        assert!(parse_h2load(&good.replace("0 errored", "4 errored")).is_err());
        assert!(parse_h2load(&good.replace("0 3xx", "5 3xx")).is_err());
        let log = (1..=200).map(|ms| format!("179\t200\t{}\n", ms * 1000));
        let log: String = log.collect();
        assert_eq!(parse_log(&log), Some((100.0, 198.0)));
        assert_eq!(parse_log(""), None);
    }
}
