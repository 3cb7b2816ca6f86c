//! A mixture of experts: weights α by name, standing for m = 1 + Σ αᵢ·(mᵢ − 1).
//!
//! With Σα = 1 it interpolates between experts, with Σα < 1 the rest of the weight is the base model, and
//! without experts it is the base model: nothing is normalised, so nothing divides by zero.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::check_name;
use crate::error::{Error, Result};

const SYNTAX: &str = "write NAME=WEIGHT,NAME=WEIGHT such as maths=0.7,code=0.3, or @FILE";
const FILE_SYNTAX: &str = "the file holds JSON such as {\"maths\": 0.7, \"code\": 0.3}";
/// A mixture file is a few lines; more is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Weights α by expert name; all finite, of any sign.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Mixture {
    alphas: BTreeMap<String, f32>,
}

impl Mixture {
    /// The base model.
    pub fn base() -> Self {
        Self::default()
    }

    /// One expert at full strength.
    pub fn single(name: impl Into<String>) -> Self {
        Self { alphas: BTreeMap::from([(name.into(), 1.0)]) }
    }

    /// Reads `A=0.7,B=0.3`, or `@FILE` for a JSON file that holds `{"A": 0.7, "B": 0.3}`. Whether the experts
    /// exist is known only to an [`super::ExpertSet`].
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.trim().strip_prefix('@') {
            let path = Path::new(path);
            return Self::read(path).map_err(|error| error.file(path).hint(FILE_SYNTAX));
        }
        Self::parse_pairs(text).map_err(|error| error.field("mixture").hint(SYNTAX))
    }

    fn parse_pairs(text: &str) -> Result<Self> {
        let pairs = text.split(',').map(|pair| {
            let wrong = || Error::expected("NAME=WEIGHT", format!("'{}'", pair.trim()));
            let (name, alpha) = pair.split_once('=').ok_or_else(wrong)?;
            let alpha = alpha.trim().parse::<f64>().map_err(|_| wrong())?;
            Ok((name.trim().to_owned(), alpha))
        });
        Self::from_pairs(pairs.collect::<Result<Vec<_>>>()?)
    }

    fn read(path: &Path) -> Result<Self> {
        let cannot_read = |source| Error::io("cannot read", path, source);
        let found = std::fs::metadata(path).map_err(cannot_read)?;
        if !found.is_file() || found.len() > MAX_FILE_BYTES {
            return Err(Error::invalid(format!("expected a JSON file of at most {MAX_FILE_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(cannot_read)?;
        let pairs: Pairs = serde_json::from_str(&text).map_err(|error| Error::invalid(error.to_string()))?;
        Self::from_pairs(pairs.0)
    }

    fn from_pairs(pairs: Vec<(String, f64)>) -> Result<Self> {
        if pairs.is_empty() {
            return Err(Error::expected("at least one expert", "none"));
        }
        let mut alphas = BTreeMap::new();
        for (name, alpha) in pairs {
            check_name(&name)?;
            let weight = finite(&name, alpha as f32)?;
            if alphas.insert(name.clone(), weight).is_some() {
                return Err(Error::invalid(format!("expert '{name}' appears twice")));
            }
        }
        Ok(Self { alphas })
    }

    /// The mixture with every α multiplied by `x`.
    pub fn strength(mut self, x: f32) -> Result<Self> {
        if !x.is_finite() {
            return Err(Error::expected("a finite number", x).field("strength"));
        }
        for (name, alpha) in &mut self.alphas {
            *alpha = finite(name, *alpha * x)?;
        }
        Ok(self)
    }

    /// Expert names with their α, by name.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f32)> {
        self.alphas.iter().map(|(name, &alpha)| (name.as_str(), alpha))
    }

    /// Whether this is the base model: no expert with an α other than 0.
    pub fn is_base(&self) -> bool {
        self.alphas.values().all(|&alpha| alpha == 0.0)
    }
}

/// `A=0.7,B=0.3`, or `base`.
impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alphas.is_empty() {
            return f.write_str("base");
        }
        let pairs: Vec<_> = self.weights().map(|(name, alpha)| format!("{name}={alpha}")).collect();
        f.write_str(&pairs.join(","))
    }
}

fn finite(name: &str, alpha: f32) -> Result<f32> {
    if !alpha.is_finite() {
        return Err(Error::expected(format!("a finite weight for '{name}'"), alpha));
    }
    Ok(alpha)
}

/// A JSON object whose keys may repeat (a map would keep the last one silently).
struct Pairs(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of expert names and weights")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
