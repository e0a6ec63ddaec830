//! The folder of `--error-pages`, read again when its pages change.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::ConfigError;
use crate::cli::Run;
use crate::data_plane::{ErrorPages, PageKind};
use crate::deployment::Fingerprint;
use crate::deployment::source::absolute;
use crate::os::files;

/// The folder, and what was read of it.
#[derive(Debug)]
pub(super) struct PageFolder {
    folder: PathBuf,
    /// The state of each page when it was read; `None` if it could not be looked at.
    read: [Option<Fingerprint>; PageKind::ALL.len()],
    pages: Arc<ErrorPages>,
}

/// Returns the folder, of which nothing has been read.
pub(super) fn folder(run: &Run) -> Result<Option<PageFolder>, ConfigError> {
    let Some(folder) = run.responses.error_pages.clone() else {
        return Ok(None);
    };
    if !folder.is_dir() {
        return Err(ConfigError::Value {
            key: "--error-pages".into(),
            value: folder.display().to_string(),
            expected: "an existing folder, with pages such as 503.html",
        });
    }
    Ok(Some(PageFolder {
        folder: absolute(folder),
        read: Default::default(),
        pages: Arc::default(),
    }))
}

// === impl PageFolder ===

impl PageFolder {
    /// Returns the pages, which [`PageFolder::refresh`] keeps up to date.
    pub(super) fn pages(&self) -> Arc<ErrorPages> {
        Arc::clone(&self.pages)
    }

    /// Returns the paths of the pages, which need not exist.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        PageKind::ALL
            .map(|kind| self.folder.join(kind.file_name()))
            .into_iter()
    }

    /// Reads the pages that have changed.
    pub(super) fn refresh(&mut self) {
        for kind in PageKind::ALL {
            let path = self.folder.join(kind.file_name());
            // Not of a folder of that name, which may be large.
            let is_file = path.metadata().is_ok_and(|metadata| !metadata.is_dir());
            let found = is_file.then(|| Fingerprint::of(&path).ok()).flatten();
            if found == self.read[kind as usize] {
                continue;
            }
            self.read[kind as usize] = found;
            let page = files::read_small(&path).map(String::from_utf8);
            match page {
                Ok(Ok(page)) => {
                    self.pages.set(kind, Some(&page));
                    tracing::info!(
                        event = "error_page_read",
                        page = %path.display(),
                        "a page for errors was read"
                    );
                }
                Ok(Err(_)) => self.reject(kind, "it is no text in UTF-8"),
                Err(error) => self.reject(kind, &error.to_string()),
            }
        }
    }

    fn reject(&self, kind: PageKind, reason: &str) {
        self.pages.set(kind, None);
        tracing::warn!(
            event = "error_page_rejected",
            page = %self.folder.join(kind.file_name()).display(),
            reason,
            "a page for errors cannot be used: its clients get a text"
        );
    }
}
