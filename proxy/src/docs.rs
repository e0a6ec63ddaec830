//! The manual, as it lies in `proxy/docs`: nothing but documentation.
//!
//! For those who run handoff: [`deploying`], [`operating`], [`configuration`], [`options`],
//! [`systemd`], [`iis_azure`], [`fleet`], [`observability`], [`http`], [`troubleshooting`]. For those who change it:
//! [`architecture`], [`glossary`], [`decisions`], [`debugging`].

/// Includes pages of the manual as modules.
///
/// A page defines its links at its end, as files. The definitions before it come first and so win:
/// the same links lead to modules here.
macro_rules! pages {
    ($($module:ident = $($file:literal),+ $(,)?;)+) => {$(
        #[doc = "[deploying]: crate::docs::deploying"]
        #[doc = "[digests]: crate::docs::deploying#digests"]
        #[doc = "[archives]: crate::docs::deploying#archives"]
        #[doc = "[operating]: crate::docs::operating"]
        #[doc = "[handoff.toml]: crate::docs::configuration#handofftoml"]
        #[doc = "[check]: crate::docs::configuration#handoff-check"]
        #[doc = "[options]: crate::docs::options"]
        #[doc = "[log]: crate::docs::observability#the-log"]
        #[doc = "[forwarding]: crate::docs::http#forwarding-fields"]
        #[doc = "[fleet]: crate::docs::fleet"]
        #[doc = "[troubleshooting]: crate::docs::troubleshooting"]
        #[doc = "[glossary]: crate::docs::glossary"]
        #[doc = "[decisions]: crate::docs::decisions"]
        #[doc = "[debugging]: crate::docs::debugging"]
        #[doc = ""]
        $(#[doc = include_str!(concat!("../docs/", $file, ".md"))])+
        pub mod $module {}
    )+};
}

pages! {
    deploying = "deploying";
    operating = "operating";
    configuration = "configuration";
    options = "options";
    systemd = "systemd";
    iis_azure = "iis-azure";
    fleet = "fleet";
    observability = "observability";
    http = "http";
    troubleshooting = "troubleshooting";
    architecture = "architecture";
    glossary = "glossary";
    debugging = "debugging";
    decisions =
        "decisions/0001-own-client-for-the-apps-side-of-a-request",
        "decisions/0002-workers-accept-for-themselves",
        "decisions/0003-time-limits-are-marks-not-timers",
        "decisions/0004-sockets-are-registered-with-the-reactor-late",
        "decisions/0005-a-request-is-prepared-before-its-future-exists",
        "decisions/0006-fat-lto-in-the-release-profile",
        "decisions/0007-no-via-field",
        "decisions/0008-request-ids-are-off-by-default",
        "decisions/0009-each-worker-counts-for-itself",
        "decisions/0010-tunnels-do-not-delay-a-shutdown",
        "decisions/0011-a-pause-belongs-to-the-router",
        "decisions/0012-an-artifact-is-read-again-only-after-a-change",
        "decisions/0013-configuration-is-read-by-the-watcher",
        "decisions/0014-a-refused-archive-is-named-in-the-status-by-its-digest",
        "decisions/0015-each-sidecar-decides-where-a-rollback-goes",
        "decisions/0016-memory-is-json-lines-with-checksums",
        "decisions/0017-a-standby-is-gone-before-the-next-candidate-starts",
        "decisions/0018-new-artifacts-wait-while-the-previous-release-restarts",
        "decisions/0019-pauses-between-health-checks-grow-from-10-ms",
        "decisions/0020-under-the-platform-the-first-launch-waits-for-a-request",
        "decisions/0021-a-stop-request-goes-to-the-announced-port",
        "decisions/0022-the-status-has-one-description-for-writers-and-readers",
        "decisions/0023-stale-status-files-are-removed-by-the-next-sidecar",
        "decisions/0024-handoff-deploy-wakes-a-site-with-curl",
        "decisions/0025-the-configuration-file-provides-defaults-of-the-options",
        "decisions/0026-handoff-check-does-what-a-run-would-do",
        "decisions/0027-platform-twins-for-files-apart-from-processes",
        "decisions/0028-windows-handles-are-kept-from-children-by-a-lock",
        "decisions/0029-a-job-object-of-our-own-on-windows",
        "decisions/0030-threads-end-before-the-process-does",
        "decisions/0031-user-tokens-are-handled-beside-app",
        "decisions/0032-logs-drop-the-oldest-line",
        "decisions/0033-with-a-log-file-only-trouble-goes-to-stderr",
        "decisions/0034-a-taken-admin-port-ends-nothing",
        "decisions/0035-observers-read-the-status-and-block-nothing",
        "decisions/0036-the-status-page-sets-text-only",
        "decisions/0037-the-folder-is-the-interface-between-deployers-and-sidecars",
        "decisions/0038-static-glibc-for-the-linux-program",
        "decisions/0050-clients-have-a-minimum-pace",
        "decisions/0051-a-connection-is-closed-for-sending-first",
        "decisions/0052-a-turn-ends-after-256-kib",
        "decisions/0060-a-connection-that-a-login-authenticates-belongs-to-its-client",
        "decisions/0061-aliases-of-own-fields-are-dropped-other-odd-names-pass",
        "decisions/0062-only-proxies-on-this-machine-are-trusted-by-default",
        "decisions/0070-descriptors-are-divided-at-the-start",
        "decisions/0071-a-full-sidecar-closes-what-is-idle",
        "decisions/0072-an-app-with-one-connection-is-learnt-from-its-answers",
        "decisions/0080-root-works-with-the-rights-of-a-folders-owner",
        "decisions/0081-private-copies-are-as-open-as-their-originals",
        "decisions/0090-the-content-decides-about-a-copy",
        "decisions/0091-a-copy-is-synced-after-its-launch",
        "decisions/0092-leases-only-on-local-file-systems",
        "decisions/0093-contents-are-read-once-and-written-by-us",
        "decisions/0100-another-users-listener-gets-no-request",
        "decisions/0101-a-release-that-crashes-again-and-again-rests",
        "decisions/0102-health-is-what-users-would-get",
        "decisions/0110-reported-changes-replace-looks-on-local-disks",
        "decisions/0111-the-heartbeat-is-written-in-place",
        "decisions/0112-only-a-renaming-shortens-the-settle-time",
        "decisions/0113-a-connection-is-reused-after-a-body-that-nobody-read",
        "decisions/0114-a-daemon-that-hides-is-not-hunted",
        "decisions/0115-a-missing-working-directory-is-waited-for",
        "decisions/0116-the-oldest-connection-to-the-admin-port-makes-room",
        "decisions/0117-a-tunnel-has-shorter-turns",
        "decisions/0120-new-connections-ask-who-listens",
        "decisions/0121-paths-in-a-file-have-the-rights-of-its-writers",
        "decisions/0125-a-checksum-file-names-the-deployment-of-its-artifact",
        "decisions/0130-what-runs-before-a-start-runs-once",
        "decisions/0131-a-check-never-delays-what-has-proved-itself",
        "decisions/0132-a-staged-release-takes-the-pointer-away",
        "decisions/0137-only-the-live-check-acts-on-an-app-that-does-not-answer",
        "decisions/0138-the-error-of-a-failed-app-is-searched-for-in-its-output",
        "decisions/0139-an-app-reads-its-state-in-a-file-of-its-own",
        "decisions/0144-a-maintenance-shuts-the-gate-of-the-router",
        "decisions/0145-the-reason-of-an-error-is-in-the-log",
        "decisions/0146-a-maintenance-is-healthy",
        "decisions/0147-kept-assets-are-copies-of-their-own",
        "decisions/0151-an-idle-connection-gives-its-buffers-back",
        "decisions/0152-tunnels-of-a-worker-share-a-buffer",
        "decisions/0153-an-artifact-is-read-while-it-settles",
        "decisions/0154-unneeded-copies-are-set-aside-and-removed-beside",
        "decisions/0158-ci-builds-optimized-programs-once",
        "decisions/0159-two-wines-test-side-by-side",
        "decisions/0160-the-sample-app-is-linked-without-symbols",
        "decisions/0161-the-chaos-clients-are-a-closed-loop",
        "decisions/0163-a-staged-roll-out-is-driven-by-the-deploy",
        "decisions/0164-after-a-restart-an-untried-release-comes-first",
        "decisions/0165-a-refused-newest-gives-untried-ones-their-turn",
        "decisions/0166-each-command-has-an-end-of-its-own",
        "decisions/0167-room-is-kept-for-commands-and-status",
        "decisions/0168-what-settles-is-a-later-deploy",
        "decisions/0169-responses-to-testers-are-not-compared",
        "decisions/0170-http2-is-found-by-the-parser-of-http1",
        "decisions/0171-a-request-to-an-app-of-http2-is-a-stream-with-a-handle",
        "decisions/0172-a-call-of-grpc-ends-with-a-status",
        "decisions/0173-a-removal-is-no-deployment",
        "decisions/0174-what-is-deployed-keeps-its-modes",
        "decisions/0175-scripts-that-lead-back-are-named",
        "decisions/0176-another-programs-trouble-is-a-note",
        "decisions/0177-http-2-is-proved-in-parts-of-its-own",
        "decisions/0179-the-silence-of-an-answer-is-limited-on-request",
        "decisions/0180-a-second-program-mirrors-the-store",
        "decisions/0181-those-who-deploy-name-the-machines",
        "decisions/0182-an-order-is-signed-with-the-release-before",
        "decisions/0183-a-flood-is-bytes-without-a-request",
        "decisions/0184-a-calls-deadline-is-not-the-apps-fault",
        "decisions/0185-a-websocket-is-an-upgrade-inside",
        "decisions/0186-the-next-process-remembers-crashes",
        "decisions/0187-the-anchor-is-started-without-a-command-line",
        "decisions/0190-an-anchor-keeps-what-survives-a-crash",
        "decisions/0191-the-cookie-of-sessions-goes-on-to-the-app",
        "decisions/0192-a-name-that-everybody-could-take-is-refused",
        "decisions/0193-a-launch-looks-at-files-within-a-time-limit",
        "decisions/0200-a-session-holds-its-upstream",
        "decisions/0201-a-canary-is-a-staged-release",
        "decisions/0202-an-upgrade-stands-still-before-it-hands-over",
    ;
}
