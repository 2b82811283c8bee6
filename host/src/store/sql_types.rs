//! SQL types of our own types: counters are integers, the epoch is a text.

use sqlx::{
    Decode, Encode, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef},
};

use crate::domain::{
    counter::{Generation, Seq},
    id::Epoch,
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

impl Type<Sqlite> for Epoch {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }

    fn compatible(found: &SqliteTypeInfo) -> bool {
        <String as Type<Sqlite>>::compatible(found)
    }
}

impl<'q> Encode<'q, Sqlite> for Epoch {
    fn encode_by_ref(&self, to: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.to_string(), to)
    }
}

impl Decode<'_, Sqlite> for Epoch {
    fn decode(value: SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from(<String as Decode<Sqlite>>::decode(value)?))
    }
}
