//! Cross-model transfer (arXiv 2501.06252, section 4.3): an expert's m on another model of the same layout.
//!
//! Component i of a weight then scales the i-th largest singular value of the other model's weight of the same name.
//! Why that should help is an open question; the control is the same m in random order.

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::set::layer;
use super::{Expert, Profile, MAX_DESCRIPTION_CHARS};
use crate::error::{Error, Result};
use crate::sidecar::Sidecar;

/// How components are carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The i-th to the i-th.
    Kept,
    /// In random order within each weight, from this seed: the paper's control.
    Shuffled(u64),
}

impl Expert {
    /// The same multipliers for the model of `sidecar`, which needs the weights that the expert has, by name and
    /// number of components, and as many layers. How it was trained is left out: it was not trained for this model.
    ///
    /// # Errors
    /// What does not fit, by name.
    pub fn transferred(&self, sidecar: &Sidecar, order: Order) -> Result<Self> {
        let wrong = |error: Error| Err(error.field(format!("expert {}", self.name)));
        let n_layers = |names: &mut dyn Iterator<Item = &String>| names.filter_map(|name| layer(name)).max();
        let own = n_layers(&mut self.multipliers.keys());
        let others = n_layers(&mut sidecar.weights.iter().map(|weight| &weight.name));
        if own != others {
            let count = |last: Option<usize>| last.map_or(0, |last| last + 1);
            let expected = format!("a model with {} layers, as the expert's own", count(own));
            return wrong(Error::expected(expected, count(others)).hint("m has no meaning in other layers"));
        }
        for (name, m) in &self.multipliers {
            let Some(weight) = sidecar.weight(name) else {
                let problem = format!("the other model's sidecar has no weight {name}");
                return wrong(Error::invalid(problem).hint("decompose the same `tensors`"));
            };
            if weight.rank != m.len() {
                let expected = format!("{} components of {name}", m.len());
                return wrong(
                    Error::expected(expected, weight.rank)
                        .hint("the models have other shapes, or their sidecars other ranks (`rank`)"),
                );
            }
        }
        let mut multipliers = self.multipliers.clone();
        if let Order::Shuffled(seed) = order {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            multipliers.values_mut().for_each(|m| m.shuffle(&mut rng));
        }
        let origin = match order {
            Order::Kept => format!(" (of model {})", self.fingerprint.short()),
            Order::Shuffled(seed) => {
                format!(" (of model {}, shuffled, seed {seed})", self.fingerprint.short())
            }
        };
        let room = MAX_DESCRIPTION_CHARS - origin.chars().count();
        let description: String = self.description.chars().take(room).collect();
        Ok(Self {
            name: self.name.clone(),
            description: description + &origin,
            fingerprint: sidecar.fingerprint.clone(),
            multipliers,
            training: None,
            // Hidden states are those of another model.
            profile: Profile { questions: self.profile.questions.clone(), states: None },
        })
    }
}
