//! A mixture of experts: weights α by name, standing for m = 1 + Σ αᵢ·(mᵢ − 1).
//!
//! With Σα = 1 it interpolates between experts, with Σα < 1 the rest of the weight is the base model, and
//! without experts it is the base model: nothing is normalised, so nothing divides by zero.
//!
//! A mixture can have *groups*: the model's layers are then cut into so many stretches of equal length, and each
//! expert has a weight for each of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use serde_json::Value;

use super::check_name;
use crate::error::{Error, Result};

const SYNTAX: &str = "write NAME=WEIGHT,NAME=WEIGHT such as maths=0.7,code=0.3, or @FILE";
const FILE_SYNTAX: &str =
    "the file holds JSON such as {\"maths\": 0.7, \"code\": 0.3}, or with a list of weights, one per group of layers";
/// A mixture file is a few lines; more is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Weights α by expert name; all finite, of any sign.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Mixture {
    /// Equally many for every expert, one for each group of layers.
    alphas: BTreeMap<String, Vec<f32>>,
}

impl Mixture {
    /// The base model.
    pub fn base() -> Self {
        Self::default()
    }

    /// One expert at full strength.
    pub fn single(name: impl Into<String>) -> Self {
        Self { alphas: BTreeMap::from([(name.into(), vec![1.0])]) }
    }

    /// The experts `names` with `alphas`: for each group of layers in turn one weight for each name.
    ///
    /// # Errors
    /// Names that cannot be, or not a whole number of groups, or weights that are not finite.
    pub fn grouped(names: &[&str], alphas: &[f64]) -> Result<Self> {
        if names.is_empty() || alphas.is_empty() || !alphas.len().is_multiple_of(names.len()) {
            let expected = format!("weights for each of {} experts", names.len());
            return Err(Error::expected(expected, alphas.len()).field("mixture"));
        }
        let of = |i: usize| alphas.iter().skip(i).step_by(names.len()).copied().collect();
        Self::from_pairs(names.iter().enumerate().map(|(i, &name)| (name.to_owned(), of(i))).collect())
    }

    /// Reads `A=0.7,B=0.3`, or `@FILE` for a JSON file that holds `{"A": 0.7, "B": 0.3}`, or with groups of layers
    /// `{"A": [0.7, 0.1], "B": [0.3, 0.9]}`; a single number then counts for every group. Whether the experts
    /// exist is known only to an [`super::ExpertSet`].
    ///
    /// # Errors
    /// Another syntax, a name that no expert can have or that is named twice, a weight that is not finite, or a file that
    /// cannot be read.
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
            Ok((name.trim().to_owned(), vec![alpha]))
        });
        Self::from_pairs(pairs.collect::<Result<Vec<_>>>()?)
    }

    fn read(path: &Path) -> Result<Self> {
        let cannot_read = |source| Error::io("cannot read", path, source);
        let found = std::fs::metadata(path).map_err(cannot_read)?;
        if !found.is_file() || found.len() > MAX_FILE_BYTES {
            return Err(Error::invalid(format!("expected a JSON file of at most {MAX_FILE_BYTES} bytes")));
        }
        Self::from_json(&std::fs::read_to_string(path).map_err(cannot_read)?)
    }

    /// Reads the text of a mixture file, or [`Self::to_json`]'s.
    ///
    /// # Errors
    /// It is no such JSON, or holds names or weights that cannot be.
    pub fn from_json(text: &str) -> Result<Self> {
        let pairs: Pairs = serde_json::from_str(text).map_err(|error| Error::invalid(error.to_string()))?;
        let number = |name: &str, value: &Value| {
            value.as_f64().ok_or_else(|| Error::expected(format!("a weight for '{name}'"), value))
        };
        let pair = |(name, value): (String, Value)| {
            let alphas = match &value {
                Value::Array(list) => list.iter().map(|value| number(&name, value)).collect::<Result<_>>()?,
                value => vec![number(&name, value)?],
            };
            Ok((name, alphas))
        };
        Self::from_pairs(pairs.0.into_iter().map(pair).collect::<Result<_>>()?)
    }

    fn from_pairs(pairs: Vec<(String, Vec<f64>)>) -> Result<Self> {
        let n_groups = pairs.iter().map(|(_, alphas)| alphas.len()).max();
        let n_groups = n_groups.ok_or_else(|| Error::expected("at least one expert", "none"))?;
        let mut alphas = BTreeMap::new();
        for (name, given) in pairs {
            check_name(&name)?;
            let given =
                given.into_iter().map(|alpha| finite(&name, alpha as f32)).collect::<Result<Vec<_>>>()?;
            let given = match given.len() {
                n if n == n_groups && n > 0 => given,
                1 => vec![given[0]; n_groups],
                n => {
                    let expected = format!("{} weights for '{name}', one per group", n_groups.max(1));
                    return Err(Error::expected(expected, n));
                }
            };
            if alphas.insert(name.clone(), given).is_some() {
                return Err(Error::invalid(format!("expert '{name}' appears twice")));
            }
        }
        Ok(Self { alphas })
    }

    /// The mixture as [`Self::parse`] reads it from a file.
    pub fn to_json(&self) -> Value {
        let value = |alphas: &[f32]| match alphas {
            [alpha] => Value::from(*alpha),
            alphas => Value::from(alphas),
        };
        self.alphas.iter().map(|(name, alphas)| (name.clone(), value(alphas))).collect()
    }

    /// The mixture with every α multiplied by `x`.
    ///
    /// # Errors
    /// `x`, or a weight times `x`, is not finite.
    pub fn strength(mut self, x: f32) -> Result<Self> {
        if !x.is_finite() {
            return Err(Error::expected("a finite number", x).setting("strength"));
        }
        for (name, alphas) in &mut self.alphas {
            for alpha in alphas {
                *alpha = finite(name, *alpha * x)?;
            }
        }
        Ok(self)
    }

    /// Expert names with their α, by name; with groups of layers, the mean over them.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f32)> {
        self.groups().map(|(name, alphas)| (name, alphas.iter().sum::<f32>() / alphas.len() as f32))
    }

    /// Expert names with their α in each group of layers, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.alphas.iter().map(|(name, alphas)| (name.as_str(), alphas.as_slice()))
    }

    /// Groups of layers, 1 where all have the same weights.
    pub fn n_groups(&self) -> usize {
        self.alphas.values().next().map_or(1, Vec::len)
    }

    /// Whether this is the base model: no expert with an α other than 0.
    pub fn is_base(&self) -> bool {
        self.alphas.values().flatten().all(|&alpha| alpha == 0.0)
    }
}

/// `A=0.7,B=0.3`, with groups of layers `A=0.7/0.1,B=0.3/0.9`, or `base`.
impl fmt::Display for Mixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alphas.is_empty() {
            return f.write_str("base");
        }
        let pair = |(name, alphas): (&str, &[f32])| {
            let alphas: Vec<_> = alphas.iter().map(f32::to_string).collect();
            format!("{name}={}", alphas.join("/"))
        };
        let pairs: Vec<_> = self.groups().map(pair).collect();
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
struct Pairs(Vec<(String, Value)>);

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
