//! The access log: a line for each request that has ended, if somebody wants them.
//!
//! A worker writes its lines into a buffer of its own and hands that on when it is full, and twice a
//! second: no lock and no other thread on the way of a request.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde::Serialize;
use tokio::time::Instant;

use crate::release::Generation;

/// So many bytes are handed on at a time.
const BATCH: usize = 32 * 1024;
/// What the status of a request is whose client left before there was one (nginx's word).
const CLIENT_LEFT: u16 = 499;

/// Where lines go, and how they look.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// How they look.
    pub form: AccessForm,
    /// Where they go.
    pub sink: Arc<dyn AccessSink>,
}

/// Takes lines, and never makes anybody wait.
pub trait AccessSink: fmt::Debug + Send + Sync {
    /// So many lines, with the end of each.
    fn write(&self, text: Vec<u8>, lines: u64);
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessForm {
    /// NCSA's common log format: `host - - [time] "request" status bytes`
    Common,
    /// One JSON object a line.
    Json,
}

/// A worker's lines.
#[derive(Debug)]
pub(super) struct Recorder {
    log: AccessLog,
    batch: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

/// A request that is recorded when the last of its hands lets go of it.
#[derive(Debug)]
pub(super) struct Access {
    recorder: Rc<Recorder>,
    asked: Asked,
    at: SystemTime,
    begun: Instant,
    pub(super) status: Cell<u16>,
    pub(super) bytes: Cell<u64>,
    pub(super) generation: Cell<Option<Generation>>,
    /// The answer has been taken to its end.
    pub(super) is_complete: Cell<bool>,
}

/// What a request says of itself, kept as its head does not stay.
#[derive(Debug)]
struct Asked {
    client: IpAddr,
    method: String,
    target: String,
    version: &'static str,
    forwarded_for: Option<String>,
    referer: Option<String>,
    user_agent: Option<String>,
    request_id: RefCell<Option<String>>,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_for: &'a Option<String>,
    method: &'a str,
    target: &'a str,
    version: &'a str,
    status: u16,
    bytes: u64,
    /// From the request's head to the end of its answer.
    ms: f64,
    complete: bool,
    generation: Option<Generation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: &'a Option<String>,
}

// === impl Recorder ===

impl Recorder {
    pub(super) fn new(log: &AccessLog) -> Rc<Self> {
        Rc::new(Self {
            log: log.clone(),
            batch: RefCell::default(),
            lines: Cell::new(0),
        })
    }

