//! A quantity as it stands in a manifest.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::quantity::{Quantity, QuantityError};

/// The text of a quantity, exactly as it was written: `1024Mi` stays `1024Mi`.
///
/// It is decoded from text or a number, and is not looked into: what is no quantity is a fault of the one Database that
/// has it, never an error of the list that the Database is in.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct QuantityText(String);

/// What the schema lets through: no sign, at most two digits of exponent (the API server compares quantities in CEL, and
/// a longer exponent would make it work for minutes), and no more than [`QuantityText::MAX`] characters.
pub(crate) const PATTERN: &str =
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$";

impl QuantityText {
    /// Most characters that the schema lets through.
    pub const MAX: usize = 32;

    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The quantity that it stands for.
    pub fn parse(&self) -> Result<Quantity, QuantityError> {
        self.0.parse()
    }
}

impl From<&str> for QuantityText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<Quantity> for QuantityText {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl fmt::Display for QuantityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = QuantityText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity: text such as \"500m\" or \"2Gi\", or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<QuantityText, E> {
                Ok(QuantityText::new(text))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<QuantityText, E> {
                Ok(QuantityText(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Text or a whole number, as Kubernetes' own quantities. A number with a fraction must stand in quotes.
impl JsonSchema for QuantityText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": PATTERN,
            "maxLength": Self::MAX,
        })
    }
}
