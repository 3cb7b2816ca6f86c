//! A model with a LoRA that is being trained.

use std::sync::Arc;

use super::{AdaptedModel, Model};
use crate::error::{Error, Result};
use crate::expert::{Expert, Multipliers};
use crate::sidecar::{AdaptedWeight, Sidecar};

/// A model that computes y = W·x + B·A·x for some weights, with A `[rank, n_in]` and B `[n_out, rank]` that can be written
/// anew at any time.
///
/// It runs through the op that experts run through: Vᵀ is A, U is B, and with σ = 1 the multiplier 2 adds them once. So what
/// trains an expert trains a LoRA. Its parameters are one vector for each weight: A row by row, then B row by row.
#[derive(Clone)]
pub struct LoraModel {
    adapted: Arc<AdaptedModel>,
}

impl LoraModel {
    /// A LoRA beside those weights of `sidecar` that are `wanted`, with zeros for A and B.
    ///
    /// # Errors
    /// A rank of 0 or beyond the shape of one of them, none that is wanted, or no memory.
    pub fn new(
        model: &Arc<Model>,
        sidecar: &Sidecar,
        rank: usize,
        wanted: impl Fn(&AdaptedWeight) -> bool,
    ) -> Result<Self> {
        let smallest = |weight: &&AdaptedWeight| weight.n_in.min(weight.n_out);
        let narrowest = sidecar.weights.iter().filter(|weight| wanted(weight)).min_by_key(smallest);
        let narrowest = narrowest.ok_or_else(|| Error::expected("a weight to put a LoRA beside", "none"))?;
        let most = smallest(&narrowest);
        if !(1..=most).contains(&rank) {
            return Err(Error::expected(
                format!("a rank from 1 to {most}, that of {}", narrowest.name),
                rank,
            )
            .setting("rank"));
        }
        let adapted = AdaptedModel::rewritable(model, sidecar.blank(rank, wanted)?)?;
        Ok(Self { adapted })
    }

    /// The model, and the shapes of its LoRA as those of a sidecar.
    pub fn adapted(&self) -> &Arc<AdaptedModel> {
        &self.adapted
    }

    /// The weights that it has a LoRA beside.
    pub fn weights(&self) -> &[AdaptedWeight] {
        &self.adapted.sidecar().weights
    }

    /// How many parameters each weight has: rank · (n_in + n_out).
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.weights().iter().map(|weight| weight.rank * (weight.n_in + weight.n_out))
    }

    /// A and B of weight `index`.
    ///
    /// # Panics
    /// `parameters` does not have these [lengths](Self::lengths).
    pub fn pair<'a>(&self, index: usize, parameters: &'a Multipliers) -> [&'a [f32]; 2] {
        let weight = &self.weights()[index];
        let (a, b) = parameters.weight(index).split_at(weight.rank * weight.n_in);
        assert_eq!(b.len(), weight.rank * weight.n_out);
        [a, b]
    }

    /// Lets all sessions compute with `parameters` from their next decode on.
    ///
    /// What sequences have read was computed with those before: let them read anew.
    ///
    /// # Panics
    /// `parameters` does not have these [lengths](Self::lengths).
    pub fn write(&self, parameters: &Multipliers) {
        let AdaptedModel { factors, order, .. } = &*self.adapted;
        factors.rewrite(order.iter().map(|&index| self.pair(index, parameters)));
    }

    /// The expert that adds B·A·x, called `name`; without it this is the base model.
    pub fn expert(&self, name: &str) -> Expert {
        let sidecar = self.adapted.sidecar();
        let twos = Multipliers::filled(sidecar.weights.iter().map(|weight| weight.rank), 2.0);
        Expert::of_multipliers(name, sidecar, &twos)
    }
}
