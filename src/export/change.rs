//! What a mixture adds to the weights: U·diag(c)·Vᵀ with c = σ⊙(m−1), all of it or the largest part.

use std::num::NonZeroUsize;

use crate::error::{Error, Result};
use crate::expert::ResolvedMixture;
use crate::sidecar::Sidecar;

/// How much of the change is kept. The columns of U and of V are orthonormal, so |U·diag(c)·Vᵀ|² = Σc²: what is left out and
/// what that amounts to is known without multiplying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// All components with m ≠ 1.
    Nothing,
    /// Of each weight at most so many, those with the largest |c|.
    Rank(NonZeroUsize),
    /// As few of all weights together as make a relative error of at most this, from 0 to below 1.
    Tolerance(f64),
}

/// The change of all weights of a sidecar.
#[derive(Clone, Debug)]
pub struct Change {
    /// Those that change, in the order of the sidecar; at least one, with at least one component.
    pub weights: Vec<WeightChange>,
}

/// The change of one weight.
#[derive(Clone, Debug)]
pub struct WeightChange {
    /// Its place in [`Sidecar::weights`].
    pub index: usize,
    /// The components that are kept, ascending; may be none.
    pub components: Vec<usize>,
    /// c of these.
    pub scales: Vec<f32>,
    /// Σc² of all components.
    pub square: f64,
    /// Σc² of those left out.
    pub square_cut: f64,
}

impl Change {
    /// What `mixture` does to the weights of `sidecar`, as far as `cut` keeps it. One that changes nothing is one component with
    /// c = 0.
    ///
    /// # Errors
    /// Those of [`ResolvedMixture::multipliers`], or a tolerance outside 0..1.
    pub fn new(sidecar: &Sidecar, mixture: &ResolvedMixture, cut: Cut) -> Result<Self> {
        if let Cut::Tolerance(tolerance) = cut {
            if !(0.0..1.0).contains(&tolerance) {
                return Err(Error::expected("a number from 0 to below 1", tolerance).setting("tolerance"));
            }
        }
        let mut all = Vec::with_capacity(sidecar.weights.len());
        for weight in &sidecar.weights {
            let m = mixture.multipliers(weight)?;
            all.push(m.iter().zip(&weight.sigma).map(|(m, sigma)| sigma * (m - 1.0)).collect::<Vec<f32>>());
        }
        let least = least_kept(&all, cut);
        let weights = all.iter().enumerate().filter_map(|(index, c)| kept(index, c, cut, least)).collect();
        let mut change = Self { weights };
        if change.weights.is_empty() {
            let nothing = WeightChange {
                index: 0,
                components: vec![0],
                scales: vec![0.0],
                square: 0.0,
                square_cut: 0.0,
            };
            change.weights.push(nothing);
        }
        Ok(change)
    }

    /// |what is left out| / |the whole change|.
    pub fn relative_error(&self) -> f64 {
        let sum = |of: fn(&WeightChange) -> f64| self.weights.iter().map(of).sum::<f64>();
        relative(sum(|it| it.square_cut), sum(|it| it.square))
    }

    /// Whether it changes anything.
    pub fn is_nothing(&self) -> bool {
        self.weights.iter().all(|weight| weight.square == 0.0)
    }
}

impl WeightChange {
    /// Components that are kept.
    pub fn rank(&self) -> usize {
        self.components.len()
    }

    /// |what is left out| / |the whole change|.
    pub fn relative_error(&self) -> f64 {
        relative(self.square_cut, self.square)
    }
}

fn relative(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).sqrt()
    } else {
        0.0
    }
}

fn square(c: f32) -> f64 {
    f64::from(c) * f64::from(c)
}

/// The smallest c² that `cut` keeps in any weight.
fn least_kept(all: &[Vec<f32>], cut: Cut) -> f64 {
    let Cut::Tolerance(tolerance) = cut else { return 0.0 };
    let mut squares: Vec<f64> = all.iter().flatten().map(|&c| square(c)).collect();
    squares.sort_unstable_by(f64::total_cmp);
    let mut left = tolerance * tolerance * squares.iter().sum::<f64>();
    for square in squares {
        left -= square;
        if left < 0.0 {
            return square;
        }
    }
    f64::INFINITY
}

/// What is kept of weight `index`, if it changes; of a change that is smaller than all that is kept, nothing.
fn kept(index: usize, c: &[f32], cut: Cut, least: f64) -> Option<WeightChange> {
    let mut components: Vec<usize> = (0..c.len()).filter(|&k| c[k] != 0.0).collect();
    let whole: f64 = c.iter().map(|&c| square(c)).sum();
    components.sort_by(|&i, &j| c[j].abs().total_cmp(&c[i].abs()));
    let n = match cut {
        Cut::Nothing => components.len(),
        Cut::Rank(n) => n.get(),
        Cut::Tolerance(_) => components.iter().take_while(|&&k| square(c[k]) >= least).count(),
    };
    components.truncate(n);
    components.sort_unstable();
    let scales: Vec<f32> = components.iter().map(|&k| c[k]).collect();
    let kept: f64 = scales.iter().map(|&c| square(c)).sum();
    let is_whole = components.len() == c.iter().filter(|c| **c != 0.0).count();
    let square_cut = if is_whole { 0.0 } else { (whole - kept).max(0.0) };
    (whole > 0.0).then_some(WeightChange { index, components, scales, square: whole, square_cut })
}
