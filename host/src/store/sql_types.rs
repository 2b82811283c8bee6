//! SQL types of our own types: counters are integers, names are texts.

use sqlx::{
    Decode, Encode, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef},
};

use crate::domain::{
    counter::{Generation, Seq},
    id::Epoch,
    plugin_name::PluginName,
};

macro_rules! counters {
    ($($name:ident)*) => {$(
        impl Type<Sqlite> for $name {
            fn type_info() -> SqliteTypeInfo {
                <i64 as Type<Sqlite>>::type_info()
            }

            fn compatible(found: &SqliteTypeInfo) -> bool {
                <i64 as Type<Sqlite>>::compatible(found)
            }
        }

        impl<'q> Encode<'q, Sqlite> for $name {
            fn encode_by_ref(&self, to: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
                // A client may name a number that no column can hold; nothing is stored after the largest.
                Encode::<Sqlite>::encode(i64::try_from(self.0).unwrap_or(i64::MAX), to)
            }
        }

        impl Decode<'_, Sqlite> for $name {
            fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
                Ok(Self(u64::try_from(<i64 as Decode<Sqlite>>::decode(value)?)?))
            }
        }
    )*};
}

counters! { Seq Generation }

macro_rules! texts {
    ($($name:ident: $read:expr,)*) => {$(
        impl Type<Sqlite> for $name {
            fn type_info() -> SqliteTypeInfo {
                <str as Type<Sqlite>>::type_info()
            }

            fn compatible(found: &SqliteTypeInfo) -> bool {
                <str as Type<Sqlite>>::compatible(found)
            }
        }

        impl<'q> Encode<'q, Sqlite> for $name {
            fn encode_by_ref(&self, to: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
                Encode::<Sqlite>::encode(self.to_string(), to)
            }
        }

        impl Decode<'_, Sqlite> for $name {
            fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
                Ok($read(<String as Decode<Sqlite>>::decode(value)?))
            }
        }
    )*};
}

texts! {
    Epoch: Epoch::from,
    PluginName: PluginName::stored,
}
