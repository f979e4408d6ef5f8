//! JSON objects as Go's `encoding/json` reads them into a struct: flannel's config and leases.
//!
//! The members are assigned one after the other, so the last of a repeated key counts, and every
//! occurrence has to have the right type. A key matches without regard to case.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of an object, in the order of the document.
#[derive(Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object; `null` is one without members.
    ///
    /// # Errors
    /// Text that is not JSON, or the value that is not an object.
    pub(super) fn parse(text: &str) -> Result<Self, NotAnObject> {
        match serde_json::from_str(text).map_err(NotAnObject::Syntax)? {
            Value::Object(_) => serde_json::from_str(text).map_err(NotAnObject::Syntax),
            Value::Null => Ok(Self::default()),
            other => Err(NotAnObject::Other(other)),
        }
    }

    /// Every value of a key, in the order of the document.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Value> + 'a {
        let members = self.0.iter().filter(move |(key, _)| folds_to(key, name));
        members.map(|(_, value)| serde_json::from_str(value.get()).unwrap_or_default())
    }

    /// The JSON text of the last value of a key: Go's `json.RawMessage`.
    pub(super) fn last_text(&self, name: &str) -> Option<&str> {
        let member = self.0.iter().rev().find(|(key, _)| folds_to(key, name));
        member.map(|(_, value)| value.get())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Why a text is not an object.
pub(super) enum NotAnObject {
    /// It is not JSON.
    Syntax(serde_json::Error),
    /// It is another value.
    Other(Value),
}

/// Whether `key` is `name`, an ASCII name, without regard to case. Two letters beyond ASCII fold to
/// ASCII ones: the long s and the Kelvin sign (Go: `encoding/json/fold.go`).
fn folds_to(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fold_as_in_go() {
        for key in ["SubnetLen", "subnetlen", "SUBNETLEN", "\u{17f}ubnetLen"] {
            assert!(folds_to(key, "SubnetLen"), "{key}");
        }
        assert!(folds_to("Bac\u{212a}end", "Backend"));
        for key in ["SubnetLen ", "Subnet", "SubnetLenn", "ŚubnetLen", ""] {
            assert!(!folds_to(key, "SubnetLen"), "{key}");
        }
    }

    #[test]
    fn members_keep_their_order() {
        let Ok(members) = Members::parse(r#"{"A":1,"a":[2,{"x":3}],"b":4,"A":"\u0041"}"#) else {
            panic!("it is an object");
        };
        let values: Vec<_> = members.values("a").map(|value| value.to_string()).collect();
        assert_eq!(values, ["1", r#"[2,{"x":3}]"#, "\"A\""]);
        assert_eq!(members.last_text("B"), Some("4"));
        assert_eq!(members.last_text("c"), None);
    }
}
