//! Members of requests and parameters of queries, from the tables that they are read by.

use serde_json::Value;
use utoipa::openapi::{
    RefOr, Schema,
    schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type},
};

use crate::{
    domain::field::{Field, FieldKind, MAX_EMAIL_CHARS, MAX_JSON_BYTES, MAX_JSON_DEPTH, Need},
    transport::http::schema::shape::{
        AnySchema, ObjectShape, either, flag, free, id, list, nullable, open_names, text, time, whole,
    },
};

/// Object that creates an item or orders something.
pub(crate) fn creation(about: &str, fields: &[&Field]) -> ObjectShape {
    fields.iter().fold(ObjectShape::new(about).closed(), |shape, field| {
        let schema = accepted(field);
        match field.need {
            Need::Required => shape.with(field.name, schema),
            Need::Explicit => shape.with(field.name, nullable(schema)),
            Need::Optional => shape.maybe(field.name, nullable(schema)),
            Need::Default(json) => {
                let default: Value = serde_json::from_str(json).expect("defaults are JSON");
                shape.maybe(field.name, nullable(schema).default(Some(default)))
            }
        }
    })
}

/// Object that changes an item: what is missing stays as it is, and null removes what can be removed.
pub(crate) fn change(about: &str, fields: &[&Field]) -> ObjectShape {
    fields.iter().fold(ObjectShape::new(about).closed(), |shape, field| {
        let schema = accepted(field);
        shape.maybe(field.name, if field.is_never_null() { schema } else { nullable(schema) })
    })
}

/// Value of a field as clients read it. Plugins may change what is shown, so it has no limits.
pub(crate) fn shown(field: &Field) -> AnySchema {
    let schema = match field.kind {
        FieldKind::OneOf(names) if field.is_never_null() => return open_names(names, field.about),
        FieldKind::Flag => flag(),
        FieldKind::Integer { .. } => whole(),
        FieldKind::Time => time(),
        FieldKind::Object => return free().description(Some(field.about)).into(),
        _ => text(),
    };
    let schema = schema.description(Some(field.about));
    if field.is_never_null() { schema.into() } else { nullable(schema).into() }
}

/// Parameter of a query.
pub(crate) fn parameter(field: &Field) -> AnySchema {
    match field.kind {
        FieldKind::ManyOf(names) => {
            let items = text().enum_values(Some(names.iter().copied()));
            let array: ArrayBuilder = list(items);
            RefOr::T(Schema::Array(array.build()))
        }
        FieldKind::SortBy(names) => {
            let both = names.iter().flat_map(|name| [(*name).to_owned(), format!("-{name}")]);
            text().enum_values(Some(both)).into()
        }
        FieldKind::Id => either([id(), empty()]),
        FieldKind::IdOrNone => either([id(), text().enum_values(Some(["none", ""]))]),
        FieldKind::Time => either([time(), empty()]),
        FieldKind::TimeOrDate => {
            either([time(), text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))), empty()])
        }
        _ => {
            let mut schema = accepted(field);
            if let Need::Default(json) = field.need {
                schema = schema.default(Some(serde_json::from_str(json).expect("defaults are JSON")));
            }
            schema.description(None::<String>).into()
        }
    }
}

/// Empty value of a parameter, which is the same as none.
fn empty() -> ObjectBuilder {
    text().max_length(Some(0))
}

/// Values that are accepted for a field, null aside.
fn accepted(field: &Field) -> ObjectBuilder {
    let sized = |min: usize, max| text().min_length((min > 0).then_some(min)).max_length(Some(max));
    let schema = match field.kind {
        FieldKind::Text { min, max } | FieldKind::Secret { min, max } => sized(min, max),
        FieldKind::Email => {
            let email = text().max_length(Some(MAX_EMAIL_CHARS));
            // An empty text is the same as null where null is possible.
            if field.is_never_null() { email.format(Some(SchemaFormat::Custom("email".into()))) } else { email }
        }
        FieldKind::Currency => text().pattern(Some("^[A-Z]{3}$")),
        FieldKind::Flag => flag(),
        FieldKind::Integer { min, max } => whole().minimum(Some(min as f64)).maximum(Some(max as f64)),
        FieldKind::Time | FieldKind::TimeOrDate => time(),
        FieldKind::OneOf(names) | FieldKind::ManyOf(names) | FieldKind::SortBy(names) => {
            text().enum_values(Some(names.iter().copied()))
        }
        FieldKind::Id | FieldKind::IdOrNone => id(),
        FieldKind::Position => {
            let kinds = SchemaType::Array(vec![Type::Integer, Type::String]);
            ObjectBuilder::new().schema_type(kinds).minimum(Some(0)).pattern(Some("^[0-9]+$"))
        }
        FieldKind::Opaque => text(),
        FieldKind::Object => {
            let about = format!(
                "{} At most {MAX_JSON_BYTES} bytes of JSON and {MAX_JSON_DEPTH} levels; numbers must be exact.",
                field.about
            );
            return free().description(Some(about));
        }
    };
    schema.description(Some(field.about))
}
