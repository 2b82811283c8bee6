//! Operation of the HTTP interface: what a route takes, what it answers, and with which codes it refuses.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Content, HttpMethod, Ref, RefOr, Required,
    content::ContentBuilder,
    extensions::ExtensionsBuilder,
    header::{Header, HeaderBuilder},
    path::{self, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
    response::{Response, ResponseBuilder},
    schema::{AllOfBuilder, ObjectBuilder},
    security::SecurityRequirement,
};

use crate::{
    app::IdempotencyKey,
    domain::field::Field,
    transport::http::schema::{
        codes::{Code, OF_PLUGIN, named},
        member::parameter,
        shape::{AnySchema, either, id, open_names, reference, text, whole},
    },
};

/// Name of the security scheme.
pub(crate) const BEARER: &str = "accessToken";

/// Marks a refusal whose code may also be one that a plugin made up.
const PLUGIN_CODES: &str = "x-leadwire-plugin-codes";

/// RefusalResponses by name, each with the codes that share a status.
pub(crate) type RefusalResponses = BTreeMap<String, RefOr<Response>>;

/// Users who may call an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    Anyone,
    SignedIn,
    /// Some of those who are signed in; others get `forbidden`.
    Restricted(&'static str),
}

impl Callers {
    pub(crate) const ADMIN: Self = Self::Restricted("For ADMIN.");
}

#[derive(Debug)]
struct Body {
    component: &'static str,
    is_required: bool,
    is_patch: bool,
}

#[derive(Debug)]
struct Success {
    status: u16,
    about: &'static str,
    components: Vec<&'static str>,
    headers: Vec<&'static str>,
}

/// Declaration of an operation. What every operation of its kind has in common is added by [`Operation::codes`].
pub(crate) struct Operation {
    pub(crate) method: HttpMethod,
    pub(crate) path: &'static str,
    name: &'static str,
    summary: &'static str,
    about: Option<&'static str>,
    access: Callers,
    query: Vec<&'static Field>,
    body: Option<Body>,
    takes_key: bool,
    takes_if_match: bool,
    successes: Vec<Success>,
    codes: Vec<&'static str>,
}

