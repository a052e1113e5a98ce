//! A message of any type with every field set, and what it says in words.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// How deep messages may lie in each other; the protos have no recursion.
const DEEPEST: usize = 12;

/// How many samples show every alternative of a type.
pub(crate) fn variants(message: &MessageDescriptor) -> usize {
    fn most(message: &MessageDescriptor, depth: usize) -> usize {
        assert!(depth < DEEPEST, "{} contains itself", message.full_name());
        let here = message.oneofs().map(|oneof| oneof.fields().len());
        let below = message.fields().filter_map(|field| match field.kind() {
            Kind::Message(inner) => Some(most(&inner, depth + 1)),
            _ => None,
        });
        here.chain(below).max().unwrap_or(1)
    }
    most(message, 0).max(2)
}

/// Every field set; of alternatives the `variant`th. Even variants have small numbers, odd ones
/// the largest that fit.
pub(crate) fn message(of: &MessageDescriptor, variant: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let chosen = field.containing_oneof().is_none_or(|oneof| {
            let count = oneof.fields().len();
            oneof.fields().nth(variant % count) == Some(field.clone())
        });
        if chosen {
            let one = |n: usize| value(&field, variant + n);
            let value = match (field.is_list(), field.kind()) {
                (true, Kind::Message(_)) => Value::List(vec![one(0)]),
                (true, _) => Value::List(vec![one(0), one(1)]),
                (false, _) => one(0),
            };
            message.set_field(&field, value);
        }
    }
    message
}

fn value(field: &FieldDescriptor, n: usize) -> Value {
    let small = field.number() * 100 + n as u32;
    let large = n % 2 == 1;
    match field.kind() {
        Kind::String => Value::String(format!("{} {n} \u{e4}\u{20ac}", field.name())),
        Kind::Bytes => Value::Bytes(vec![0, 0xff, b'\r', b'\n', n as u8].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Uint32 => Value::U32(if large { u32::MAX } else { small }),
        Kind::Uint64 => Value::U64(if large { u64::MAX } else { small.into() }),
        Kind::Sint32 => Value::I32(if large { i32::MIN } else { -(small as i32) }),
        Kind::Enum(one) => {
            let numbers: Vec<i32> = one.values().map(|value| value.number()).collect();
            // Never the first, which stands for a field that is not set.
            Value::EnumNumber(numbers[1 + n % (numbers.len() - 1)])
        }
        Kind::Message(inner) => Value::Message(message(&inner, n)),
        kind => panic!("{}: no sample of {kind:?} yet", field.full_name()),
    }
}

/// A line a value: the path of names to it, and the value.
pub(crate) fn words(message: &DynamicMessage) -> Vec<String> {
    let mut lines = Vec::new();
    tell(message, "", &mut lines);
    lines
}

fn tell(message: &DynamicMessage, path: &str, lines: &mut Vec<String>) {
    assert_eq!(message.unknown_fields().count(), 0, "{path} {message:?}");
    for (field, value) in message.fields() {
        tell_value(&field, value, &format!("{path}{}", field.name()), lines);
    }
}

fn tell_value(field: &FieldDescriptor, value: &Value, path: &str, lines: &mut Vec<String>) {
    let text = match (value, field.kind()) {
        (Value::Message(inner), _) => {
            let before = lines.len();
            tell(inner, &format!("{path}."), lines);
            if lines.len() > before {
                return;
            }
            "nothing".to_owned()
        }
        (Value::List(values), _) => {
            for (n, value) in values.iter().enumerate() {
                tell_value(field, value, &format!("{path}[{n}]"), lines);
            }
            return;
        }
        (Value::EnumNumber(number), Kind::Enum(one)) => one
            .get_value(*number)
            .map_or(number.to_string(), |value| value.name().to_owned()),
        (Value::Bytes(bytes), _) => format!("{:?}", &bytes[..]),
        (Value::String(text), _) => format!("{text:?}"),
        (Value::Bool(value), _) => value.to_string(),
        (Value::U32(value), _) => value.to_string(),
        (Value::U64(value), _) => value.to_string(),
        (Value::I32(value), _) => value.to_string(),
        (value, _) => format!("{value:?}"),
    };
    lines.push(format!("{path} = {text}"));
}
