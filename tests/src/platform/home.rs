//! The folders of one site as Azure lays them out, `%HOME%` and below.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::TempDir;

use super::expand::Environment;
use super::launch;
use super::web_config::{Schema, WebConfig};
use crate::binaries::{self, write_or_spawn};
use crate::release::Release;
use crate::status::Status;

/// The repository's own.
pub const TOP_LEVEL: &str = include_str!("../../../web.config");

/// Variables of our own environment that a worker process has, too.
const PASSED_ON: [&str; 4] = ["PATH", "SystemRoot", "ComSpec", "PATHEXT"];

/// A site's files. Ends with this value, after each [`super::Iis`] that runs them.
#[derive(Debug)]
pub struct Home {
    // Removed when this is dropped.
    _folder: TempDir,
    root: PathBuf,
    environment: Environment,
}

// === impl Home ===

impl Home {
    /// A site with the top-level `web.config`, and handoff where that says it is.
    pub fn new() -> Self {
        Self::edited(&[])
    }

    /// Makes a home with other words in `web.config`: each `(old, new)` has to apply.
    pub fn edited(edits: &[(&str, &str)]) -> Self {
        let mut text = TOP_LEVEL.to_owned();
        for (old, new) in edits {
            assert!(text.contains(old), "web.config has no {old:?}");
            text = text.replace(old, new);
        }
        let home = Self::with_web_config(&text);
        home.install(binaries::handoff());
        // Short where a test is not about it.
        home.setting("HANDOFF_POLL", "500ms")
            .setting("HANDOFF_SETTLE", "200ms")
    }

    /// A site whose server process is `sample-app` itself: with these arguments, and these further
    /// attributes and children of `<httpPlatform>`.
    pub fn of_sample_app(arguments: &str, attributes: &str, children: &str) -> Self {
        let home = Self::with_web_config(&format!(
            r#"<configuration><system.webServer>
             <handlers>
               <add name="p" path="*" verb="*" modules="httpPlatformHandler" resourceType="Unspecified" />
             </handlers>
             <httpPlatform processPath="%HOME%\app\sample-app.exe" arguments="{arguments}"
               stdoutLogEnabled="true" stdoutLogFile="\\?\%HOME%\LogFiles\app" {attributes}>{children}</httpPlatform>
           </system.webServer></configuration>"#
        ));
        home.install(binaries::sample_app());
        home
    }

    /// A site whose app deploys itself as in the article of 2015: `launcher` starts what
    /// `_artifact.txt` names in `_target`. Nothing is there yet.
    pub fn of_the_article(launcher: &Path) -> Self {
        let home = Self::with_web_config(
            r#"<configuration><system.webServer>
             <handlers>
               <add name="p" path="*" verb="*" modules="httpPlatformHandler" resourceType="Unspecified" />
             </handlers>
             <httpPlatform processPath=".\launcher.exe" arguments="launch -port %HTTP_PLATFORM_PORT%"
               stdoutLogEnabled="true" stdoutLogFile="\\?\%HOME%\LogFiles\app"
               startupTimeLimit="60" startupRetryCount="3" rapidFailsPerMinute="100" />
           </system.webServer></configuration>"#,
        );
        home.install(launcher);
        fs::create_dir_all(home.wwwroot().join("_target")).expect("a folder");
        home
    }

    /// A site with this `web.config`, and nothing else.
    pub fn with_web_config(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = if cfg!(windows) {
            // The canonical path begins with `\\?\`, which nobody's `%HOME%` does.
            folder.path().to_owned()
        } else {
            // The system may know it by another path, and shows that one.
            fs::canonicalize(folder.path()).expect("a folder")
        };
        let mut environment = Environment::default();
        for name in PASSED_ON {
            if let Ok(value) = std::env::var(name) {
                environment.set(name, &value);
            }
        }
        let shared = root.join("home");
        environment.set("HOME", shared.to_str().expect("a path that is text"));
        environment.set("APP_POOL_ID", "site");
        environment.set("WEBSITE_SITE_NAME", "site");
        let home = Self {
            _folder: folder,
            root,
            environment,
        };
        for folder in [home.wwwroot(), home.releases()] {
            fs::create_dir_all(folder).expect("a folder");
        }
        home.configure(text);
        home
    }