impl Operation {
    /// Declares an operation for those who are signed in; `name` is the name of a function in a generated client.
    pub(crate) fn new(method: HttpMethod, path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            name,
            summary,
            about: None,
            access: Callers::SignedIn,
            query: Vec::new(),
            body: None,
            takes_key: false,
            takes_if_match: false,
            successes: Vec::new(),
            codes: Vec::new(),
        }
    }

    pub(crate) fn get(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Get, path, name, summary)
    }

    pub(crate) fn post(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Post, path, name, summary)
    }

    pub(crate) fn patch(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Patch, path, name, summary)
    }

    pub(crate) fn delete(path: &'static str, name: &'static str, summary: &'static str) -> Self {
        Self::new(HttpMethod::Delete, path, name, summary)
    }

    pub(crate) fn about(self, about: &'static str) -> Self {
        Self { about: Some(about), ..self }
    }

    pub(crate) fn access(self, access: Callers) -> Self {
        Self { access, ..self }
    }

    pub(crate) fn query(mut self, fields: &[&'static Field]) -> Self {
        self.query.extend(fields);
        self
    }

    /// Takes a body that must be there.
    pub(crate) fn body(self, component: &'static str) -> Self {
        Self { body: Some(Body { component, is_required: true, is_patch: false }), ..self }
    }

    /// Takes a merge patch.
    pub(crate) fn merge_patch(self, component: &'static str) -> Self {
        Self { body: Some(Body { component, is_required: true, is_patch: true }), ..self }
    }

    /// Takes a body that may be left out.
    pub(crate) fn optional_body(self, component: &'static str) -> Self {
        Self { body: Some(Body { component, is_required: false, is_patch: false }), ..self }
    }

    pub(crate) fn idempotent(self) -> Self {
        Self { takes_key: true, ..self }
    }

    pub(crate) fn if_match(self) -> Self {
        Self { takes_if_match: true, ..self }
    }

    pub(crate) fn answers(self, status: u16, about: &'static str, component: &'static str) -> Self {
        self.answers_any(status, about, &[component])
    }

    pub(crate) fn answers_any(mut self, status: u16, about: &'static str, components: &[&'static str]) -> Self {
        self.successes.push(Success { status, about, components: components.to_vec(), headers: Vec::new() });
        self
    }

    /// Answers 204.
    pub(crate) fn answers_nothing(self, about: &'static str) -> Self {
        self.answers_any(204, about, &[])
    }

    /// Adds headers to the answer that was declared last.
    pub(crate) fn with_headers(mut self, headers: &[&'static str]) -> Self {
        self.successes.last_mut().expect("an answer").headers.extend(headers);
        self
    }

    /// Adds refusals of its own.
    pub(crate) fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Reads or changes what plugins decide about.
    pub(crate) fn asks_plugins(self) -> Self {
        self.refuses(&["plugin_unavailable"])
    }

    /// Is a command, which a `before` plugin may refuse; its answer has `Leadwire-Seq`.
    pub(crate) fn commands(mut self) -> Self {
        if self.takes_key {
            self = self.answers_nothing("Repeated with its key after the lead was erased: there is nothing to show.");
        }
        for success in &mut self.successes {
            success.headers.push("Leadwire-Seq");
        }
        self.asks_plugins().refuses(&["invalid", OF_PLUGIN])
    }

    /// Every code of the operation: its own, and those of its kind.
    fn codes(&self) -> Vec<&'static Code> {
        let mut names = vec![
            "malformed",
            "invalid_query",
            "rate_limited",
            "internal",
            "database_corrupt",
            "database_unavailable",
            "unavailable",
            "timeout",
        ];
        if self.access != Callers::Anyone {
            names.push("unauthenticated");
        }
        if let Callers::Restricted(_) = self.access {
            names.push("forbidden");
        }
        if self.body.is_some() {
            names.extend(["request_timeout", "payload_too_large", "unsupported_media_type", "invalid"]);
        }
        if self.takes_key {
            names.extend(["invalid", "idempotency_key_reused"]);
        }
        if self.takes_if_match {
            names.push("version_conflict");
        }
        names.extend(&self.codes);
        let mut codes: Vec<_> = names.into_iter().map(named).collect();
        codes.sort_by_key(|code| (code.status, code.name));
        codes.dedup_by_key(|code| code.name);
        codes
    }

    /// Operation in the form of OpenAPI. Its refusals go to `refusals`, because many operations have the same.
    pub(crate) fn describe(&self, tag: &str, refusals: &mut RefusalResponses) -> path::Operation {
        let who = match self.access {
            Callers::Anyone => "Anyone may call it.",
            Callers::SignedIn => "For every user.",
            Callers::Restricted(who) => who,
        };
        let about = self.about.map_or_else(|| who.to_owned(), |about| format!("{about}\n\n{who}"));
        let mut operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(self.name))
            .summary(Some(self.summary))
            .description(Some(about))
            .request_body(self.body.as_ref().map(request_body));
        for parameter in self.parameters() {
            operation = operation.parameter(parameter);
        }
        for success in &self.successes {
            operation = operation.response(success.status.to_string(), success.response());
        }
        let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
        for code in self.codes() {
            by_status.entry(code.status).or_default().push(code);
        }
        for (status, codes) in by_status {
            if self.successes.iter().any(|success| success.status == status) {
                continue;
            }
            let names: Vec<&str> = codes.iter().map(|code| code.name).collect();
            let name = format!("{status}_{}", names.join("_").replace(OF_PLUGIN, "plugin"));
            let reference = Ref::from_response_name(&name);
            refusals.entry(name).or_insert_with(|| refusal(status, &codes).build().into());
            operation = operation.response(status.to_string(), reference);
        }
        if self.access != Callers::Anyone {
            operation = operation.security(SecurityRequirement::new(BEARER, Vec::<String>::new()));
        }
        operation.build()
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for piece in self.path.split('/') {
            let Some(name) = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) else { continue };
            let (schema, about): (AnySchema, _) = match (name, self.path) {
                ("seq", _) => (whole().minimum(Some(1)).into(), "Position of the event in the log."),
                ("name", _) => (text().into(), "Name of the plugin."),
                (_, path) if path.contains("/effects/") => {
                    (text().pattern(Some("^[0-9]+$")).into(), "Id of the effect.")
                }
                _ => (id().into(), "Id of the item."),
            };
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some(about));
            parameters.push(parameter.schema(Some(schema)).build());
        }
        for field in &self.query {
            let parameter_of = ParameterBuilder::new()
                .name(field.name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(field.about));
            parameters.push(parameter_of.schema(Some(parameter(field))).build());
        }
        let header = |name: &str, about: &str, schema: ObjectBuilder| {
            let header = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(about));
            header.schema(Some(schema)).build()
        };
        if self.takes_key {
            let key = text().min_length(Some(1)).max_length(Some(IdempotencyKey::MAX_CHARS)).pattern(Some("^[!-~]+$"));
            let about = "The same key with the same request within 24 hours is not carried out again.";
            parameters.push(header("Idempotency-Key", about, key));
        }
        if self.takes_if_match {
            let tags = text().pattern(Some(r#"^(\*|((W/)?"[^"]*"|[ ,])*)$"#));
            parameters.push(header("If-Match", "Version that the change builds on, such as `\"3\"`, or `*`.", tags));
        }
        parameters
    }
}

