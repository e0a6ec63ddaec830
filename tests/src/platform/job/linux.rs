//! Members are found by a variable in their environment.

use std::io;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::processes;

#[derive(Debug)]
pub(super) struct Group {
    name: &'static str,
    id: String,
}

// === impl Group ===

impl Group {
    #[expect(clippy::unnecessary_wraps, reason = "the other system's may fail")]
    pub(super) fn new(name: &'static str, _ends_it: bool) -> io::Result<Self> {
        let id = format!("{:016x}", fastrand::u64(..));
        Ok(Self { name, id })
    }

    pub(super) fn prepare(&self, command: &mut Command) {
        command.env(self.name, &self.id);
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the other system's does something, and may fail"
    )]
    pub(super) fn adopt(&self, _child: &Child) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        processes::with_variable(self.name, &self.id)
    }
}

pub(super) fn terminate(pid: u32) {
    send(pid, Signal::KILL);
}

/// Here the console's Ctrl-Break is SIGTERM.
pub(super) fn ask_to_stop(pid: u32) -> bool {
    send(pid, Signal::TERM)
}

fn send(pid: u32, signal: Signal) -> bool {
    let process = Pid::from_raw(pid.cast_signed());
    process.is_some_and(|process| kill_process(process, signal).is_ok())
}
