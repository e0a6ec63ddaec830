//! The operator's pages for errors and maintenance, and their placeholders.

use std::array::from_fn;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;

/// The pages that an operator has put into a folder.
#[derive(Debug)]
pub struct ErrorPages(ArcSwap<[Option<Arc<str>>; PageKind::ALL.len()]>);

/// A page, by what has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// The app did not answer.
    BadGateway,
    /// No release serves.
    Unavailable,
    /// The app did not answer in time.
    GatewayTimeout,
    /// `handoff maintenance on`
    Maintenance,
}

// === impl ErrorPages ===

impl Default for ErrorPages {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(from_fn(|_| None)))
    }
}

impl ErrorPages {
    /// Sets or removes a page.
    pub fn set(&self, kind: PageKind, page: Option<&str>) {
        let mut pages = (**self.0.load()).clone();
        pages[kind as usize] = page.map(Arc::from);
        self.0.store(Arc::new(pages));
    }

    /// Returns the page with its placeholders filled in; for a maintenance, the one for 503 in its
    /// place.
    pub(super) fn render(&self, kind: PageKind, message: &str, request_id: &str) -> Option<String> {
        let pages = self.0.load();
        let page = |kind: PageKind| pages[kind as usize].as_ref();
        let page = page(kind).or_else(|| match kind {
            PageKind::Maintenance => page(PageKind::Unavailable),
            PageKind::BadGateway | PageKind::Unavailable | PageKind::GatewayTimeout => None,
        })?;
        // The message last: what is in it is no placeholder.
        let page = page.replace("{request_id}", request_id);
        Some(page.replace("{message}", &escape(message)))
    }
}

// === impl PageKind ===

impl PageKind {
    /// All pages.
    pub const ALL: [Self; 4] = [
        Self::BadGateway,
        Self::Unavailable,
        Self::GatewayTimeout,
        Self::Maintenance,
    ];

    /// Returns the name of the page's file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::BadGateway => "502.html",
            Self::Unavailable => "503.html",
            Self::GatewayTimeout => "504.html",
            Self::Maintenance => "maintenance.html",
        }
    }

    pub(super) fn of(status: StatusCode, is_maintenance: bool) -> Option<Self> {
        match status {
            _ if is_maintenance => Some(Self::Maintenance),
            StatusCode::BAD_GATEWAY => Some(Self::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::GatewayTimeout),
            _ => None,
        }
    }
}

/// Returns the text as it is written in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_text_and_no_placeholder() {
        let pages = ErrorPages::default();
        let render = |kind| pages.render(kind, "<b> & {request_id}", "7f");
        assert_eq!(render(PageKind::Maintenance), None);
        pages.set(PageKind::Unavailable, Some("{message} ({request_id})"));
        let shown = "&lt;b&gt; &amp; {request_id} (7f)";
        assert_eq!(render(PageKind::Maintenance).as_deref(), Some(shown));
        assert_eq!(render(PageKind::BadGateway), None);
        pages.set(PageKind::Maintenance, Some("closed"));
        assert_eq!(render(PageKind::Maintenance).as_deref(), Some("closed"));
        pages.set(PageKind::Maintenance, None);
        assert_eq!(render(PageKind::Maintenance).as_deref(), Some(shown));
    }
}
