//! The experts loaded for one sidecar, by name, and the mixtures of them that name what they are made of.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Expert, Mixture};
use crate::error::{Error, Result};
use crate::sidecar::{AdaptedWeight, Fingerprint, Sidecar};

/// Experts that all fit one sidecar; names are unique. A clone costs little: it shares the experts.
#[derive(Clone)]
pub struct ExpertSet {
    fingerprint: Fingerprint,
    /// Components of the sidecar's weights, by weight name.
    ranks: BTreeMap<String, usize>,
    /// Layers of the model, as far as the sidecar adapts them.
    n_layers: usize,
    experts: BTreeMap<String, Loaded>,
}

/// An expert with its digest.
#[derive(Clone)]
struct Loaded {
    expert: Arc<Expert>,
    digest: String,
}

impl Loaded {
    fn new(expert: Expert) -> Self {
        let digest = expert.digest();
        Self { expert: Arc::new(expert), digest }
    }
}

/// What a mixture is made of: equal for mixtures that multiply alike, whatever their experts are called.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Contents(Option<blake3::Hash>);

impl Contents {
    /// Those of the base model.
    pub const BASE: Self = Self(None);

    /// Those of no mixture at all; different for different numbers.
    #[cfg(test)]
    pub(crate) fn numbered(n: u8) -> Self {
        Self(Some(blake3::hash(&[n])))
    }
}

/// A mixture with the experts that it names, as they were when it was resolved: what happens to the set afterwards does
/// not change it.
#[derive(Clone)]
pub struct ResolvedMixture {
    mixture: Mixture,
    contents: Contents,
    /// Expert, and α in each group of layers.
    parts: Vec<(Arc<Expert>, Vec<f32>)>,
    n_layers: usize,
}

impl ExpertSet {
    /// No experts yet.
    pub fn new(sidecar: &Sidecar) -> Self {
        let layers = sidecar.weights.iter().filter_map(|weight| layer(&weight.name));
        Self {
            fingerprint: sidecar.fingerprint.clone(),
            n_layers: layers.max().map_or(1, |last| last + 1),
            ranks: sidecar.weights.iter().map(|weight| (weight.name.clone(), weight.rank)).collect(),
            experts: BTreeMap::new(),
        }
    }

    /// Adds an expert.
    ///
    /// # Errors
    /// It does not fit the sidecar, or its name is taken.
    pub fn insert(&mut self, expert: Expert) -> Result<()> {
        expert.check_against(&self.fingerprint, &self.ranks)?;
        match self.experts.entry(expert.name.clone()) {
            Entry::Occupied(taken) => Err(Error::invalid("an expert of this name is loaded already")
                .field(format!("expert {}", taken.key()))
                .hint("give it another `Expert::name`")),
            Entry::Vacant(free) => {
                free.insert(Loaded::new(expert));
                Ok(())
            }
        }
    }

    /// Adds an expert in the place of the one of the same name, which is returned.
    ///
    /// # Errors
    /// It does not fit the sidecar.
    pub fn replace(&mut self, expert: Expert) -> Result<Option<Arc<Expert>>> {
        expert.check_against(&self.fingerprint, &self.ranks)?;
        Ok(self.experts.insert(expert.name.clone(), Loaded::new(expert)).map(|old| old.expert))
    }

