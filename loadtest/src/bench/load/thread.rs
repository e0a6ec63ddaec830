//! One thread's connections.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::reply::{Progress, Reply};
use super::{ENDING, LAST_ANSWERS, Load, MEASURING, Pace, Shared};

/// How soon a thread without answers sees that it shall end.
const LOOK: Duration = Duration::from_millis(20);

/// Answers are thrown away as they come; large ones in pieces of at most this.
const SCRATCH: usize = 256 << 10;

const TIMER: u64 = u64::MAX;

pub struct Thread<'a> {
    load: &'a Load,
    shared: &'a Shared,
    number: usize,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    request: Vec<u8>,
    scratch: Vec<u8>,
    latencies: Histogram<u64>,
    done: u64,
    in_flight: usize,
    schedule: Option<Schedule>,
    /// Connections without a request; the one that has waited longest is used next.
    idle: VecDeque<usize>,
}

struct Connection {
    stream: TcpStream,
    reply: Reply,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Since when the answer is due.
    Waiting(Instant),
    /// Everything came; the server closes.
    Closing,
}

struct Schedule {
    /// epoll's own timeout is rounded up to milliseconds: that would be most of a latency.
    timer: OwnedFd,
    between: Duration,
    next: Instant,
    /// When requests were due that found no idle connection.
    late: VecDeque<Instant>,
}

// === impl Thread ===

