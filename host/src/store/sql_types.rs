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

/// Stores a type as another one: its name, the stored type, and how it is written and read.
macro_rules! stored_as {
    ($($name:ident: $stored:ty, $write:expr, $read:expr;)*) => {$(
        impl Type<Sqlite> for $name {
            fn type_info() -> SqliteTypeInfo {
                <$stored as Type<Sqlite>>::type_info()
            }

            fn compatible(found: &SqliteTypeInfo) -> bool {
                <$stored as Type<Sqlite>>::compatible(found)
            }
        }

        impl<'q> Encode<'q, Sqlite> for $name {
            fn encode_by_ref(&self, to: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
                let write: fn(&Self) -> $stored = $write;
                Encode::<Sqlite>::encode(write(self), to)
            }
        }

        impl Decode<'_, Sqlite> for $name {
            fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
                let read: fn($stored) -> Result<Self, BoxDynError> = $read;
                read(<$stored as Decode<Sqlite>>::decode(value)?)
            }
        }
    )*};
}

stored_as! {
    Seq: i64, |seq| integer(seq.0), |stored| Ok(Self(u64::try_from(stored)?));
    Generation: i64, |generation| integer(generation.0), |stored| Ok(Self(u64::try_from(stored)?));
    Epoch: String, |epoch| epoch.to_string(), |stored| Ok(Self::from(stored));
    PluginName: String, |name| name.to_string(), |stored| Ok(Self::stored(stored));
}

/// A client may name a number that no column can hold; nothing is stored after the largest.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
