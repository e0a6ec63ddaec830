//! Assets that the active release no longer has: `--keep-assets`.
//!
//! A page that was opened before a handoff may ask for a script of its own release. Only after the
//! active release has said that it has no such file, it is looked for among the kept ones, and at the
//! instances that have been superseded and still run.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use tower_http::services::ServeFile;

use super::access::AccessEntry;
use super::connections::Client;
use super::file_body::FileBody;
use super::response_body::ResponseBody;
use super::settings::OldAssets;

/// Suffixes of files that are no page: a page in their place is a miss.
const SUFFIXES: [&str; 20] = [
    "js", "mjs", "cjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "png", "jpg",
    "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp",
];
/// Fields of a request that decide on the answer from a file.
static ASKED: [HeaderName; 5] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];
/// Fields of the active release's answer that hold for the file as well: other origins may use it.
static KEPT_FIELDS: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::VARY,
];
/// A file whose name changes with its content never does.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// A request for an asset, which the active release perhaps no longer has.
#[derive(Debug)]
pub(super) struct AssetRequest {
    assets: Arc<OldAssets>,
    method: Method,
    path: String,
    asked: HeaderMap,
}

// === impl OldAssets ===

impl OldAssets {
    /// Returns the request if it asks for an asset.
    pub(super) fn request_for<B>(self: &Arc<Self>, request: &Request<B>) -> Option<AssetRequest> {
        let path = request.uri().path();
        let is_asset = self.prefixes.iter().any(|prefix| path.starts_with(prefix));
        if !is_asset || ![Method::GET, Method::HEAD].contains(request.method()) {
            return None;
        }
        let fields = request.headers();
        let asked = ASKED.iter().filter_map(|name| {
            let value = fields.get(name)?;
            Some((name.clone(), value.clone()))
        });
        Some(AssetRequest {
            assets: Arc::clone(self),
            method: request.method().clone(),
            path: path.to_owned(),
            asked: asked.collect(),
        })
    }
}

// === impl AssetRequest ===

impl AssetRequest {
    /// Returns `true` if the response says that there is no such asset: by its status, or by a page
    /// in its place, as single-page apps have for all they do not know.
    pub(super) fn is_missed_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let is_page = || {
            let kind = headers.get(header::CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            kind.get(..9)
                .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
        };
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => true,
            StatusCode::OK => self.is_no_page() && is_page(),
            _ => false,
        }
    }

    /// Returns the response from the kept files, if one of them has this name; `missed` is the
    /// active release's.
    pub(super) async fn find_file(
        &self,
        missed: &HeaderMap,
        client: &Rc<Client>,
        access: Option<&Rc<AccessEntry>>,
    ) -> Option<Response<ResponseBody>> {
        let path = percent_decode_str(&self.path).decode_utf8().ok()?;
        let file = self.assets.kept.load().get(&*path).cloned()?;
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.asked.clone();
        // Another sidecar may have removed it just now.
        let found = ServeFile::new(file).try_call(request).await.ok()?;
        let is_served = matches!(
            found.status(),
            StatusCode::OK
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::NOT_MODIFIED
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::RANGE_NOT_SATISFIABLE
        );
        if !is_served {
            return None;
        }
        let (mut head, content) = found.into_parts();
        let immutable = HeaderValue::from_static(IMMUTABLE);
        head.headers.insert(header::CACHE_CONTROL, immutable);
        for name in &KEPT_FIELDS {
            if let Some(value) = missed.get(name) {
                head.headers.insert(name, value.clone());
            }
        }
        let body = FileBody::new(content.boxed_unsync(), client, access);
        Some(Response::from_parts(
            head,
            ResponseBody::File(Box::new(body)),
        ))
    }

    fn is_no_page(&self) -> bool {
        let suffix = self.path.rsplit_once('.').map(|(_, suffix)| suffix);
        suffix.is_some_and(|suffix| SUFFIXES.iter().any(|it| it.eq_ignore_ascii_case(suffix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str) -> Option<AssetRequest> {
        let assets = Arc::new(OldAssets {
            prefixes: vec!["/assets/".to_owned()],
            kept: Arc::default(),
        });
        let request = Request::builder().method(method).uri(target);
        assets.request_for(&request.body(()).unwrap())
    }

    #[test]
    fn only_reads_below_a_prefix_can_be_misses() {
        assert!(request("GET", "/assets/a.js?v=1").is_some());
        assert!(request("HEAD", "/assets/a.js").is_some());
        assert!(request("POST", "/assets/a.js").is_none());
        assert!(request("GET", "/assets").is_none());
        assert!(request("GET", "/other/assets/a.js").is_none());
    }

    #[test]
    fn a_page_in_the_place_of_a_script_is_a_miss_and_any_other_answer_is_none() {
        let is_miss = |target: &str, status: u16, kind: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            request("GET", target)
                .unwrap()
                .is_missed_by(status, &headers)
        };
        for (target, status, kind, expected) in [
            ("/assets/a.js", 404, "text/plain", true),
            ("/assets/a", 410, "text/html", true),
            ("/assets/a.js", 200, "text/html; charset=utf-8", true),
            ("/assets/a.WOFF2", 200, "TEXT/HTML", true),
            ("/assets/a.js", 200, "text/javascript", false),
            ("/assets/a.html", 200, "text/html", false),
            ("/assets/", 200, "text/html", false),
            ("/assets/a.js", 403, "text/html", false),
            ("/assets/a.js", 500, "text/html", false),
            ("/assets/a.js", 304, "text/html", false),
        ] {
            assert_eq!(
                is_miss(target, status, kind),
                expected,
                "{target} {status} {kind}"
            );
        }
    }
}