    /// An app setting: a variable of the worker process.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.environment.set(name, value);
        self
    }

    /// Puts a program where `processPath` looks for it.
    pub fn install(&self, program: &Path) {
        let config = WebConfig::parse(&self.web_config(), Schema::V1).expect("a web.config");
        let target = launch::program(&config, &self.environment, &self.wwwroot());
        let _alone = write_or_spawn();
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        // Over what may be there. On Windows no link of a program that runs could be removed.
        let _ = fs::remove_file(&target);
        let linked = if cfg!(windows) {
            None
        } else {
            fs::hard_link(program, &target).ok()
        };
        linked
            .map_or_else(|| fs::copy(program, &target).map(drop), Ok)
            .expect("a program");
    }

    /// Replaces `web.config`.
    pub fn configure(&self, text: &str) {
        fs::write(self.wwwroot().join("web.config"), text).expect("a web.config");
    }

    /// Makes `web.config` look changed, as a deployment of Kudu's ends.
    pub fn touch_web_config(&self) {
        let file = File::options()
            .append(true)
            .open(self.wwwroot().join("web.config"));
        file.and_then(|file| file.set_modified(SystemTime::now()))
            .expect("a new time");
    }

    /// Uploads `release` and points to it.
    pub fn deploy(&self, release: impl Into<Release>) {
        let release = release.into();
        let path = self.releases().join(release.file_name());
        release.write_to(&path);
        self.point_to(&path);
    }

    /// Replaces the pointer file: a reader sees the old content or the new.
    pub fn point_to(&self, artifact: &Path) {
        let content = format!("{}\n", artifact.display());
        crate::source::point(&self.site(), content.as_bytes());
    }

    /// Returns the statuses that the sidecars of this site publish.
    pub fn sidecars(&self) -> Vec<Status> {
        Status::all(&self.site().join("handoff-state"))
    }

    /// Everything that has been written to `LogFiles`.
    pub fn log(&self) -> String {
        let files = fs::read_dir(self.path().join("LogFiles"));
        let files = files.into_iter().flatten().flatten();
        let contents = files.filter_map(|file| fs::read(file.path()).ok());
        contents
            .map(|content| String::from_utf8_lossy(&content).into_owned())
            .collect()
    }

    /// `%HOME%`.
    pub fn path(&self) -> PathBuf {
        self.root.join("home")
    }

    /// `%HOME%\site`.
    pub fn site(&self) -> PathBuf {
        self.path().join("site")
    }

    /// `%HOME%\site\releases`.
    pub fn releases(&self) -> PathBuf {
        self.site().join("releases")
    }

    /// `%HOME%\site\wwwroot`, the site's root.
    pub fn wwwroot(&self) -> PathBuf {
        self.site().join("wwwroot")
    }

    /// All that belongs to this site, also what is local to the machine.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the environment of a worker process on this machine.
    pub(super) fn environment_on(&self, machine: &str) -> Environment {
        let mut environment = self.environment.clone();
        environment.set("WEBSITE_INSTANCE_ID", machine);
        let local = self.root.join(machine);
        let temporary = local.join("temp");
        fs::create_dir_all(&temporary).expect("a folder");
        for (name, folder) in [
            ("LOCALAPPDATA", &local),
            ("XDG_CACHE_HOME", &local),
            ("TEMP", &temporary),
            ("TMP", &temporary),
            ("TMPDIR", &temporary),
        ] {
            environment.set(name, folder.to_str().expect("a path that is text"));
        }
        environment
    }

    fn web_config(&self) -> String {
        fs::read_to_string(self.wwwroot().join("web.config")).expect("a web.config")
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}
