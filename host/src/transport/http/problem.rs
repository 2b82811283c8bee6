//! Problem details: every refusal in one form, `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! A handler returns a [`Problem`]; the router's outermost layer writes it out, because only there the request's id is
//! known. Refusals that axum makes by itself go the same way.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app, auth};

#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: String,
    detail: String,
    /// Fields that are at fault.
    errors: Option<Value>,
    /// Current state of the resource, if that is the reason.
    current: Option<Value>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        Self { status, code, detail, errors: None, current: None, retry_after: None }
    }

    /// Adds the time to wait before a retry.
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Creates the problem of a request that cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// Creates a problem from a status alone, for refusals that were not made here.
    fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => ("not_found", "there is no resource at this path"),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this path does not support this method"),
            StatusCode::PAYLOAD_TOO_LARGE => ("payload_too_large", "the body is too long"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "the body must be JSON"),
            status if status.is_client_error() => ("malformed", "the request cannot be read"),
            _ => ("internal", "an internal error occurred"),
        };
        Self::new(status, code, detail)
    }

    fn body(&self, request_id: &str) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
        });
        if let Some(errors) = &self.errors {
            body["errors"] = errors.clone();
        }
        if let Some(current) = &self.current {
            body["current"] = current.clone();
        }
        body
    }
}

/// Writes the problem of a response out; a refusal without one gets the one of its status.
pub fn write_out(mut response: Response, request_id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        // `/readyz` answers 503 with a body of its own.
        None if is_json(&response) => return response,
        None => Problem::of_status(status),
    };
    let body = problem.body(request_id).to_string();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    *response.body_mut() = body.into();
    response
}

fn is_json(response: &Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="leadwire""#));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<app::Error> for Problem {
    fn from(error: app::Error) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        let problem = |status| Self::new(status, code, detail);
        match error {
            app::Error::Unauthenticated { .. } => problem(StatusCode::UNAUTHORIZED),
            app::Error::Forbidden { .. } => problem(StatusCode::FORBIDDEN),
            app::Error::NotFound(_) => problem(StatusCode::NOT_FOUND),
            app::Error::Invalid(invalid) => {
                Self { errors: Some(json!(invalid.0)), ..problem(StatusCode::UNPROCESSABLE_ENTITY) }
            }
            app::Error::Refused(refusal) => {
                Self { errors: refusal.errors(), ..problem(StatusCode::UNPROCESSABLE_ENTITY) }
            }
            app::Error::InvalidQuery { .. } => problem(StatusCode::BAD_REQUEST),
            app::Error::Conflict { current, .. } => {
                Self { current: Some(current), ..problem(StatusCode::PRECONDITION_FAILED) }
            }
            app::Error::KeyReused => problem(StatusCode::UNPROCESSABLE_ENTITY),
            app::Error::RateLimited { retry_after } => {
                Self { retry_after: Some(retry_after), ..problem(StatusCode::TOO_MANY_REQUESTS) }
            }
            app::Error::Overloaded { retry_after } => {
                Self { retry_after: Some(retry_after), ..problem(StatusCode::SERVICE_UNAVAILABLE) }
            }
            app::Error::PluginUnavailable(reason) => {
                tracing::warn!(%reason, "answered 503: a plugin is failing");
                Self { retry_after: Some(Duration::from_secs(1)), ..problem(StatusCode::SERVICE_UNAVAILABLE) }
            }
            app::Error::Busy(reason) => {
                tracing::warn!(error = &reason as &dyn std::error::Error, "answered 503: the database is busy");
                Self { retry_after: Some(Duration::from_secs(1)), ..problem(StatusCode::SERVICE_UNAVAILABLE) }
            }
            // The store logs the begin and the end of an outage.
            app::Error::DatabaseUnavailable(reason) => {
                tracing::debug!(error = &reason as &dyn std::error::Error, "answered 503: the database is unavailable");
                Self { retry_after: Some(Duration::from_secs(1)), ..problem(StatusCode::SERVICE_UNAVAILABLE) }
            }
            app::Error::DatabaseCorrupt { .. } => problem(StatusCode::INTERNAL_SERVER_ERROR),
            app::Error::Contended => {
                Self { retry_after: Some(Duration::from_secs(1)), ..problem(StatusCode::SERVICE_UNAVAILABLE) }
            }
            app::Error::Internal(reason) => {
                tracing::error!(error = &*reason as &dyn std::error::Error, "answered 500");
                problem(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl From<auth::Error> for Problem {
    fn from(error: auth::Error) -> Self {
        app::Error::from(error).into()
    }
}
