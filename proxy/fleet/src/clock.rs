//! The time of the mirror and of the deploy. In the unit tests of this crate it passes at once.

pub(crate) use self::system::{now, sleep};

#[cfg(not(test))]
mod system {
    pub(crate) use tokio::time::sleep;

    pub(crate) fn now() -> std::time::Instant {
        std::time::Instant::now()
    }
}

#[cfg(test)]
mod system {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(crate) fn now() -> Instant {
        Instant::now() + SLEPT.get()
    }

    pub(crate) async fn sleep(time: Duration) {
        SLEPT.set(SLEPT.get() + time);
        tokio::task::yield_now().await;
    }
}
