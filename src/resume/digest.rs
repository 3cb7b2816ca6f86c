//! A short name for much data.

use serde::Serialize;

/// blake3 of named values. Length and kind go before each, so that no two lists of values are alike.
#[derive(Clone, Default)]
pub struct Digest(blake3::Hasher);

/// What is hashed before a value, so that a text and the same bytes as numbers differ.
#[derive(Clone, Copy)]
enum Kind {
    Text = 0,
    Number = 1,
    Floats = 2,
    Json = 3,
}

impl Digest {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.value(name, Kind::Text, text.as_bytes())
    }

    /// Adds a whole number.
    pub fn number(&mut self, name: &str, number: usize) -> &mut Self {
        self.value(name, Kind::Number, &(number as u64).to_le_bytes())
    }

    /// Adds numbers, bit by bit.
    pub fn floats(&mut self, name: &str, values: &[f32]) -> &mut Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.value(name, Kind::Floats, &bytes)
    }

    /// Adds what JSON can say, such as an object with its keys in alphabetical order.
    pub fn json(&mut self, name: &str, value: &impl Serialize) -> &mut Self {
        // By way of a `Value`, which sorts keys. Maps with keys that are no texts are the only ones it cannot hold.
        let value = serde_json::to_value(value).unwrap_or_default();
        self.value(name, Kind::Json, value.to_string().as_bytes())
    }

    fn value(&mut self, name: &str, kind: Kind, bytes: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), &[kind as u8], bytes] {
            self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        self
    }

    /// All that was added, as 64 lower-case hexadecimal digits.
    pub fn finish(&self) -> String {
        self.0.finalize().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_kinds_and_names_are_told_apart() {
        let digest = |fill: &dyn Fn(&mut Digest)| {
            let mut digest = Digest::new();
            fill(&mut digest);
            digest.finish()
        };
        let mut all = vec![
            digest(&|_| ()),
            digest(&|it| _ = it.text("a", "bc")),
            digest(&|it| _ = it.text("ab", "c")),
            digest(&|it| _ = it.text("a", "b").text("a", "c")),
            digest(&|it| _ = it.text("a", "").text("a", "bc")),
            digest(&|it| _ = it.json("a", &"bc")),
            digest(&|it| _ = it.number("a", 0)),
            digest(&|it| _ = it.floats("a", &[0.0, 0.0])),
            digest(&|it| _ = it.floats("a", &[0.0, -0.0])),
        ];
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
