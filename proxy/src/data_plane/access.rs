//! The access log: one line for each request that has ended.
//!
//! A worker writes its lines into its own buffer, and passes that on when it is full, and twice a
//! second: a request takes no lock and wakes no other thread.

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

/// Size at which a buffer is passed on, in bytes.
const BATCH: usize = 32 * 1024;
/// Status of a request whose client left before there was a response (nginx's convention).
const CLIENT_LEFT: u16 = 499;

/// Settings of the access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Form of a line.
    pub form: AccessForm,
    /// Receiver of the lines.
    pub sink: Arc<dyn AccessSink>,
}

/// A receiver of lines. It never blocks.
pub trait AccessSink: fmt::Debug + Send + Sync {
    /// Takes a number of lines, each with its line end.
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

/// The access log of one worker.
#[derive(Debug)]
pub(super) struct AccessRecorder {
    log: AccessLog,
    batch: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

/// A request; its line is written when the last handle is dropped.
#[derive(Debug)]
pub(super) struct AccessEntry {
    recorder: Rc<AccessRecorder>,
    meta: RequestMeta,
    at: SystemTime,
    begun: Instant,
    pub(super) status: Cell<u16>,
    pub(super) bytes: Cell<u64>,
    pub(super) generation: Cell<Option<Generation>>,
    /// The response has been passed on to its end.
    pub(super) is_complete: Cell<bool>,
    /// Status of a gRPC call.
    grpc_status: Cell<Option<u16>>,
}

/// Facts about a request, copied as its head does not last.
#[derive(Debug)]
struct RequestMeta {
    client: IpAddr,
    method: String,
    target: String,
    version: &'static str,
    forwarded_for: Option<String>,
    referer: Option<String>,
    user_agent: Option<String>,
    request_id: RefCell<Option<String>>,
}

/// One line of JSON.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    bytes: u64,
    /// Milliseconds from the request's head to the end of its response.
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

// === impl AccessRecorder ===

impl AccessRecorder {
    pub(super) fn new(log: &AccessLog) -> Rc<Self> {
        Rc::new(Self {
            log: log.clone(),
            batch: RefCell::default(),
            lines: Cell::new(0),
        })
    }

    /// Begins the entry of a request.
    pub(super) fn begin<B>(
        self: &Rc<Self>,
        request: &Request<B>,
        client: IpAddr,
    ) -> Rc<AccessEntry> {
        let headers = request.headers();
        let meta = RequestMeta {
            client,
            method: request.method().to_string(),
            target: request.uri().to_string(),
            version: match request.version() {
                http::Version::HTTP_10 => "HTTP/1.0",
                http::Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            forwarded_for: text(headers, "x-forwarded-for"),
            referer: text(headers, header::REFERER.as_str()),
            user_agent: text(headers, header::USER_AGENT.as_str()),
            request_id: RefCell::default(),
        };
        Rc::new(AccessEntry {
            recorder: Rc::clone(self),
            meta,
            at: SystemTime::now(),
            begun: Instant::now(),
            status: Cell::new(CLIENT_LEFT),
            bytes: Cell::new(0),
            generation: Cell::new(None),
            is_complete: Cell::new(false),
            grpc_status: Cell::new(None),
        })
    }

    /// Passes on the buffered lines.
    pub(super) fn flush(&self) {
        let lines = self.lines.take();
        if lines > 0 {
            self.log.sink.write(self.batch.take(), lines);
        }
    }

    fn record(&self, access: &AccessEntry) {
        let mut batch = self.batch.borrow_mut();
        // Writing to memory cannot fail.
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

impl Drop for AccessRecorder {
    fn drop(&mut self) {
        self.flush();
    }
}

// === impl AccessEntry ===

impl AccessEntry {
    /// Records the status that the client gets.
    pub(super) fn record_status(&self, status: StatusCode) {
        self.status.set(status.as_u16());
    }

    /// Counts bytes of a body that were passed on to the client.
    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Records the status of a gRPC call, which is among these fields or trailers if there is one.
    pub(super) fn record_grpc_status(&self, fields: &HeaderMap) {
        let status = fields
            .get("grpc-status")
            .and_then(|value| value.to_str().ok());
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            self.grpc_status.set(Some(status));
        }
    }

    pub(super) fn set_request_id(&self, id: &HeaderValue) {
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        *self.meta.request_id.borrow_mut() = Some(id);
    }

    fn write_common(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let RequestMeta {
            client,
            method,
            target,
            version,
            ..
        } = &self.meta;
        let time = common_time(self.at);
        let status = self.status.get();
        write!(out, "{client} - - [{time}] \"{method} ")?;
        // Bytes that would end the field or the line are escaped.
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
        let meta = &self.meta;
        let line = Line {
            time: humantime::format_rfc3339_micros(self.at).to_string(),
            client: meta.client,
            forwarded_for: &meta.forwarded_for,
            method: &meta.method,
            target: &meta.target,
            version: meta.version,
            status: self.status.get(),
            grpc_status: self.grpc_status.get(),
            bytes: self.bytes.get(),
            ms: (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            complete: self.is_complete.get(),
            generation: self.generation.get(),
            request_id: &meta.request_id.borrow(),
            referer: &meta.referer,
            user_agent: &meta.user_agent,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.push(b'\n');
        Ok(())
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        self.recorder.record(self);
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Formats a time as `22/Nov/2026:12:00:01 +0000`.
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

    fn recorder(form: AccessForm) -> (Rc<AccessRecorder>, Arc<Kept>) {
        let kept = Arc::new(Kept::default());
        let sink: Arc<dyn AccessSink> = Arc::clone(&kept) as Arc<dyn AccessSink>;
        (AccessRecorder::new(&AccessLog { form, sink }), kept)
    }

    #[test]
    fn a_common_line_is_one_line_with_its_fields_whatever_is_asked_for() {
        let (recorder, kept) = recorder(AccessForm::Common);
        let request = Request::get("/a?b=%22ä").body(()).unwrap();
        let access = recorder.begin(&request, IpAddr::from([127, 0, 0, 1]));
        access.record_status(StatusCode::OK);
        access.count_bytes(12);
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