    /// Takes an expert out.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn remove(&mut self, name: &str) -> Result<Arc<Expert>> {
        self.experts.remove(name).map(|old| old.expert).ok_or_else(|| self.unknown(name))
    }

    /// The expert `name`.
    ///
    /// # Errors
    /// There is none of this name; the error lists those that are loaded.
    pub fn get(&self, name: &str) -> Result<&Expert> {
        Ok(&self.loaded(name)?.expert)
    }

    fn loaded(&self, name: &str) -> Result<&Loaded> {
        self.experts.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The names of all experts, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.experts.keys().map(String::as_str).collect()
    }

    /// All experts, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Expert> {
        self.experts.values().map(|loaded| &*loaded.expert)
    }

    /// `mixture` with the experts that it names, also those with a weight of 0.
    ///
    /// # Errors
    /// An unknown expert, or more groups than layers.
    pub fn resolve(&self, mixture: &Mixture) -> Result<ResolvedMixture> {
        let n_groups = mixture.n_groups();
        if n_groups > self.n_layers {
            return Err(Error::expected(format!("at most {} groups of layers", self.n_layers), n_groups)
                .field(format!("mixture {mixture}")));
        }
        let mut terms = Vec::new();
        for (name, alphas) in mixture.groups() {
            let Loaded { expert, digest } = self.loaded(name)?;
            if alphas.iter().any(|&alpha| alpha != 0.0) {
                let bytes = alphas.iter().flat_map(|alpha| alpha.to_le_bytes());
                let term: Vec<u8> = digest.bytes().chain(bytes).collect();
                terms.push((term, (Arc::clone(expert), alphas.to_vec())));
            }
        }
        // A sum does not depend on what its terms are called.
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        let (terms, parts): (Vec<_>, Vec<_>) = terms.into_iter().unzip();
        let contents = Contents((!terms.is_empty()).then(|| blake3::hash(&terms.concat())));
        Ok(ResolvedMixture { mixture: mixture.clone(), contents, parts, n_layers: self.n_layers })
    }

    /// [`ResolvedMixture::multipliers`] of `mixture`.
    ///
    /// # Errors
    /// Those of [`Self::resolve`] and of [`ResolvedMixture::multipliers`].
    pub fn multipliers(&self, mixture: &Mixture, weight: &AdaptedWeight) -> Result<Vec<f32>> {
        self.resolve(mixture)?.multipliers(weight)
    }

    fn unknown(&self, name: &str) -> Error {
        let known = match self.experts.is_empty() {
            true => "no expert is loaded".to_owned(),
            false => format!("loaded: {}", self.names().join(", ")),
        };
        Error::not_found(format!("unknown expert; {known}"))
            .field(format!("expert {name}"))
            .hint("load one with `Expert::open`")
    }
}

impl ResolvedMixture {
    /// The base model.
    pub fn base() -> Self {
        Self { mixture: Mixture::base(), contents: Contents::BASE, parts: Vec::new(), n_layers: 1 }
    }

    /// The mixture, by names.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// What it is made of.
    pub fn contents(&self) -> Contents {
        self.contents
    }

    /// m = 1 + Σ αᵢ·(mᵢ − 1) for `weight`, length r, computed in f64. Exactly 1 where every expert has
    /// exactly 1; for one expert at α = 1 exactly mᵢ, as long as |mᵢ| ≥ 2⁻²⁹. Weights that an expert does
    /// not have count as 1. With G groups of layers, layer l of L has the α of group ⌊l·G/L⌋; a weight outside of
    /// layers, such as the output's, has those of the last group.
    ///
    /// # Errors
    /// An m with which m or σ⊙m is not finite in f32.
    pub fn multipliers(&self, weight: &AdaptedWeight) -> Result<Vec<f32>> {
        let mut sum = vec![1.0f64; weight.rank];
        let n_groups = self.mixture.n_groups();
        let group = layer(&weight.name).map_or(n_groups - 1, |layer| layer * n_groups / self.n_layers);
        for (expert, alphas) in &self.parts {
            let Some(m) = expert.multipliers.get(&weight.name) else { continue };
            for (sum, &m) in sum.iter_mut().zip(m) {
                *sum += f64::from(alphas[group]) * (f64::from(m) - 1.0);
            }
        }
        let m: Vec<f32> = sum.iter().map(|&m| m as f32).collect();
        if let Some(at) = (0..weight.rank).find(|&i| !(m[i] * weight.sigma[i]).is_finite()) {
            return Err(Error::expected("finite multipliers", format!("{:e} at component {at}", sum[at]))
                .field(format!("mixture {}, weight {}", self.mixture, weight.name))
                .hint("use smaller weights"));
        }
        Ok(m)
    }
}

/// The layer that a weight belongs to: N of `blk.N.…`.
pub(super) fn layer(weight: &str) -> Option<usize> {
    weight.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
