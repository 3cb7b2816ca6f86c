//! The page: its files are part of the program.

use axum::http::{header, HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, kind and contents of each file.
const FILES: [(&str, &str, &str); 23] = [
    ("/answer.js", SCRIPT, include_str!("page/answer.js")),
    ("/api.js", SCRIPT, include_str!("page/api.js")),
    ("/chooser.js", SCRIPT, include_str!("page/chooser.js")),
    ("/composer.js", SCRIPT, include_str!("page/composer.js")),
    ("/conversation.js", SCRIPT, include_str!("page/conversation.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/experts.js", SCRIPT, include_str!("page/experts.js")),
    ("/highlight.js", SCRIPT, include_str!("page/highlight.js")),
    ("/", HTML, include_str!("page/index.html")),
    ("/list.js", SCRIPT, include_str!("page/list.js")),
    ("/markdown.js", SCRIPT, include_str!("page/markdown.js")),
    ("/messages.js", SCRIPT, include_str!("page/messages.js")),
    ("/panel.js", SCRIPT, include_str!("page/panel.js")),
    ("/picker.js", SCRIPT, include_str!("page/picker.js")),
    ("/prometheus.js", SCRIPT, include_str!("page/prometheus.js")),
    ("/script.js", SCRIPT, include_str!("page/script.js")),
    ("/settings.js", SCRIPT, include_str!("page/settings.js")),
    ("/sides.js", SCRIPT, include_str!("page/sides.js")),
    ("/sse.js", SCRIPT, include_str!("page/sse.js")),
    ("/store.js", SCRIPT, include_str!("page/store.js")),
    ("/strip.js", SCRIPT, include_str!("page/strip.js")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/welcome.js", SCRIPT, include_str!("page/welcome.js")),
];

/// The paths of all files.
pub const PATHS: [&str; FILES.len()] = {
    let mut paths = [""; FILES.len()];
    let mut i = 0;
    while i < FILES.len() {
        paths[i] = FILES[i].0;
        i += 1;
    }
    paths
};

/// Whether `path` is one of them.
pub fn has(path: &str) -> bool {
    PATHS.contains(&path)
}

/// Nothing of the page comes from elsewhere.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A file.
pub async fn file(uri: Uri) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(path, ..)| *path == uri.path()) else {
        return ApiError::not_found("File Not Found").into_response();
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
}
