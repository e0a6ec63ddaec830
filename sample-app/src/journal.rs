//! Which requests reached the app: one line each, written before it is answered.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const REQUEST_ID: &str = "x-request-id";
const NO_ID: &[u8] = b"-";

/// A file that several processes may append to at the same time.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    version: &'static str,
}

impl Journal {
    /// Opens `path` for appending, and creates it if need be.
    pub(crate) fn open(path: &Path, version: &'static str) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Self { file, version })
    }

    fn append(&self, request: &Request) -> io::Result<()> {
        let id = request
            .headers()
            .get(REQUEST_ID)
            .map_or(NO_ID, |id| id.as_bytes());
        let line = line(
            id,
            request.method().as_str(),
            request.uri().path(),
            self.version,
        );
        // In append mode the system puts each write at the end as a whole: no lock, and no line
        // inside another one, not even between processes. Hence never a second write.
        if (&self.file).write(&line)? == line.len() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "only part of the line was written",
        ))
    }
}

/// Middleware: a request that cannot be journaled is not answered as if it had been.
pub(crate) async fn record(
    State(journal): State<&'static Journal>,
    request: Request,
    next: Next,
) -> Response {
    match journal.append(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("journal: {error}\n"),
        )
            .into_response(),
    }
}

/// A line has four words, whatever a client sends as its id.
fn line(id: &[u8], method: &str, path: &str, version: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(id.len() + method.len() + path.len() + version.len() + 4);
    line.extend(
        id.iter()
            .map(|byte| if byte.is_ascii_graphic() { *byte } else { b'?' }),
    );
    for word in [method, path, version] {
        line.push(b' ');
        line.extend_from_slice(word.as_bytes());
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_four_words() {
        assert_eq!(line(b"7f-1", "GET", "/slow", "v1"), b"7f-1 GET /slow v1\n");
        assert_eq!(line(b"a b\xff", "GET", "/", "v1"), b"a?b? GET / v1\n");
    }
}
