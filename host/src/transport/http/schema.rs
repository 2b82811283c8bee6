//! The HTTP contract as data: OpenAPI 3.1.
//!
//! Each route is declared with an [`Operation`](operation::Operation) beside its handler; members of requests come from
//! the tables that they are read by, and answers from the shapes in here. RefusalResponses come from one table of codes.

pub(crate) mod about;
pub(crate) mod codes;
pub(crate) mod crm;
pub(crate) mod document;
pub(crate) mod member;
pub(crate) mod operation;
pub(crate) mod operator;
pub(crate) mod routes;
pub(crate) mod shape;
