//! The program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use handoff::cli::output::eprint_line;
use handoff::commands::ExitStatus;
use handoff_fleet::cli::{Cli, FleetCommand};
use handoff_fleet::store::{Store, StoreError};
use handoff_fleet::{check, deploy, mirror, rollout, status};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(StoreError::File(error)),
    };
    let status = ended.unwrap_or_else(|error| {
        eprint_line(format_args!("handoff-fleet: {error}"));
        match error {
            StoreError::Url(..) => ExitStatus::Usage,
            StoreError::Lost
            | StoreError::Missing(_)
            | StoreError::Content(..)
            | StoreError::File(_)
            | StoreError::Request(_) => ExitStatus::Refused,
        }
    });
    status.into()
}

async fn run(command: FleetCommand) -> Result<ExitStatus, StoreError> {
    match command {
        FleetCommand::Deploy(options) => deploy::run(&Store::open(&options.store)?, &options).await,
        FleetCommand::Rollout(options) => {
            rollout::run(&Store::open(&options.store)?, &options).await
        }
        FleetCommand::Status(options) => {
            let format = status::Format::of(&options);
            status::run(&Store::open(&options.store)?, format).await
        }
        FleetCommand::Check(options) => {
            check::run(&Store::open(&options.store)?, options.machine).await
        }
        FleetCommand::Mirror(options) => mirror::run(Store::open(&options.store)?, &options).await,
    }
}
