//! Values of span attributes.

use opentelemetry::Value;

/// A value that a span can carry. It is converted only if the span is recorded.
pub trait Attribute {
    /// The value as OpenTelemetry has it.
    fn into_value(self) -> Value;
}

impl Attribute for &str {
    fn into_value(self) -> Value {
        Value::from(self.to_owned())
    }
}

impl Attribute for &String {
    fn into_value(self) -> Value {
        Value::from(self.clone())
    }
}

impl Attribute for String {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl Attribute for bool {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl Attribute for f64 {
    fn into_value(self) -> Value {
        Value::from(self)
    }
}

impl Attribute for std::net::IpAddr {
    fn into_value(self) -> Value {
        Value::from(self.to_string())
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Attribute for $integer {
            fn into_value(self) -> Value {
                // OpenTelemetry knows only signed integers of 64 bits.
                Value::from(i64::try_from(self).unwrap_or(i64::MAX))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i32, i64);