fn request_body(body: &Body) -> RequestBody {
    let content = || Content::new(Some(reference(body.component)));
    let required = if body.is_required { Required::True } else { Required::False };
    let request = RequestBodyBuilder::new().required(Some(required)).content("application/json", content());
    let request = if body.is_patch { request.content("application/merge-patch+json", content()) } else { request };
    request.build()
}

impl Success {
    fn response(&self) -> ResponseBuilder {
        let mut response = ResponseBuilder::new().description(self.about);
        let schema = match self.components[..] {
            [] => None,
            [component] => Some(reference(component)),
            _ => Some(either(self.components.iter().map(|component| reference(component)))),
        };
        if let Some(schema) = schema {
            response = response.content("application/json", ContentBuilder::new().schema(Some(schema)).build());
        }
        for name in &self.headers {
            response = response.header_ref(*name, Ref::new(format!("#/components/headers/{name}")));
        }
        response
    }
}

/// The one form of refusals: a problem with one of the codes.
fn refusal(status: u16, codes: &[&Code]) -> ResponseBuilder {
    let about: Vec<String> = codes
        .iter()
        .map(|code| match code.name {
            OF_PLUGIN => code.about.to_owned(),
            name => format!("`{name}`: {}", code.about),
        })
        .collect();
    let names: Vec<&str> = codes.iter().map(|code| code.name).filter(|name| *name != OF_PLUGIN).collect();
    let code = ObjectBuilder::new().property("code", open_names(&names, "Code of the refusal."));
    let problem = AllOfBuilder::new().item(reference("Problem")).item(code);
    let content = ContentBuilder::new().schema(Some(problem)).build();
    let response = ResponseBuilder::new().description(about.join("\n")).content("application/problem+json", content);
    let header = |response: ResponseBuilder, name: &str| {
        response.header_ref(name, Ref::new(format!("#/components/headers/{name}")))
    };
    let mark = ExtensionsBuilder::new().add(PLUGIN_CODES, true).build();
    let response = response.extensions(codes.iter().any(|code| code.name == OF_PLUGIN).then_some(mark));
    match status {
        401 => header(response, "WWW-Authenticate"),
        429 | 503 => header(response, "Retry-After"),
        _ => response,
    }
}

/// Headers of answers, by name.
pub(crate) fn headers() -> Vec<(&'static str, RefOr<Header>)> {
    let header = |schema: ObjectBuilder, about: &str| {
        RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build())
    };
    vec![
        ("ETag", header(text(), "Version of the lead in quotes, such as `\"3\"`, for `If-Match`.")),
        ("Location", header(text(), "Path of the new item.")),
        ("Leadwire-Seq", header(whole(), "Last event that the command wrote; the head of the log if it wrote none.")),
        ("Retry-After", header(whole(), "Seconds to wait before the next attempt, if it is known.")),
        ("WWW-Authenticate", header(text(), "Scheme of the token that is required.")),
    ]
}
