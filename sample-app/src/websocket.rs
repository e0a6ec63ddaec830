//! WebSocket echo, and the end of it when the app stops.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::sync::watch;

/// A peer that does not read may not keep the app from ending.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells open WebSockets that the app stops, and the app that the last of them has ended.
///
/// The server cannot: to it, a connection is over once it was upgraded.
#[derive(Debug)]
pub(crate) struct Stopping(watch::Sender<bool>);

impl Stopping {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Each WebSocket holds a receiver until it has ended.
    pub(crate) async fn websockets_ended(&self) {
        self.0.closed().await;
    }
}

pub(crate) async fn echo(
    State(stopping): State<&'static Stopping>,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Before the answer, so that no WebSocket is ever uncounted.
    let mut stopping = stopping.0.subscribe();
    upgrade.on_upgrade(async move |mut socket| {
        let stopped = tokio::select! {
            () = echo_messages(&mut socket) => false,
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        if stopped {
            // Too slow to say goodbye to is as good as gone.
            let _ = tokio::time::timeout(FAREWELL, go_away(&mut socket)).await;
        }
    })
}

async fn echo_messages(socket: &mut WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // Answered by the library, which wants to be polled until the end.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }
}

async fn go_away(socket: &mut WebSocket) {
    let close = CloseFrame {
        code: close_code::AWAY,
        reason: "stopping".into(),
    };
    if socket.send(Message::Close(Some(close))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}
