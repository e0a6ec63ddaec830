//! The twin of `bench` where /proc, epoll and most of the other proxies are missing.

/// Fits "failed to {…}".
#[derive(Debug, thiserror::Error)]
#[error("bench: it reads /proc and uses epoll, so it runs on Linux only")]
pub struct BenchError;

/// Whatever is asked for, the answer is the same.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _any: Vec<String>,
}

/// Whatever is asked for, the answer is the same.
#[derive(Debug, clap::Args)]
pub struct BackendOptions {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _any: Vec<String>,
}

/// # Errors
/// Always.
pub fn run(_options: &Options) -> Result<bool, BenchError> {
    Err(BenchError)
}

/// # Errors
/// Always.
pub fn serve(_options: &BackendOptions) -> Result<bool, BenchError> {
    Err(BenchError)
}
