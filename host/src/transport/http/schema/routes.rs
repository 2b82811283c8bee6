//! Routes with their declarations: a route cannot be added without one.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, on},
};
use utoipa::openapi::HttpMethod;

use crate::transport::http::{api::ApiState, schema::operation::Operation};

/// Routes of one or more resources.
pub(crate) struct ApiRoutes {
    pub(crate) router: Router<ApiState>,
    /// Operations with the tags that group them.
    pub(crate) operations: Vec<(&'static str, Operation)>,
    tag: &'static str,
}

impl ApiRoutes {
    pub(crate) fn tagged(tag: &'static str) -> Self {
        Self { router: Router::new(), operations: Vec::new(), tag }
    }

    pub(crate) fn route<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, ApiState>,
        T: 'static,
    {
        let method = match operation.method {
            HttpMethod::Get => MethodFilter::GET,
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Patch => MethodFilter::PATCH,
            HttpMethod::Delete => MethodFilter::DELETE,
            _ => unreachable!("operations are made by the four constructors"),
        };
        self.router = self.router.route(operation.path, on(method, handler));
        self.operations.push((self.tag, operation));
        self
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }
}
