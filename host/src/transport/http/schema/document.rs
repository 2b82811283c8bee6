//! The document that `GET /api/openapi.json` serves.

use utoipa::openapi::{
    Components, Info, OpenApi, Paths, Server,
    info::LicenseBuilder,
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use crate::transport::http::schema::{
    about::CONTRACT,
    crm,
    operation::{BEARER, Operation, headers},
    operator,
    shape::NamedSchema,
};

const ABOUT: &str = "Realtime CRM server. Members, codes, and values of enums may be added at any time: expect those that \
    you do not know. Every answer has `X-Request-Id`; refusals are problem details (RFC 9457).";

/// Groups of operations.
const TAGS: [(&str, &str); 9] = [
    ("Sessions", "Sign in, stay signed in, sign out."),
    ("Users", "Accounts."),
    ("Leads", "Leads, and the commands that change them."),
    ("Activities", "Notes, calls, e-mails, meetings and tasks of a lead."),
    ("Presence", "Users who are online, and viewers of a lead."),
    ("Plugins", "Plugins and their effects, for administrators."),
    ("Events", "Explanations of events, for administrators."),
    ("Audit", "Audit table, for administrators."),
    ("Server", "The server itself."),
];

/// Builds the document.
fn build(operations: &[(&'static str, Operation)], more: impl IntoIterator<Item = NamedSchema>) -> OpenApi {
    let (mut paths, mut components) = (Paths::new(), Components::new());
    for (tag, operation) in operations {
        let described = operation.describe(tag, &mut components.responses);
        paths.add_path_operation(operation.path, vec![operation.method.clone()], described);
    }
    for (name, schema) in crm::components().into_iter().chain(operator::components()).chain(more) {
        components.schemas.insert(name.into(), schema);
    }
    for (name, header) in headers() {
        components.headers.insert(name.into(), header);
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Access token of `POST /api/auth/login`, or of a trusted issuer."));
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));

    let mut info = Info::new("Leadwire", CONTRACT);
    info.description = Some(ABOUT.into());
    info.license = Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build());
    let mut document = OpenApi::new(info, paths);
    document.components = Some(components);
    document.servers = Some(vec![Server::new("/")]);
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    document.tags = Some(tags.into());
    document
}

/// Builds the text of the document, as it is served and committed; `more` are components that are declared elsewhere.
pub(crate) fn text(operations: &[(&'static str, Operation)], more: impl IntoIterator<Item = NamedSchema>) -> String {
    let mut text = serde_json::to_string_pretty(&build(operations, more)).expect("the document is plain JSON");
    text.push('\n');
    text
}
