//! The syntax check of Go's `encoding/json`, with its error texts.
//!
//! Operators know flannel's messages about a bad config and search for them; this scanner walks
//! the text as Go's does (`encoding/json/scanner.go`), so the same mistake gets the same words.

/// Checks that `text` is one JSON value.
///
/// # Errors
/// The text that Go's `json.Unmarshal` gives for the first mistake.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner { text, at: 0, depth: 0 };
    scanner.value()?;
    match scanner.skip_space() {
        None => Ok(()),
        Some(byte) => Err(unexpected(byte, "after top-level value")),
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
}

type Scan = Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte, taken.
    fn next(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or(END)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte that is no space, not taken.
    fn skip_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn next_token(&mut self) -> Result<u8, String> {
        self.skip_space();
        self.next()
    }

    fn value(&mut self) -> Scan {
        match self.next_token()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string(),
            b'-' => match self.next()? {
                b'0' => self.fraction(),
                b'1'..=b'9' => self.integer(),
                byte => Err(unexpected(byte, "in numeric literal")),
            },
            b'0' => self.fraction(),
            b'1'..=b'9' => self.integer(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            byte => Err(unexpected(byte, "looking for beginning of value")),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Scan) -> Scan {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("exceeded max depth".to_owned());
        }
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Scan {
        let mut first = true;
        loop {
            match self.next_token()? {
                b'"' => self.string()?,
                b'}' if first => return Ok(()),
                byte => return Err(unexpected(byte, "looking for beginning of object key string")),
            }
            first = false;
            match self.next_token()? {
                b':' => self.value()?,
                byte => return Err(unexpected(byte, "after object key")),
            }
            match self.next_token()? {
                b',' => {}
                b'}' => return Ok(()),
                byte => return Err(unexpected(byte, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Scan {
        if self.skip_space() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            match self.next_token()? {
                b',' => {}
                b']' => return Ok(()),
                byte => return Err(unexpected(byte, "after array element")),
            }
        }
    }

    fn string(&mut self) -> Scan {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next()?;
                            if !byte.is_ascii_hexdigit() {
                                return Err(unexpected(
                                    byte,
                                    "in \\u hexadecimal character escape",
                                ));
                            }
                        }
                    }
                    byte => return Err(unexpected(byte, "in string escape code")),
                },
                byte @ 0..0x20 => return Err(unexpected(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn integer(&mut self) -> Scan {
        self.digits();
        self.fraction()
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// What may follow the whole part of a number.
    fn fraction(&mut self) -> Scan {
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digit(&mut self, context: &str) -> Scan {
        match self.next()? {
            b'0'..=b'9' => {
                self.digits();
                Ok(())
            }
            byte => Err(unexpected(byte, context)),
        }
    }

    /// The rest of `word`, whose first letter has been taken.
    fn literal(&mut self, word: &str) -> Scan {
        for &expected in &word.as_bytes()[1..] {
            let byte = self.next()?;
            if byte != expected {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(unexpected(byte, &context));
            }
        }
        Ok(())
    }
}

fn unexpected(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(byte))
}

/// A byte as Go's `quoteChar` shows it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0x20..=0x7e | 0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

const END: &str = "unexpected end of JSON input";
/// Go's `maxNestingDepth` is 10,000; a config needs three. The lower limit bounds our stack.
const MAX_DEPTH: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_those_of_go() {
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("  ", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("not json", "invalid character 'o' in literal null (expecting 'u')"),
            ("{}x", "invalid character 'x' after top-level value"),
            ("{} trailing", "invalid character 't' after top-level value"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00g\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("tru'", "invalid character '\\'' in literal true (expecting 'e')"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
        ] {
            assert_eq!(check(text.as_bytes()).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(check("[".repeat(1 << 20).as_bytes()).is_err());
    }

    proptest! {
        /// What passes here is JSON for serde too, and the other way round.
        #[test]
        fn agrees_with_serde(text in r#"[\[\]{}",: 0-9a-e.\\ntrufals-]{0,24}"#) {
            let ours = check(text.as_bytes()).is_ok();
            let serde = serde_json::from_str::<serde_json::Value>(&text);
            // serde refuses numbers out of range and lone surrogates; the syntax is right there.
            let theirs = match &serde {
                Ok(_) => true,
                Err(error) => {
                    let text = error.to_string();
                    text.starts_with("number out of range") || text.contains("surrogate")
                }
            };
            prop_assert_eq!(ours, theirs, "{:?}: {:?}", text, serde);
        }
    }
}
