//! handoff: a reverse proxy sidecar that makes deploying an HTTP app invisible to its users.
//!
//! It keeps the public port for good, starts the app on an internal one, notices a new artifact,
//! starts that beside the old one, checks its health, moves the traffic in one step, and drains
//! and ends the old one.
//!
//! # The way of a request, and the way of a release
//!
//! ```text
//! client ─▶ listener ─▶ worker ─▶ forward ──acquire()──▶ router ──Arc<Upstream>──▶ pooled connection ─▶ app
//!                                                          ▲ promote / withdraw
//! files ─▶ watcher ─▶ artifact ─▶ lifecycle (decides) ─▶ supervisor (does) ─▶ process ─▶ readiness
//!                                      │ every change
//!                                      └─▶ status (watch channel) ─▶ status file, admin's page and metrics
//! ```
//! Two planes that never name each other; the [`router`] is the hinge. Arrows point one way:
//! main → [`app`] → {[`control_plane`], [`data_plane`], [`process`]} → [`router`] → [`release`].
//! Between app and the planes is [`observe`], which shows what they do and names both.
//! Beside that, main → [`commands`] → {[`deployment`], [`os::files`]}: what
//! deploys and looks runs in another process, and meets the sidecars in files only.
//! Each module owns its settings; [`config`] composes them, so nothing below imports it. [`check`]
//! asks it, and runs nothing.
//!
//! # Vocabulary
//!
//! | word | meaning |
//! |---|---|
//! | **sidecar** | one running handoff process, with a random id |
//! | **artifact** | what is deployed: a file, a folder or an archive |
//! | **release** | one artifact accepted for running: id, digest, its private copy |
//! | **instance** | one running process tree of a release |
//! | **generation** | an instance's launch number within a sidecar: ordered, never reused |
//! | **upstream** | where one generation's requests go |
//! | **router** | the one pointer to the active upstream |
//! | **candidate, active, draining, standby, stopping** | the states of an instance |
//! | **handoff** | promote the candidate, drain the superseded one |
//! | **readiness** | the health check that gates promotion |
//! | **drain** | wait until nothing is in flight; **evict** what outlasts the grace period |
//! | **hold** | keep a request waiting while no upstream is active |
//! | **supervisor** | the only task that launches, promotes, drains and stops |
//! | **watcher** | turns file changes into "artifact detected" |
//!
//! # What holds it together
//!
//! - **In flight is ownership.** A request holds an `Arc<Upstream>` until its response body or
//!   tunnel ends. An upstream is drained when its last `Arc` drops; the drop only sends a message.
//!   Connection pools hold none and are emptied by message. Counters are for display.
//! - **One function decides, one task acts.** [`control_plane::lifecycle`] is pure; a test walks
//!   every order of events through it. The [`control_plane::supervisor`] performs its actions.
//! - **A candidate that fails never takes traffic**, and the active instance never notices. With
//!   nothing else to serve, a release is tried again with back-off, for ever.
//! - **Only a whole artifact is launched**, from a private copy, so the deployed file is never
//!   locked and may be overwritten in place.
//! - **Nothing outlives the sidecar**: process groups and parent-death signals on Linux, job
//!   objects on Windows.
//! - **A client sees an upstream's failure as a failure**: a truncated body aborts the response.
//! - **A request that never reached the app is sent again.** One that may have reached it is sent
//!   again once, on a new connection to the same generation or its successor, only if its method
//!   is idempotent, it has no body, and no byte of an answer was seen.
//!
//! # Where the design was changed on the way
//!
//! - An artifact that could not be accepted is not read again until it changes
//!   (`control_plane::artifact::patience`); what is the machine's fault (a full disk) is tried again
//!   for ever. A `NAME.sha256` without a digest in it blocks: half of it may be written.
//! - What Unix and Windows do differently with *files* (leases, share modes, links) lives in
//!   twins of its own, [`os::files`]: it has nothing to do with processes. `cfg` stays in
//!   [`process`], [`os`], the functions of `data_plane::listener` that set a
//!   socket option, accept, or know a taken port, `data_plane::socket`, and the default cache folder in
//!   [`config`].
//! - What children must not inherit on Windows is a module below both planes, [`os::inherit`]: one
//!   mutex covers "accept a connection and unmark it" in one and "start a process" in the other.
//!   A list of the handles to inherit (`PROC_THREAD_ATTRIBUTE_HANDLE_LIST`) would cost the accepting
//!   nothing, but the standard library cannot be given one yet, and its `Command` is worth more.
//! - The windows job object is ours and not process-wrap's: that one fails where a job is
//!   refused, waits for the whole tree instead of the root, and on Unix occupies a thread for it.
//! - The app's side of a request is not hyper's client but ours ([`data_plane::wire`], pure, and
//!   `data_plane::exchange`). A worker drives the connection inside the request: no task of its
//!   own, no channels between two tasks, and the head stays until an answer begins, so that it can
//!   be sent again without a copy. That took a third of the instructions of a request (29.8k to
//!   20.4k, callgrind). It also tells "no byte of an answer came" from every other failure.
//! - Workers accept for themselves instead of being dealt connections, unless one has clearly more
//!   than another: with a new connection for each request that is a seventh of the CPU time.
//! - Time limits are not timers but marks that a sweep looks at twice a second
//!   (`data_plane::activity`): hyper's header timer cannot tell an idle connection from a slow
//!   head, and costs each request a boxed timer.
//! - The reactor is told of an accepted socket only when there is something to wait for
//!   (`data_plane::stream`): a request that came along with its connection is read, forwarded and
//!   answered without. That spares two system calls of eight where each request has a connection of
//!   its own.
//! - hyper is told that clients may close their half, so that it does not look for the end of the
//!   stream twice in every request; the sweep does, twice a second, and sees more.
//! - On Unix bytes are sent and received by the system's own calls and not by libc's, which are
//!   cancellation points of threads (`data_plane::socket`).
//! - A request is made ready for the app before its future is made, which so is half as large and
//!   comes from the allocator's cache.
//! - The release profile links with fat LTO: a thirtieth of the instructions of a request.
//! - What is said of the client is written behind the request's own fields and not put into their
//!   map, which would have to grow for it: a tenth of the instructions of a request.
//! - No `Via`, though RFC 9110, section 7.6.3 asks for one: nginx and others that may be the app
//!   send nothing compressed to whoever sends it, and handoff is to change nothing that users see.
//! - The status types are read back by the commands: one description of the schema, and every key
//!   that was added later has a default. A sidecar is dead for a command when its heartbeat stands
//!   still for ten seconds, whatever the clocks of two machines say, or when its process is gone from
//!   this machine (which the status names; Azure's sandboxes see no process of each other).
//! - Each sidecar writes only its own files, with one exception: of the status files that killed ones
//!   left, it removes at its start those older than a day, but for ten. HttpPlatformHandler 1.2 ends by
//!   force only, and every command reads them all.
//! - An archive that can never be accepted has no launch and so no handoff: the status names its content
//!   (`artifact_refused`), so that a deploy of it ends at once.
//! - `handoff deploy` wakes a sleeping site with `curl`: a TLS library would be there for one request
//!   in the life of a deploy.
//! - The values of `handoff.toml` become the defaults of the options ([`cli::parse`]): the same parser
//!   and the same list of options serve it, the environment and the command line, and clap itself
//!   says which of them a value came from.
//! - The configuration and the app's variables are read again by the watcher, in front of everything
//!   else it looks at, and not at each launch: a share that hangs never holds up a restart. What is
//!   launched is what was last read, and a change that comes later is a handoff.
//! - `handoff check` accepts the artifact as a run would, into a cache that is gone afterwards: what it
//!   says is what would happen, not what somebody thinks would.
//! - A rollback that names no release is decided by each sidecar, which says where it goes: only it
//!   knows what is on its way, and what it still has.
//! - A pause is the router's: what is promoted meanwhile is set aside there, so that the lifecycle
//!   and the way of a request know nothing of it.
//! - Release memory is JSON lines, each with its checksum, replaced as a whole under a lock: a cut
//!   file gives all the records before the cut.
//! - A standby has to be *gone* before the next candidate starts, not only asked to end, unless
//!   nothing serves: then nobody waits for it.
//! - While what served before starts again, an artifact that is detected waits for its trial until
//!   that serves, unless it fails to start: alone, a bad one would keep requests waiting for as long
//!   as a start may take. So does, after a restart, what was on trial when the sidecar was killed:
//!   launches are remembered as soon as they are made.
//! - A rollback that is asked for refuses what it leaves, and with it the newest artifact: the
//!   pointer still names that, and a restart would else bring it back.
//! - Under the platform the first instance waits for the first request's *head*, not its first byte:
//!   the router knows of it anyway ([`router::Router::wanted`]), and nothing is added to the way of a
//!   byte. Releases are held back in [`app`], in front of the supervisor.
//! - A stop by request (`--stop http:…`) goes to the port that the app was told, not to the address
//!   where it was found: the same, and known before it is ready.
//! - With a log file nothing but trouble goes to stderr: both would be twice the same under the
//!   platform, whose own file never ends.
//! - [`user_tokens`] is beside `app`: it joins what the data plane finds in requests with what only
//!   [`process`] may touch.
//! - What is counted is counted by each worker in numbers of its own (`data_plane::tally`), and only
//!   with `--admin`: 182 instructions a request of 19,774 (callgrind), and eight without it, most of them
//!   for the two looks at the clock. Prometheus' client library only writes the text.
//! - An admin port that is taken ends nothing: two sidecars of one configuration overlap under IIS.
//! - Logs are written by threads of our own behind a queue that drops the oldest line
//!   (`telemetry::queue`): tracing-appender drops the newest, and the last lines before an end are the
//!   ones that tell of it. What else goes into files, apps' output and the access log, is joined with
//!   it in [`telemetry::sinks`]. How full files are called is said in [`os::files`], as the log writes
//!   them and a command reads them.
//! - Whatever runs has ended before the process does, or hangs ([`os::thread`]): an end that cuts off
//!   threads may itself never come.
//! - At shutdown nobody waits for tunnels, which end when somebody wants them to: once the port is closed
//!   they are asked to, and cut two seconds later. A connection that was accepted last may send its
//!   request first.
//! - `--request-id` is off by default: an app that makes its own would be given another one.
//! - [`observe::event_hook`] and [`observe::systemd`] look at the same status as everybody else, and nothing waits for
//!   them: systemd's socket is written to by a thread, as its queue may be full.
//! - The page is told everything by events and sets it as text; its policy knows its one script and
//!   one style by their digests.
//! - The pauses between health checks grow from 10 ms to the configured interval: most apps are
//!   ready sooner than the first 250 ms.

pub mod app;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod deployment;
pub mod observe;
pub mod os;
pub mod process;
pub mod release;
pub mod router;
pub mod telemetry;
pub mod user_tokens;
