//! The announcement of each instance's state to the app itself: in its state file, and with a request
//! (`--notify`).
//!
//! Best effort: an instance that does not listen in time misses one, and nothing else waits for it. Of
//! states that follow each other meanwhile, only the last one is announced.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::watch;

use crate::deployment::status::{InstanceStatus, Phase, Status};
use crate::process::announcement::{AnnouncedState, Announcement, NotifyRequest};
use crate::release::Generation;

/// An announcement, and its ways to the app once they are known: its address and its file.
type Addressed = (Announcement, Option<SocketAddr>, Option<PathBuf>);

/// Announces states until the supervisor ends.
pub async fn announce(request: Option<NotifyRequest>, mut status: watch::Receiver<Status>) {
    let mut followed: BTreeMap<Generation, watch::Sender<Addressed>> = BTreeMap::new();
    loop {
        let found = announcements(&status.borrow_and_update());
        followed.retain(|generation, _| found.contains_key(generation));
        for (generation, addressed) in found {
            match followed.get(&generation) {
                Some(sender) => {
                    sender.send_if_modified(|last| {
                        let is_new = *last != addressed;
                        *last = addressed;
                        is_new
                    });
                }
                None => {
                    let (sender, states) = watch::channel(addressed);
                    tokio::task::spawn_local(follow(states, request.clone()));
                    followed.insert(generation, sender);
                }
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the present state of each instance.
fn announcements(status: &Status) -> BTreeMap<Generation, Addressed> {
    let finishes = match status.phase {
        Phase::Stopping => AnnouncedState::Stopping,
        Phase::Running | Phase::Unknown => AnnouncedState::Superseded,
    };
    let all: [(AnnouncedState, &[InstanceStatus]); 5] = [
        (AnnouncedState::Candidate, status.candidate.as_slice()),
        (AnnouncedState::Active, status.active.as_slice()),
        (AnnouncedState::Standby, status.standby.as_slice()),
        (finishes, &status.draining),
        (AnnouncedState::Stopping, &status.stopping),
    ];
    let addressed = |state, instance: &InstanceStatus| {
        let release = instance.release.clone();
        let announcement = Announcement { state, release };
        let file = instance.state_file.clone();
        (instance.generation, (announcement, instance.address, file))
    };
    all.into_iter()
        .flat_map(|(state, instances)| instances.iter().map(move |one| addressed(state, one)))
        .collect()
}

/// Announces the states of one instance until it has ended.
async fn follow(mut states: watch::Receiver<Addressed>, request: Option<NotifyRequest>) {
    // The launcher has written the first one.
    let mut last = AnnouncedState::Candidate;
    loop {
        let (announcement, address, file) = states.borrow_and_update().clone();
        if announcement.state != last {
            last = announcement.state;
            if let Some(file) = file.clone() {
                let content = announcement.clone();
                // On Windows a reader may keep the file locked for a while.
                let write = move || content.write_to(&file);
                let written = tokio::task::spawn_blocking(write).await;
                if let Ok(Err(error)) = written {
                    tracing::debug!(
                        event = "state_file_not_written",
                        release = %announcement.release,
                        %error,
                        "cannot write the state of an instance for its app"
                    );
                }
            }
            if let (Some(request), Some(address)) = (&request, address) {
                notify(&announcement, address, request).await;
            }
        }
        if states.changed().await.is_err() {
            if let Some(file) = file {
                // The last state may have been written after the end of the instance.
                let _ = std::fs::remove_file(file);
            }
            return;
        }
    }
}

async fn notify(announcement: &Announcement, address: SocketAddr, request: &NotifyRequest) {
    let sent = announcement.send(address, request).await;
    // One that stops may not listen any more.
    if let Err(error) = sent
        && announcement.state != AnnouncedState::Stopping
    {
        tracing::warn!(
            event = "notify_failed",
            release = %announcement.release,
            state = announcement.state.name(),
            %error,
            "an instance did not accept the request about its state (--notify)"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::*;
    use crate::deployment::status::SourceStatus;

    fn instance(generation: u64, address: SocketAddr, file: Option<&str>) -> InstanceStatus {
        let instance = serde_json::json!({"generation": generation, "release": "v", "digest": "",
            "since_ms": 1, "address": address, "state_file": file});
        serde_json::from_value(instance).unwrap()
    }

    /// Returns the body of the next request.
    async fn next_body(app: &TcpListener) -> String {
        let (mut stream, _) = app.accept().await.unwrap();
        let mut request = String::new();
        while !request.ends_with('}') {
            request.push(char::from(stream.read_u8().await.unwrap()));
        }
        stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").await.unwrap();
        assert!(request.starts_with("POST /state HTTP/1.1\r\n"), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    #[tokio::test]
    async fn each_state_reaches_the_app_as_a_request_and_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("1.json");
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = app.local_addr().unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        let (publisher, published) = watch::channel(status.clone());
        let request = "http:POST:/state".parse().ok();
        let told = async {
            tokio::task::spawn_local(announce(request, published));
            let one = || instance(1, address, file.to_str());
            status.candidate = Some(one());
            publisher.send_replace(status.clone());
            let mut states = Vec::new();
            for step in 0..4 {
                status.candidate = None;
                status.active = (step == 0).then(one);
                status.draining = Vec::from_iter((step == 1).then(one));
                status.standby = (step == 2).then(one);
                status.stopping = Vec::from_iter((step == 3).then(one));
                publisher.send_replace(status.clone());
                let body = next_body(&app).await;
                assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{body}\n"));
                states.push(serde_json::from_str::<serde_json::Value>(&body).unwrap());
            }
            states
        };
        let states = LocalSet::new().run_until(told).await;
        let names = states.iter().map(|state| state["state"].as_str().unwrap());
        let names: Vec<_> = names.collect();
        assert_eq!(names, ["active", "superseded", "standby", "stopping"]);
        assert_eq!(states[0]["release"], "v");
    }

    #[tokio::test]
    async fn an_app_that_does_not_answer_delays_no_other() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        let (publisher, published) = watch::channel(status.clone());
        let told = async {
            tokio::task::spawn_local(announce("http:POST:/state".parse().ok(), published));
            status.draining = vec![instance(1, silent.local_addr().unwrap(), None)];
            status.active = Some(instance(2, app.local_addr().unwrap(), None));
            publisher.send_replace(status);
            tokio::time::timeout(Duration::from_secs(60), next_body(&app)).await
        };
        let body = LocalSet::new().run_until(told).await.unwrap();
        assert!(body.contains("active"), "{body}");
    }
}
