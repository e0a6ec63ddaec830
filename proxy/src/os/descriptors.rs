//! The limit of open descriptors: as high as it may be in this process, and what it was for the
//! programs that this process starts.

pub use os::{limit, raise_limit, restore_limit};

#[cfg(unix)]
#[expect(unsafe_code, reason = "pre_exec has no safe interface")]
mod os {
    use std::sync::OnceLock;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tokio::process::Command;

    /// The limits before and after they were raised.
    static RAISED: OnceLock<RaisedLimit> = OnceLock::new();

    #[derive(Clone, Copy, Debug)]
    struct RaisedLimit {
        original: Rlimit,
        raised: Rlimit,
    }

    /// Raises the soft limit to the hard one, as every connection takes a descriptor or two. The
    /// usual soft limit of 1024 protects programs that call select(2), which this one does not.
    pub fn raise_limit() {
        let original = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: original.maximum,
            maximum: original.maximum,
        };
        if raised != original && setrlimit(Resource::Nofile, raised).is_ok() {
            // It is raised once.
            let _ = RAISED.set(RaisedLimit { original, raised });
        }
    }

    /// Returns the maximum number of open descriptors, if there is one.
    pub fn limit() -> Option<usize> {
        let limit = getrlimit(Resource::Nofile).current?;
        usize::try_from(limit).ok()
    }

    /// Lets a program start with the limit that this process was started with. A limit that was set
    /// from outside since then stays.
    pub fn restore_limit(command: &mut Command) {
        let Some(&RaisedLimit { original, raised }) = RAISED.get() else {
            return;
        };
        let restore = move || {
            if getrlimit(Resource::Nofile) == raised {
                setrlimit(Resource::Nofile, original)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes two system calls, allocates nothing and
        // takes no lock.
        unsafe { command.pre_exec(restore) };
    }
}

#[cfg(windows)]
mod os {
    use tokio::process::Command;

    /// Does nothing: Windows limits handles by memory alone.
    pub fn raise_limit() {}

    /// Returns `None`: there is no limit.
    pub fn limit() -> Option<usize> {
        None
    }

    /// Does nothing: there is no limit.
    pub fn restore_limit(_: &mut Command) {}
}
