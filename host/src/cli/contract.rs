//! `leadwire contract`: prints the contract as data, without a server.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    cli::print,
    transport::{http, socket},
};

#[derive(clap::Args)]
pub(super) struct Contract {
    /// Document to print
    document: ContractDocument,
}

#[derive(Clone, Copy, ValueEnum)]
enum ContractDocument {
    /// HTTP interface: OpenAPI 3.1
    #[value(name = "openapi")]
    OpenApi,
    /// Events of Socket.IO: AsyncAPI 3.0
    #[value(name = "asyncapi")]
    AsyncApi,
}

pub(super) fn run(contract: &Contract) -> Result<()> {
    let text = match contract.document {
        ContractDocument::OpenApi => http::openapi(),
        ContractDocument::AsyncApi => socket::asyncapi(),
    };
    print::say(text.trim_end())
}
