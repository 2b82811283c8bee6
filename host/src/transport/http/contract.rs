//! `/api`: which server and which contract this is, and the contract as data.

use std::sync::LazyLock;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::transport::http::{
    api::ApiState,
    schema::{
        about::{CONTRACT, FEATURES},
        operation::{Callers, Operation},
        routes::ApiRoutes,
    },
};

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Server")
        .route(
            Operation::get("/api", "readAbout", "Read which server this is").access(Callers::Anyone).answers(
                200,
                "Name, versions, mode and features.",
                "About",
            ),
            about,
        )
        .route(
            Operation::get("/api/openapi.json", "readOpenApi", "Read this document").access(Callers::Anyone).answers(
                200,
                "OpenAPI 3.1.",
                "Document",
            ),
            read_openapi,
        )
        .route(
            Operation::get("/api/asyncapi.json", "readAsyncApi", "Read the events of Socket.IO")
                .access(Callers::Anyone)
                .answers(200, "AsyncAPI 3.0.", "Document"),
            read_asyncapi,
        )
}

/// Documents that describe the contract, as they are served.
#[derive(Clone, Copy)]
pub(crate) struct Documents {
    pub(crate) openapi: &'static LazyLock<Bytes>,
    pub(crate) asyncapi: &'static LazyLock<Bytes>,
}

#[derive(Serialize)]
struct ServerInfo {
    name: &'static str,
    version: &'static str,
    contract: &'static str,
    mode: &'static str,
    features: [&'static str; FEATURES.len()],
}

async fn about(State(api): State<ApiState>) -> Json<ServerInfo> {
    let version = env!("CARGO_PKG_VERSION");
    Json(ServerInfo { name: "leadwire", version, contract: CONTRACT, mode: api.mode, features: FEATURES })
}

async fn read_openapi(Extension(documents): Extension<Documents>) -> Response {
    json((**documents.openapi).clone())
}

async fn read_asyncapi(Extension(documents): Extension<Documents>) -> Response {
    json((**documents.asyncapi).clone())
}

fn json(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
