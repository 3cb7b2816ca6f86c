//! Who may ask: keys, and pages of other origins.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::router::App;

/// Which pages may ask in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those of this machine.
    Localhost,
    /// These.
    Listed(Vec<String>),
}

impl Origins {
    /// `*`, `localhost`, or origins with commas between.
    pub fn parse(text: &str) -> Self {
        match text.trim() {
            "*" => Self::Any,
            "localhost" => Self::Localhost,
            list => Self::Listed(list.split(',').map(|origin| origin.trim().to_owned()).collect()),
        }
    }

    fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Localhost => is_local(origin),
            Self::Listed(list) => list.iter().any(|known| known == origin),
        }
    }
}

/// Whether a page comes from this machine, whatever its port.
fn is_local(origin: &str) -> bool {
    let Some((_, rest)) = origin.split_once("://") else { return false };
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// What needs no key.
const PUBLIC: [&str; 4] = ["/health", "/v1/health", "/models", "/v1/models"];

/// Lets requests with a key pass, and tells browsers which pages may ask.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else if is_public(&app, request.uri().path()) || has_key(&app.settings.api_keys, request.headers()) {
        next.run(request).await
    } else {
        ApiError::unauthorized().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("llama-svf"));
    let is_allowed =
        |origin: &HeaderValue| origin.to_str().is_ok_and(|text| app.settings.origins.allow(text));
    if let Some(origin) = origin.filter(is_allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-svf-mixture"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

fn is_public(app: &App, path: &str) -> bool {
    PUBLIC.contains(&path) || (app.settings.has_page && super::page::has(path))
}

fn has_key(keys: &[String], headers: &HeaderMap) -> bool {
    if keys.is_empty() {
        return true;
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| text(HeaderName::from_static("x-api-key")));
    // Hashes are compared in constant time, so that nobody learns how much of a key was right.
    let hash = given.map(|key| blake3::hash(key.trim().as_bytes()));
    keys.iter().fold(false, |found, key| found | (hash == Some(blake3::hash(key.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_local() {
        for origin in
            ["http://localhost", "http://localhost:8080", "https://127.0.0.1:3000", "http://[::1]:3000"]
        {
            assert!(is_local(origin), "{origin}");
        }
        for origin in [
            "http://evil.com",
            "http://notlocalhost",
            "http://localhost.evil.com",
            "localhost",
            "http://[::2]",
        ] {
            assert!(!is_local(origin), "{origin}");
        }
        assert!(Origins::parse("https://a.org, https://b.org").allow("https://b.org"));
        assert!(!Origins::parse("https://a.org").allow("https://b.org"));
    }
}
