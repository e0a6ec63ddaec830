//! Identities of machines: credentials that end, from endpoints such as clouds have.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::{command, eventually};

/// The client asks again five minutes before the end, or four.
const LIFE: Duration = Duration::from_secs(301);

/// A cloud's endpoints: credentials that live for moments, and a store in which there is nothing.
struct Cloud {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Number of credentials that were given.
    given: usize,
    /// The credentials of each request to the store.
    used: Vec<String>,
}

impl Cloud {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let cloud = Self {
            port: listener.local_addr().expect("its address").port(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&cloud.seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that ends early is none of the test's failures.
                let _ = answer(stream, &seen);
            }
        });
        cloud
    }

    /// Runs a mirror with these variables, and waits until it has used three credentials.
    fn await_renewed_credentials(&self, url: &str, variables: &[(&str, &str)], named: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mirror = Command::new(env!("CARGO_BIN_EXE_handoff-fleet"));
        mirror.args(["mirror", url, "--poll", "200ms", "--pointer"]);
        mirror.arg(folder.path().join("pointer.txt"));
        mirror.envs(variables.iter().copied());
        let mirror = command::start(mirror);
        let third = format!("{named}-3");
        eventually(
            || format!("{:?}: {}", self.seen, mirror.printed_errors()),
            || {
                let seen = self.seen.lock().expect("what was seen");
                seen.used.contains(&third).then_some(())
            },
        );
        let seen = self.seen.lock().expect("what was seen");
        let mut expected = seen.used.clone();
        expected.sort_by_key(|used| used.trim_start_matches(named).len());
        assert_eq!(seen.used, expected, "an old one is used again");
        for used in &seen.used {
            assert!(used.starts_with(&format!("{named}-")), "{seen:?}");
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    let (head, length) = loop {
        let read = stream.read(&mut part)?;
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = field(&head, "content-length").and_then(|value| value.parse().ok());
            break (text[..head.len()].to_owned(), length.unwrap_or(0));
        }
        if read == 0 {
            return Ok(());
        }
    };
    while request.len() < head.len() + 4 + length {
        let read = stream.read(&mut part)?;
        request.extend_from_slice(&part[..read]);
    }
    let (status, body) = reply(&head, &mut seen.lock().expect("what was seen"));
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"1\"\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes())
}

/// Returns status and body.
fn reply(head: &str, seen: &mut Seen) -> (&'static str, String) {
    let ends = SystemTime::now() + LIFE;
    let lower = head.to_lowercase();
    let role = "/latest/meta-data/iam/security-credentials/";
    if head.starts_with("PUT /latest/api/token ") {
        return ("200 OK", "session".to_owned());
    }
    if head.starts_with(&format!("GET {role}")) {
        if field(&lower, "x-aws-ec2-metadata-token") != Some("session") {
            return ("401 Unauthorized", String::new());
        }
        if head.starts_with(&format!("GET {role} ")) {
            return ("200 OK", "fleet".to_owned());
        }
        seen.given += 1;
        let (given, now) = (seen.given, humantime::format_rfc3339(SystemTime::now()));
        // In four minutes and a moment.
        let ends = humantime::format_rfc3339(ends - Duration::from_mins(1));
        let body = format!(
            r#"{{"Code":"Success","LastUpdated":"{now}","Type":"AWS-HMAC","AccessKeyId":"key-{given}","SecretAccessKey":"secret","Token":"token","Expiration":"{ends}"}}"#
        );
        return ("200 OK", body);
    }
    if head.starts_with("GET /identity?") {
        if field(&lower, "x-identity-header") != Some("secret") {
            return ("401 Unauthorized", String::new());
        }
        seen.given += 1;
        let ends = ends.duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let given = seen.given;
        let body = format!(r#"{{"access_token":"key-{given}","expires_on":"{ends}"}}"#);
        return ("200 OK", body);
    }
    let credentials = field(&lower, "authorization").unwrap_or("none");
    let key = match credentials.split_once("credential=") {
        Some((_, key)) => key.split('/').next(),
        None => credentials.strip_prefix("bearer "),
    };
    seen.used.push(key.unwrap_or(credentials).to_owned());
    if head.starts_with("PUT ") {
        ("201 Created", String::new())
    } else {
        ("404 Not Found", String::new())
    }
}

/// Returns the value of a field of a head in lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| *field == name)?;
    Some(value.trim())
}

#[test]
fn the_credentials_of_a_machines_role_are_asked_for_again_before_they_end() {
    let cloud = Cloud::start();
    let here = cloud.url("");
    let variables = [
        ("AWS_METADATA_ENDPOINT", &*here),
        ("AWS_ENDPOINT", &*here),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
    ];
    cloud.await_renewed_credentials("s3://fleet/site", &variables, "key");
}

#[test]
fn the_token_of_a_managed_identity_is_asked_for_again_before_it_ends() {
    let cloud = Cloud::start();
    let (identity, here) = (cloud.url("/identity"), cloud.url("/account"));
    let variables = [
        ("IDENTITY_ENDPOINT", &*identity),
        ("IDENTITY_HEADER", "secret"),
        ("AZURE_STORAGE_ENDPOINT", &*here),
        ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        ("AZURE_ALLOW_HTTP", "true"),
    ];
    cloud.await_renewed_credentials("az://fleet/site", &variables, "key");
}
