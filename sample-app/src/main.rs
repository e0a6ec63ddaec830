//! The app's process: read the overlay, parse, run, exit code. `--help` tells the rest.

mod app;
mod args;
mod body;
mod calls;
mod console;
mod record;
mod routes;
mod sessions;
mod signal;
mod state;
mod websocket;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use sample_app::overlay::{self, Overlay};

use crate::args::Args;
use crate::console::remark;

fn main() -> ExitCode {
    let overlay = match own_overlay() {
        Ok(overlay) => overlay,
        Err(error) => return failed(format_args!("cannot read its overlay: {error}")),
    };
    let args = match Args::parse_all(overlay, std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(format_args!("cannot start its runtime: {error}")),
    };
    let ended = runtime.block_on(app::run(args));
    // A crash waits for nothing.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| failed(format_args!("{error}")))
}

fn failed(why: std::fmt::Arguments<'_>) -> ExitCode {
    remark(why);
    ExitCode::FAILURE
}

fn own_overlay() -> io::Result<Option<Overlay>> {
    // The executable's path may belong to the next release by now; this link never does.
    let executable = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe()?
    };
    overlay::read(&executable)
}
