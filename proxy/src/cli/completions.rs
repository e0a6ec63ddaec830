//! Scripts with which shells complete handoff's command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Returns the script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "handoff", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).unwrap();
            for word in ["rollback", "drain-timeout", "if-idle"] {
                assert!(script.contains(word), "{shell} learns {word}");
            }
        }
    }
}
