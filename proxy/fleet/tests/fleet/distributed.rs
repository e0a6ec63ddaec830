//! The files that are given away, as `.ci/dist --with-fleet` makes them.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, net};

use tests::{Connection, command, eventually, manual, tools};

use crate::store::Store;

/// A machine with a name server and a store, but without a system: the arguments are a program and the
/// folder that is its root.
const BARE_MACHINE: &str = r#"
import fcntl, http.server, os, shutil, socket, struct, subprocess, sys, threading
program, root = sys.argv[1:]
UP = 0x1 | 0x40
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sH14x", b"lo", UP))
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
asked = set()
def answer_names():
    while True:
        asks, who = names.recvfrom(512)
        name, at = [], 12
        while asks[at]:
            name.append(asks[at + 1 : at + 1 + asks[at]].decode())
            at += 1 + asks[at]
        asked.add(".".join(name))
        question = asks[12 : at + 5]
        is_a = question[-4:-2] == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if is_a else b""
        counts = struct.pack(">4H", 1, int(is_a), 0, 0)
        names.sendto(asks[:2] + b"\x81\x80" + counts + question + record, who)
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<ListBucketResult></ListBucketResult>"
        self.send_response(200 if "list-type" in self.path else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
store = http.server.HTTPServer(("127.0.0.1", 0), Empty)
for serve in (answer_names, store.serve_forever):
    threading.Thread(target=serve, daemon=True).start()
shutil.copy(program, root + "/handoff-fleet")
environment = {
    "AWS_ENDPOINT": f"http://store.example:{store.server_port}", "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
    "SSL_CERT_FILE": "/authorities.pem",
}
def enter():
    os.chroot(root)
    os.chdir("/")
ended = subprocess.run(["/handoff-fleet", "status", "s3://fleet/site"], env=environment, preexec_fn=enter)
print("asked for", *asked, flush=True)
sys.exit(ended.returncode)
"#;

fn distributed(name: &str) -> PathBuf {
    let file = manual::root().join("dist").join(name);
    assert!(file.is_file(), "{}: .ci/dist --with-fleet", file.display());
    file
}

#[test]
#[ignore = "needs `.ci/dist --with-fleet`"]
fn the_static_program_looks_up_names_where_there_is_no_system() {
    if !tools::has("unshare") || !tools::has("python3") {
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    fs::copy(authorities, root.path().join("authorities.pem")).expect(authorities);
    let mut bare = Command::new("unshare");
    bare.args(["--net", "--map-root-user", "python3", "-c", BARE_MACHINE]);
    bare.arg(distributed("handoff-fleet")).arg(root.path());
    let ended = command::start(bare).end().with(0);
    ended.saying(&["nothing is deployed", "asked for store.example"]);
}

#[test]
#[ignore = "needs `.ci/dist --with-fleet`, and `$WINE_RUNNER` of `.ci/wine`"]
fn the_windows_program_mirrors_a_store() {
    let runner = env::var_os("WINE_RUNNER").expect("WINE_RUNNER");
    let Some(store) = Store::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| format!("Z:{}", folder.path().join(name).display());
    let pointer = path("pointer.txt");
    let port = net::TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
    let address = port.expect("a port");
    let mut sidecar = Command::new(&runner);
    sidecar.arg(distributed("handoff.exe"));
    sidecar.args([
        "run",
        "--listen",
        &address.to_string(),
        "--pointer",
        &pointer,
    ]);
    sidecar.args([
        "--cache",
        &path("cache"),
        "--",
        "{artifact}",
        "--port",
        "{port}",
    ]);
    let sidecar = command::start(sidecar);
    let args = ["mirror", "--poll", "300ms", "--pointer", &pointer];
    let mut mirror = store.fleet(&args);
    mirror = {
        let mut under_wine = Command::new(&runner);
        under_wine
            .arg(distributed("handoff-fleet.exe"))
            .args(mirror.get_args());
        let variables = mirror.get_envs();
        under_wine.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        under_wine
    };
    let mirror = command::start(mirror);
    store.await_members(1);
    let app = manual::root().join("target/x86_64-pc-windows-gnu/debug/sample-app.exe");
    assert!(app.is_file(), "{}", app.display());
    store
        .begin_deploy(&app, &[])
        .end()
        .with(0)
        .saying(&["sample-app.exe", "runs on"]);
    let answer = eventually(
        || format!("{}{}", sidecar.printed_errors(), mirror.printed_errors()),
        || {
            let opened = Connection::open(address);
            opened.and_then(|mut open| open.get("/version")).ok()
        },
    );
    assert_eq!(answer.status, 200);
}