    /// A request begins.
    pub(super) fn begin<B>(self: &Rc<Self>, request: &Request<B>, client: IpAddr) -> Rc<Access> {
        let headers = request.headers();
        let asked = Asked {
            client,
            method: request.method().to_string(),
            target: request.uri().to_string(),
            version: match request.version() {
                http::Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            forwarded_for: text(headers, "x-forwarded-for"),
            referer: text(headers, header::REFERER.as_str()),
            user_agent: text(headers, header::USER_AGENT.as_str()),
            request_id: RefCell::default(),
        };
        Rc::new(Access {
            recorder: Rc::clone(self),
            asked,
            at: SystemTime::now(),
            begun: Instant::now(),
            status: Cell::new(CLIENT_LEFT),
            bytes: Cell::new(0),
            generation: Cell::new(None),
            is_complete: Cell::new(false),
        })
    }

    /// Hands on what there is.
    pub(super) fn flush(&self) {
        let lines = self.lines.take();
        if lines > 0 {
            self.log.sink.write(self.batch.take(), lines);
        }
    }

    fn record(&self, access: &Access) {
        let mut batch = self.batch.borrow_mut();
        // Writing to memory does not fail.
        let _ = match self.log.form {
            AccessForm::Common => access.write_common(&mut batch),
            AccessForm::Json => access.write_json(&mut batch),
        };
        self.lines.set(self.lines.get() + 1);
        let is_full = batch.len() >= BATCH;
        drop(batch);
        if is_full {
            self.flush();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

// === impl Access ===

impl Access {
    /// What the client gets of it.
    pub(super) fn answered(&self, status: StatusCode) {
        self.status.set(status.as_u16());
    }

    /// So many bytes of a body went to the client.
    pub(super) fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    pub(super) fn has_id(&self, id: &HeaderValue) {
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        *self.asked.request_id.borrow_mut() = Some(id);
    }

    fn write_common(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let Asked {
            client,
            method,
            target,
            version,
            ..
        } = &self.asked;
        let time = common_time(self.at);
        let status = self.status.get();
        write!(out, "{client} - - [{time}] \"{method} ")?;
        // What would end the field, or the line.
        for byte in target.bytes() {
            match byte {
                b'"' | b'\\' | 0..=0x1f | 0x7f.. => write!(out, "\\x{byte:02x}")?,
                _ => out.push(byte),
            }
        }
        let bytes = match self.bytes.get() {
            0 => "-".to_owned(),
            bytes => bytes.to_string(),
        };
        writeln!(out, " {version}\" {status} {bytes}")
    }

    fn write_json(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let asked = &self.asked;
        let line = Line {
            time: humantime::format_rfc3339_micros(self.at).to_string(),
            client: asked.client,
            forwarded_for: &asked.forwarded_for,
            method: &asked.method,
            target: &asked.target,
            version: asked.version,
            status: self.status.get(),
            bytes: self.bytes.get(),
            ms: (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            complete: self.is_complete.get(),
            generation: self.generation.get(),
            request_id: &asked.request_id.borrow(),
            referer: &asked.referer,
            user_agent: &asked.user_agent,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.push(b'\n');
        Ok(())
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.recorder.record(self);
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// `22/Nov/2026:12:00:01 +0000`, from `2026-11-22T12:00:01Z`.
fn common_time(at: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let time = humantime::format_rfc3339_seconds(at).to_string();
    let part = |range| time.get(range).unwrap_or_default();
    let month = part(5..7).parse().unwrap_or(1usize).clamp(1, 12);
    let (day, year, clock) = (part(8..10), part(0..4), part(11..19));
    format!("{day}/{}/{year}:{clock} +0000", MONTHS[month - 1])
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<(String, u64)>);

    impl AccessSink for Kept {
        fn write(&self, text: Vec<u8>, lines: u64) {
            let mut kept = self.0.lock().unwrap();
            kept.0.push_str(&String::from_utf8(text).unwrap());
            kept.1 += lines;
        }
    }

    fn recorder(form: AccessForm) -> (Rc<Recorder>, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        let sink: Arc<dyn AccessSink> = Arc::clone(&kept) as Arc<dyn AccessSink>;
        (Recorder::new(&AccessLog { form, sink }), kept)
    }

    #[test]
    fn a_common_line_is_one_line_with_its_fields_whatever_is_asked_for() {
        let (recorder, kept) = recorder(AccessForm::Common);
        let request = Request::get("/a?b=%22ä").body(()).unwrap();
        let access = recorder.begin(&request, IpAddr::from([127, 0, 0, 1]));
        access.answered(StatusCode::OK);
        access.sent(12);
        drop(access);
        recorder.flush();
        let kept = kept.0.lock().unwrap();
        let (line, lines) = (kept.0.as_str(), kept.1);
        assert_eq!(lines, 1);
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        let end = " +0000] \"GET /a?b=%22\\xc3\\xa4 HTTP/1.1\" 200 12\n";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn who_left_before_an_answer_is_recorded_too() {
        let (recorder, kept) = recorder(AccessForm::Json);
        let request = Request::post("/")
            .header("referer", "a\"b")
            .body(())
            .unwrap();
        drop(recorder.begin(&request, IpAddr::from([10, 0, 0, 1])));
        drop(recorder);
        let kept = kept.0.lock().unwrap();
        let line: serde_json::Value = serde_json::from_str(&kept.0).unwrap();
        assert_eq!(line["status"], 499);
        assert_eq!(line["complete"], false);
        assert_eq!(line["referer"], "a\"b");
        assert_eq!(line["method"], "POST");
    }

    #[test]
    fn times_are_written_as_logs_have_them() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(951_827_696);
        assert_eq!(common_time(time), "29/Feb/2000:12:34:56 +0000");
    }
}
