//! The simulated platform as a program, with a site in the manner of the article of 2015: for
//! `loadtest compare`, which deploys to it.
//!
//! `platform LAUNCHER` says its address and the site's root in its first line, and runs until it is
//! asked to end.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use tests::platform::{Home, Iis, Module};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [launcher] = &args[..] else {
        eprintln!("platform: expected the path of the launcher");
        return ExitCode::from(2);
    };
    match serve(Path::new(launcher)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("platform: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(launcher: &Path) -> io::Result<()> {
    // Before anybody can know of us, and ask.
    let asked = asked_to_end()?;
    let home = Home::of_the_article(launcher);
    // A request that finds a kept connection closed is sent again: without that the article's app
    // would lose more.
    let module = Module {
        resends: true,
        ..Module::v1()
    };
    let iis = Iis::start(&home, module);
    let mut out = io::stdout();
    writeln!(out, "{} {}", iis.address(), home.wwwroot().display())?;
    out.flush()?;
    asked.await;
    // Some of the article's apps may just be starting or ending.
    iis.stop();
    Ok(())
}

#[cfg(unix)]
fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

#[cfg(windows)]
fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a console it runs until it is killed.
        let _ = tokio::signal::ctrl_c().await;
    })
}
