//! The experts loaded for one sidecar, by name, and the multipliers of their mixtures.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;

use super::{Expert, Mixture};
use crate::error::{Error, Result};
use crate::sidecar::{AdaptedWeight, Fingerprint, Sidecar};

/// Experts that all fit one sidecar; names are unique.
pub struct ExpertSet {
    fingerprint: Fingerprint,
    /// Components of the sidecar's weights, by weight name.
    ranks: BTreeMap<String, usize>,
    /// Layers of the model, as far as the sidecar adapts them.
    n_layers: usize,
    experts: BTreeMap<String, Expert>,
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
                free.insert(expert);
                Ok(())
            }
        }
    }

    /// Adds an expert in the place of the one of the same name, which is returned.
    ///
    /// # Errors
    /// It does not fit the sidecar.
    pub fn replace(&mut self, expert: Expert) -> Result<Option<Expert>> {
        expert.check_against(&self.fingerprint, &self.ranks)?;
        Ok(self.experts.insert(expert.name.clone(), expert))
    }

    /// Takes an expert out.
    ///
    /// # Errors
    /// No expert of this name is loaded.
    pub fn remove(&mut self, name: &str) -> Result<Expert> {
        self.experts.remove(name).ok_or_else(|| self.unknown(name))
    }

    /// The expert `name`; the error for an unknown one lists those that are loaded.
    ///
    /// # Errors
    /// No expert of this name is loaded.
    pub fn get(&self, name: &str) -> Result<&Expert> {
        self.experts.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The names of all experts, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.experts.keys().map(String::as_str).collect()
    }

    /// All experts, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Expert> {
        self.experts.values()
    }

    /// m = 1 + Σ αᵢ·(mᵢ − 1) for `weight`, length r, computed in f64. Exactly 1 where every expert has
    /// exactly 1; for one expert at α = 1 exactly mᵢ, as long as |mᵢ| ≥ 2⁻²⁹. Weights that an expert does
    /// not have count as 1. With G groups of layers, layer l of L has the α of group ⌊l·G/L⌋; a weight outside of
    /// layers, such as the output's, has those of the last group.
    ///
    /// # Errors
    /// An unknown expert, more groups than layers, or an m with which m or σ⊙m is not finite in f32.
    pub fn multipliers(&self, mixture: &Mixture, weight: &AdaptedWeight) -> Result<Vec<f32>> {
        let mut sum = vec![1.0f64; weight.rank];
        let n_groups = mixture.n_groups();
        if n_groups > self.n_layers {
            return Err(Error::expected(format!("at most {} groups of layers", self.n_layers), n_groups)
                .field(format!("mixture {mixture}")));
        }
        let group = layer(&weight.name).map_or(n_groups - 1, |layer| layer * n_groups / self.n_layers);
        for (name, alphas) in mixture.groups() {
            let alpha = alphas[group];
            let Some(m) = self.get(name)?.multipliers.get(&weight.name) else { continue };
            for (sum, &m) in sum.iter_mut().zip(m) {
                *sum += f64::from(alpha) * (f64::from(m) - 1.0);
            }
        }
        let m: Vec<f32> = sum.iter().map(|&m| m as f32).collect();
        if let Some(at) = (0..weight.rank).find(|&i| !(m[i] * weight.sigma[i]).is_finite()) {
            return Err(Error::expected("finite multipliers", format!("{:e} at component {at}", sum[at]))
                .field(format!("mixture {mixture}, weight {}", weight.name))
                .hint("use smaller weights"));
        }
        Ok(m)
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

/// The layer that a weight belongs to: N of `blk.N.…`.
pub(super) fn layer(weight: &str) -> Option<usize> {
    weight.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}
