//! The end of handoff, and its next start.

use parking_lot::Mutex;

use super::Running;
#[cfg(windows)]
use crate::program::handoff;
use crate::program::run;
#[cfg(unix)]
use crate::wait::eventually;

impl Running {
    /// Asks handoff to shut down: with SIGTERM; on Windows with Ctrl-C, as somebody at its console,
    /// or a service for it, does.
    pub fn ask_to_stop(&self) {
        #[cfg(unix)]
        crate::processes::signal(self.pid, rustix::process::Signal::TERM);
        #[cfg(windows)]
        {
            let mut helper = handoff();
            helper.args(["send-console-event", "ctrl-c", &self.pid.to_string()]);
            let helper = helper.output().expect("handoff can be run");
            assert!(helper.status.success(), "{helper:?}");
        }
    }

    /// Ends handoff as `kill -9` or the task manager does, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child.lock();
        child.kill().expect("end handoff");
        child.wait().expect("handoff's end");
    }

    /// Starts handoff again when it has ended, with the same options and files.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.spawn_again();
        self.address = self.wait_until("handoff listens again", |_| true).listen;
    }

    /// Starts handoff again if it has ended; returns whether it runs then. It may not be able to
    /// start in the circumstances.
    #[cfg(unix)]
    pub(crate) fn tries_to_start_again(&mut self) -> bool {
        if !self.has_ended() {
            return true;
        }
        self.spawn_again();
        let up = || self.published().map(|_| true);
        let ended = || self.has_ended().then_some(false);
        eventually(
            || self.failure("handoff listens again, or ends"),
            || up().or_else(ended),
        )
    }

    fn spawn_again(&mut self) {
        let child = run(&self.program, &self.root, &self.args, &self.variables);
        self.pid = child.id();
        self.child = Mutex::new(child);
    }
}
