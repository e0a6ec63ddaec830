//! The app's settings: by its overlay, by the command line, by the environment.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use sample_app::overlay::Overlay;

const ENDPOINTS: &str = "\
Endpoints (every answer has X-Release: VERSION):
  /                        a short text with the version
  /version                 the version, and nothing else
  /health                  200 when ready, else 503
  /slow?ms=N&bytes=N       answers after ms (1000); a body of that many bytes, if given
  /stream?events=N&every=N server-sent events: how many (10), how often in ms (100)
  /upload                  POST, PUT: JSON with digest and length of what arrived
  /echo                    any method: the body back, as it arrives
  /session                 the number of this request in its session, which only this process knows
  /protocol                HTTP/1.1, or HTTP/2.0 if it was asked so without TLS
  /ws                      WebSocket echo
  /sample.App/CALL         gRPC over HTTP/2: Version, Events (a stream), Echo (both ways)
  /grpc.health.v1.Health/Check  the health of sample.App by gRPC: SERVING when ready
  anything else            a file relative to the working directory

Durations are written as 500ms, 2s or 1m 30s. A release may carry a version and arguments of its
own at the end of its executable; the command line wins.";

/// A small, honest HTTP app that can be told to misbehave.
#[derive(Debug, Parser)]
#[command(name = "sample-app", args_override_self = true, after_help = ENDPOINTS)]
pub(crate) struct Args {
    /// Port to listen on, 0 for a free one; `-port N` means the same
    #[arg(long, value_name = "N", env = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,

    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// Version to answer with
    #[arg(long = "version-name", value_name = "V", default_value = "dev", value_parser = version)]
    pub(crate) version: String,

    /// Append `<X-Request-ID> <method> <path> <version> <process id>` to FILE for each request,
    /// before answering; the answer has the same X-Request-ID. On Windows each process adds its id
    /// to the file's name
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,

    /// Listen at once, but answer / and /health with 503 for so long
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) ready_after: Option<Duration>,

    /// Answer / and /health with 503 for ever
    #[arg(long)]
    pub(crate) never_ready: bool,

    /// Answer one of N requests with 500, except for / and /health
    #[arg(long, value_name = "N")]
    pub(crate) fail_every: Option<NonZeroU64>,

    /// Run, but never listen
    #[arg(long)]
    pub(crate) never_bind: bool,

    /// Exit in the middle of everything after so long, with --exit-code or 1
    #[arg(long, value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) crash_after: Option<Duration>,

    /// Exit at once with this code, or with --crash-after, then
    #[arg(long, value_name = "N")]
    pub(crate) exit_code: Option<u8>,

    /// Ignore SIGTERM, Ctrl-C, Ctrl-Break and every other request to stop
    #[arg(long)]
    pub(crate) ignore_stop: bool,

    /// Stop at the end of standard input, too
    #[arg(long)]
    pub(crate) stop_at_stdin_end: bool,

    /// Stop when this path is POSTed to, too
    #[arg(long, value_name = "PATH")]
    pub(crate) stop_path: Option<String>,

    /// Start a child that outlives the app (by ten minutes at most)
    #[arg(long)]
    pub(crate) leak_child: bool,

    /// Be that child
    #[arg(long, hide = true)]
    pub(crate) leaked_child: bool,
}

impl Args {
    /// Parses the overlay's arguments, then those of the command line (without the program's
    /// name): of two values for one flag the later one counts.
    pub(crate) fn parse_all(
        overlay: Option<Overlay>,
        command_line: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let overlay = overlay.map(|Overlay { version, args }| {
            let version = OsString::from(format!("--version-name={version}"));
            std::iter::once(version).chain(args.into_iter().map(OsString::from))
        });
        let args = overlay
            .into_iter()
            .flatten()
            .chain(command_line)
            .map(two_dashes);
        Self::try_parse_from(std::iter::once(OsString::from("sample-app")).chain(args))
    }
}

/// Go's flag package takes `-port`; to clap that would be a bundle of short flags.
fn two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some("-port") => OsString::from("--port"),
        Some(text) if text.starts_with("-port=") => OsString::from(format!("-{text}")),
        _ => arg,
    }
}

/// The version goes into a header and, as one word, into the journal.
fn version(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a version is one word of visible ASCII");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(overlay: Option<(&str, &[&str])>, command_line: &[&str]) -> Result<Args, clap::Error> {
        let overlay = overlay.map(|(version, args)| Overlay {
            version: version.into(),
            args: args.iter().map(|&arg| arg.into()).collect(),
        });
        Args::parse_all(overlay, command_line.iter().map(OsString::from))
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;

        Args::command().debug_assert();
    }

    #[test]
    fn the_port_is_taken_in_every_form() {
        for form in [
            &["--port", "81"][..],
            &["--port=81"],
            &["-port", "81"],
            &["-port=81"],
        ] {
            assert_eq!(parse(None, form).unwrap().port, 81, "{form:?}");
            assert_eq!(
                parse(Some(("v1", form)), &[]).unwrap().port,
                81,
                "{form:?} in the overlay"
            );
        }
        assert!(parse(None, &["-ports", "81"]).is_err());
    }

    #[test]
    fn without_an_overlay_the_version_is_dev() {
        assert_eq!(parse(None, &[]).unwrap().version, "dev");
        assert_eq!(parse(None, &[]).unwrap().host.to_string(), "127.0.0.1");
    }

    #[test]
    fn the_command_line_wins_over_the_overlay() {
        let overlay = Some((
            "v1",
            &["--port", "81", "--ready-after", "1h", "--ignore-stop"][..],
        ));

        let args = parse(
            overlay,
            &["-port", "82", "--ready-after", "500ms", "--ignore-stop"],
        )
        .unwrap();
        assert_eq!(args.port, 82);
        assert_eq!(args.ready_after, Some(Duration::from_millis(500)));
        assert_eq!(args.version, "v1");
        assert!(args.ignore_stop);

        let args = parse(overlay, &["--version-name", "v9"]).unwrap();
        assert_eq!(args.port, 81);
        assert_eq!(args.ready_after, Some(Duration::from_secs(3600)));
        assert_eq!(args.version, "v9");
    }

    #[test]
    fn an_overlay_may_name_another_version_in_its_arguments() {
        assert_eq!(
            parse(Some(("v1", &["--version-name", "v2"])), &[])
                .unwrap()
                .version,
            "v2"
        );
    }

    #[test]
    fn a_version_that_no_header_could_carry_is_refused() {
        for bad in ["", "v 1", "v1\n", "vé"] {
            let error = parse(Some((bad, &[])), &[]).unwrap_err().to_string();
            assert!(error.contains("--version-name"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_error_names_the_flag_and_the_value() {
        for (flag, value) in [
            ("--port", "70000"),
            ("--crash-after", "soon"),
            ("--exit-code", "256"),
        ] {
            let error = parse(None, &[flag, value]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
    }
}