impl<'a> Thread<'a> {
    /// Thread `number` of `count`.
    pub fn new(
        load: &'a Load,
        shared: &'a Shared,
        number: usize,
        count: usize,
    ) -> Result<Self, String> {
        let close = if load.fresh {
            "Connection: close\r\n"
        } else {
            ""
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: loadtest\r\nAccept: */*\r\n{close}\r\n",
            load.path, load.server
        );
        let failed = |error: rustix::io::Errno| error.to_string();
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let schedule = match load.pace {
            Pace::Closed => None,
            Pace::Open { per_second } => {
                let between = Duration::from_secs_f64(count as f64 / per_second.max(1.0));
                // The threads take turns.
                let shift = between.mul_f64(number as f64 / count as f64);
                let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)
                    .map_err(failed)?;
                // Edge-triggered it need not be read.
                let once = EventFlags::IN | EventFlags::ET;
                epoll::add(&epoll, &timer, EventData::new_u64(TIMER), once).map_err(failed)?;
                Some(Schedule {
                    timer,
                    between,
                    next: Instant::now() + shift,
                    late: VecDeque::new(),
                })
            }
        };
        Ok(Self {
            load,
            shared,
            number,
            epoll,
            connections: Vec::new(),
            request: request.into_bytes(),
            scratch: vec![0; SCRATCH],
            latencies: Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
                .map_err(|error| error.to_string())?,
            done: 0,
            in_flight: 0,
            schedule,
            idle: VecDeque::new(),
        })
    }

    /// Opens `share` connections and offers load on them until it is told to end.
    pub fn run(mut self, share: usize) -> Result<Histogram<u64>, String> {
        for at in 0..share {
            let stream = self.connect(at)?;
            self.connections.push(Connection {
                stream,
                reply: Reply::default(),
                state: State::Idle,
            });
            self.send(at, Instant::now())?;
            // Few at a time: what is measured may be slow at accepting many.
            while self.schedule.is_some() && self.in_flight >= 16 {
                self.turn(Instant::now() + LOOK, true)?;
            }
        }
        while self.schedule.is_some() && self.in_flight > 0 {
            self.turn(Instant::now() + LOOK, true)?;
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.next = schedule.next.max(Instant::now());
        }
        self.shared.connected.fetch_add(1, Ordering::AcqRel);

        while self.phase() != ENDING {
            let until = self.send_what_is_due()?;
            self.turn(until, false)?;
        }
        let deadline = Instant::now() + LAST_ANSWERS;
        while self.in_flight > 0 {
            if Instant::now() > deadline {
                return Err(format!(
                    "{} answers did not come within {LAST_ANSWERS:?}",
                    self.in_flight
                ));
            }
            self.turn(Instant::now() + LOOK, true)?;
        }
        Ok(self.latencies)
    }

    fn phase(&self) -> u8 {
        self.shared.phase.load(Ordering::Acquire)
    }

    /// Until when there is nothing to send.
    fn send_what_is_due(&mut self) -> Result<Instant, String> {
        let now = Instant::now();
        let Some(mut schedule) = self.schedule.take() else {
            return Ok(now + LOOK);
        };
        while schedule.next <= now {
            schedule.late.push_back(schedule.next);
            schedule.next += schedule.between;
        }
        while !schedule.late.is_empty()
            && let Some(at) = self.idle.pop_front()
        {
            if let Some(due) = schedule.late.pop_front() {
                self.send(at, due)?;
            }
        }
        let until = schedule.next.min(now + LOOK);
        self.schedule = Some(schedule);
        Ok(until)
    }

    /// Waits for answers until then, and takes those that are there. `last`: sends nothing more.
    fn turn(&mut self, until: Instant, last: bool) -> Result<(), String> {
        let left = timespec(until.saturating_duration_since(Instant::now()));
        let timeout = match &self.schedule {
            Some(schedule) if left != Timespec::default() => {
                let once = Itimerspec {
                    it_interval: Timespec::default(),
                    it_value: left,
                };
                timerfd_settime(&schedule.timer, TimerfdTimerFlags::empty(), &once)
                    .map_err(|error| error.to_string())?;
                None
            }
            Some(_) | None => Some(left),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 128];
        let (events, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        for event in events {
            let token = event.data.u64();
            if token != TIMER {
                self.receive(token as usize, last)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, last: bool) -> Result<(), String> {
        let connection = &mut self.connections[at];
        let count = match connection.stream.read(&mut self.scratch) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("a connection broke: {error}")),
        };
        match (connection.state, count) {
            (State::Closing, 0) => {
                self.in_flight -= 1;
                self.connections[at].state = State::Idle;
                self.connections[at].stream = self.connect(at)?;
                self.go_on(at, last)
            }
            (State::Closing | State::Idle, 1..) => {
                Err("bytes came that nobody asked for".to_owned())
            }
            (State::Idle, 0) => Err("the server closed an idle connection".to_owned()),
            (State::Waiting(_), 0) => Err("the server closed instead of answering".to_owned()),
            (State::Waiting(since), 1..) => {
                let progress = connection
                    .reply
                    .take(&self.scratch[..count], self.load.body)?;
                if progress == Progress::Whole {
                    self.note(since);
                    if self.load.fresh {
                        self.connections[at].state = State::Closing;
                    } else {
                        self.in_flight -= 1;
                        self.connections[at].state = State::Idle;
                        self.go_on(at, last)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The connection is free.
    fn go_on(&mut self, at: usize, last: bool) -> Result<(), String> {
        if self.schedule.is_some() {
            self.idle.push_back(at);
            Ok(())
        } else if last {
            Ok(())
        } else {
            self.send(at, Instant::now())
        }
    }

    fn note(&mut self, since: Instant) {
        self.done += 1;
        self.shared.done[self.number]
            .0
            .store(self.done, Ordering::Relaxed);
        if self.phase() == MEASURING {
            let latency = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(latency);
        }
    }

    fn send(&mut self, at: usize, due: Instant) -> Result<(), String> {
        let connection = &mut self.connections[at];
        // A request always fits into the system's buffer of a connection that has no other.
        connection
            .stream
            .write_all(&self.request)
            .map_err(|error| format!("while sending: {error}"))?;
        connection.state = State::Waiting(due);
        self.in_flight += 1;
        Ok(())
    }

    fn connect(&self, at: usize) -> Result<TcpStream, String> {
        // On loopback this waits only when the server's queue is full.
        let open = || {
            let stream = TcpStream::connect(self.load.server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &self.epoll,
                &stream,
                EventData::new_u64(at as u64),
                EventFlags::IN,
            )?;
            Ok(stream)
        };
        open().map_err(|error: std::io::Error| format!("no connection: {error}"))
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
