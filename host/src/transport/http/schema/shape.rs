//! Building blocks of JSON Schema.

use utoipa::openapi::{
    RefOr, Schema,
    extensions::ExtensionsBuilder,
    schema::{
        AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Ref, SchemaFormat,
        SchemaType, Type,
    },
};

/// Schema, or a reference to one of the components.
pub(crate) type AnySchema = RefOr<Schema>;

/// Component: a schema with a name.
pub(crate) type NamedSchema = (&'static str, AnySchema);

/// Marks a member that a plugin may hide from a role.
pub(crate) const HIDEABLE: &str = "x-leadwire-hideable";

pub(crate) fn reference(component: &str) -> AnySchema {
    Ref::from_schema_name(component).into()
}

pub(crate) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(crate) fn id() -> ObjectBuilder {
    text().format(Some(SchemaFormat::Custom("uuid".into())))
}

pub(crate) fn time() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

pub(crate) fn whole() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

pub(crate) fn flag() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean)
}

/// Any JSON value.
pub(crate) fn any() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue)
}

/// Object with members that are not described.
pub(crate) fn free() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

/// Object from names that are not known ahead to values of one kind.
pub(crate) fn map(values: impl Into<AnySchema>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(values.into()))
}

/// The same, or null.
pub(crate) fn nullable(schema: ObjectBuilder) -> ObjectBuilder {
    let mut object = schema.build();
    if let SchemaType::Type(kind) = object.schema_type {
        object.schema_type = SchemaType::Array(vec![kind, Type::Null]);
    }
    if let Some(names) = &mut object.enum_values {
        names.push(serde_json::Value::Null);
    }
    object.into()
}

/// A component, or null.
pub(crate) fn reference_or_null(component: &str) -> AnySchema {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    either([reference(component), null.into()])
}

pub(crate) fn list(items: impl Into<AnySchema>) -> ArrayBuilder {
    ArrayBuilder::new().items(utoipa::openapi::schema::ArrayItems::RefOrSchema(Box::new(items.into())))
}

/// One of these, or any other text: a later version may add a name.
pub(crate) fn open_names(names: &[&str], about: &str) -> AnySchema {
    let known = text().enum_values(Some(names.iter().copied()));
    let any_of = AnyOfBuilder::new().item(known).item(text()).description(Some(about));
    RefOr::T(Schema::AnyOf(any_of.build()))
}

/// Any of these.
pub(crate) fn either(schemas: impl IntoIterator<Item = impl Into<AnySchema>>) -> AnySchema {
    RefOr::T(Schema::AnyOf(schemas.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item).build()))
}

/// Marks a member as one that a plugin may hide.
fn hideable(schema: AnySchema) -> AnySchema {
    let mark = || Some(ExtensionsBuilder::new().add(HIDEABLE, true).build());
    RefOr::T(match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.extensions = mark();
            Schema::Object(object)
        }
        RefOr::T(Schema::AnyOf(mut any_of)) => {
            any_of.extensions = mark();
            Schema::AnyOf(any_of)
        }
        other => Schema::AllOf(AllOfBuilder::new().item(other).extensions(mark()).build()),
    })
}

/// Object, member by member.
pub(crate) struct ObjectShape(ObjectBuilder);

impl ObjectShape {
    pub(crate) fn new(about: &str) -> Self {
        let about = (!about.is_empty()).then_some(about);
        Self(ObjectBuilder::new().schema_type(Type::Object).description(about))
    }

    /// Adds a member that is always there.
    pub(crate) fn with(self, name: &str, schema: impl Into<AnySchema>) -> Self {
        Self(self.0.property(name, schema).required(name))
    }

    /// Adds a member that can be missing.
    pub(crate) fn maybe(self, name: &str, schema: impl Into<AnySchema>) -> Self {
        Self(self.0.property(name, schema))
    }

    /// Adds a member that a plugin may hide.
    pub(crate) fn hideable(self, name: &str, schema: impl Into<AnySchema>) -> Self {
        self.maybe(name, hideable(schema.into()))
    }

    /// Accepts no other members: what a client sends.
    pub(crate) fn closed(self) -> Self {
        Self(self.0.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false))))
    }

    /// Allows members that plugins add.
    pub(crate) fn open(self) -> Self {
        Self(self.0.additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true))))
    }

    pub(crate) fn example(self, example: serde_json::Value) -> Self {
        Self(self.0.examples([example]))
    }
}

impl ObjectShape {
    pub(crate) fn schema(self) -> AnySchema {
        self.into()
    }
}

impl From<ObjectShape> for AnySchema {
    fn from(shape: ObjectShape) -> Self {
        shape.0.into()
    }
}
