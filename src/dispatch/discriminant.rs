//! Which class a vector belongs to, by linear discriminant analysis with a shrunk covariance.
//!
//! Classes are taken for normal distributions of one covariance, that of the samples around the means of their classes, drawn
//! half-way towards a multiple of the identity (Ledoit and Wolf 2004, with a fixed share), because there are fewer samples
//! than dimensions. The log-odds are linear, and are divided by a temperature (Guo et al. 2017) that suits samples
//! which the fit did not see.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::error::{Error, Result};

/// Share of the multiple of the identity.
const SHRINKAGE: f64 = 0.5;
/// Samples that estimate covariance and temperature: a system of as many equations is solved.
const MAX_SAMPLES: usize = 512;
/// Parts of the samples, each of which is left out once to find the temperature.
const FOLDS: usize = 4;

/// Samples of one class.
pub type Samples<'a> = Vec<&'a [f32]>;

/// Tells classes apart.
pub struct Discriminant {
    fit: Fit,
    temperature: f64,
}

/// Log-odds of the classes, up to a temperature: w·(x − centre) + bias.
struct Fit {
    centre: Vec<f64>,
    /// By class.
    weights: Vec<Vec<f64>>,
    biases: Vec<f64>,
}

impl Discriminant {
    /// Learns `classes` from their samples, vectors of one length.
    ///
    /// # Errors
    /// Fewer than two classes, one without samples, or samples of different lengths.
    pub fn new(classes: &[Samples]) -> Result<Self> {
        if classes.len() < 2 {
            return Err(Error::expected("2 classes or more", classes.len()));
        }
        let width = classes[0].first().map_or(0, |sample| sample.len());
        if classes.iter().any(|samples| samples.is_empty() || samples.iter().any(|it| it.len() != width)) {
            return Err(Error::expected(format!("samples of {width} numbers in each class"), "others"));
        }
        let fit = Fit::new(classes)?;
        Ok(Self { fit, temperature: temperature(&left_out(classes)?) })
    }

    /// The probability of each class.
    pub fn probabilities(&self, x: &[f32]) -> Vec<f64> {
        softmax(&self.fit.log_odds(x), self.temperature)
    }
}

impl Fit {
    fn new(classes: &[Samples]) -> Result<Self> {
        let width = classes[0][0].len();
        let mean = |samples: &Samples| {
            let mut mean = vec![0.0; width];
            for sample in samples {
                mean.iter_mut()
                    .zip(*sample)
                    .for_each(|(sum, &x)| *sum += f64::from(x) / samples.len() as f64);
            }
            mean
        };
        let means: Vec<_> = classes.iter().map(mean).collect();
        let mut centre = vec![0.0; width];
        for mean in &means {
            centre.iter_mut().zip(mean).for_each(|(sum, x)| *sum += x / means.len() as f64);
        }
        let chosen = spread(classes);
        let n = chosen.len();
        let residuals = Mat::from_fn(n, width, |i, k| {
            f64::from(classes[chosen[i].0][chosen[i].1][k]) - means[chosen[i].0][k]
        });
        // Σ = own·I + shared·RᵀR; its inverse by Woodbury's identity, of a matrix of n × n.
        let variance = residuals.squared_norm_l2() / (n * width) as f64;
        let own = (SHRINKAGE * variance).max(f64::MIN_POSITIVE.sqrt());
        let shared = (1.0 - SHRINKAGE) / n as f64;
        let mut gram = &residuals * residuals.transpose();
        (0..n).for_each(|i| gram[(i, i)] += own / shared);
        let factor = gram.llt(Side::Lower).map_err(|_| Error::engine("hidden states cannot be compared"))?;
        let offsets = Mat::from_fn(width, means.len(), |k, class| means[class][k] - centre[k]);
        let solved = factor.solve(&residuals * &offsets);
        let weights = (&offsets - residuals.transpose() * solved) * faer::Scale(1.0 / own);
        let of_class = |class: usize| weights.col(class).iter().copied().collect::<Vec<f64>>();
        let bias =
            |class: usize| -0.5 * (0..width).map(|k| weights[(k, class)] * offsets[(k, class)]).sum::<f64>();
        let classes = 0..means.len();
        Ok(Self {
            centre,
            weights: classes.clone().map(of_class).collect(),
            biases: classes.map(bias).collect(),
        })
    }

    fn log_odds(&self, x: &[f32]) -> Vec<f64> {
        let of_class = |(weights, bias): (&Vec<f64>, &f64)| {
            let products = weights.iter().zip(x.iter().zip(&self.centre));
            bias + products.map(|(w, (&x, centre))| w * (f64::from(x) - centre)).sum::<f64>()
        };
        self.weights.iter().zip(&self.biases).map(of_class).collect()
    }
}

/// At most [`MAX_SAMPLES`] samples, as (class, number), as evenly from all classes as may be.
fn spread(classes: &[Samples]) -> Vec<(usize, usize)> {
    let all: Vec<_> =
        (0..classes.len()).flat_map(|class| (0..classes[class].len()).map(move |i| (class, i))).collect();
    let step = all.len().div_ceil(MAX_SAMPLES).max(1);
    all.into_iter().step_by(step).collect()
}

/// Log-odds of samples under fits that did not see them, each with its class. A class of one sample is seen always.
fn left_out(classes: &[Samples]) -> Result<Vec<(Vec<f64>, usize)>> {
    let chosen = spread(classes);
    let mut found = Vec::new();
    for fold in 0..FOLDS {
        let is_out = |samples: &Samples, i: usize| samples.len() > 1 && i % FOLDS == fold;
        let mut seen: Vec<Samples> = Vec::with_capacity(classes.len());
        for samples in classes {
            seen.push((0..samples.len()).filter(|&i| !is_out(samples, i)).map(|i| samples[i]).collect());
        }
        let fit = Fit::new(&seen)?;
        for &(class, i) in chosen.iter().filter(|&&(class, i)| is_out(&classes[class], i)) {
            found.push((fit.log_odds(classes[class][i]), class));
        }
    }
    Ok(found)
}

/// The temperature under which `odds` of known classes are likeliest. Their targets are Platt's (1999): not 1, but what
/// as many right ones prove.
fn temperature(odds: &[(Vec<f64>, usize)]) -> f64 {
    if odds.is_empty() {
        return 1.0;
    }
    let n = odds.len() as f64;
    let target = (n + 1.0) / (n + 2.0);
    let loss = |ln_t: f64| -> f64 {
        let of_sample = |(odds, class): &(Vec<f64>, usize)| {
            let p = softmax(odds, ln_t.exp())[*class].clamp(1e-12, 1.0 - 1e-12);
            -(target * p.ln() + (1.0 - target) * (1.0 - p).ln())
        };
        odds.iter().map(of_sample).sum::<f64>() / n
    };
    // Golden section: the loss has one minimum.
    let ratio = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-10.0f64, 10.0f64);
    for _ in 0..60 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a) < loss(b) {
            high = b;
        } else {
            low = a;
        }
    }
    ((low + high) / 2.0).exp()
}

fn softmax(odds: &[f64], temperature: f64) -> Vec<f64> {
    let max = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<_> = odds.iter().map(|x| ((x - max) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// `n` samples around each of `means`, with `noise` in all directions and ten times as much along the first axis.
    fn samples(means: &[Vec<f32>], n: usize, noise: f32, seed: u64) -> Vec<Vec<Vec<f32>>> {
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |mean: &Vec<f32>| {
            let shared = rng.random_range(-10.0..10.0) * noise;
            let mut x: Vec<f32> = mean.iter().map(|x| x + rng.random_range(-1.0..1.0) * noise).collect();
            x[0] += shared;
            x
        };
        means.iter().map(|mean| (0..n).map(|_| draw(mean)).collect()).collect()
    }

    fn borrowed(classes: &[Vec<Vec<f32>>]) -> Vec<Samples<'_>> {
        classes.iter().map(|samples| samples.iter().map(Vec::as_slice).collect()).collect()
    }

    #[test]
    fn the_inverse_is_that_of_the_whole_covariance() {
        let means = [vec![0.0, 0.0, 1.0], vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0]];
        let classes = samples(&means, 5, 0.2, 1);
        let fit = Fit::new(&borrowed(&classes)).unwrap();
        // The same in full, for the first class: Σ·w = mean − centre.
        let mean =
            |samples: &Vec<Vec<f32>>, k: usize| samples.iter().map(|x| f64::from(x[k])).sum::<f64>() / 5.0;
        let mut sigma = [[0.0; 3]; 3];
        let mut trace = 0.0;
        for samples in &classes {
            for x in samples {
                let r: Vec<_> = (0..3).map(|k| f64::from(x[k]) - mean(samples, k)).collect();
                trace += r.iter().map(|r| r * r).sum::<f64>() / 15.0;
                (0..9).for_each(|at| sigma[at / 3][at % 3] += 0.5 * r[at / 3] * r[at % 3] / 15.0);
            }
        }
        for (class, weights) in fit.weights.iter().enumerate() {
            for k in 0..3 {
                let product: f64 =
                    (0..3).map(|l| sigma[k][l] * weights[l]).sum::<f64>() + 0.5 * trace / 3.0 * weights[k];
                let centre = classes.iter().map(|samples| mean(samples, k)).sum::<f64>() / 3.0;
                let offset = mean(&classes[class], k) - centre;
                assert!((product - offset).abs() < 1e-9, "{product} {offset}");
            }
        }
    }

    #[test]
    fn what_varies_within_classes_does_not_decide() {
        // The first axis says most, and nothing.
        let means = [vec![0.0, 0.0, 0.3, 0.0], vec![0.0, 0.3, 0.0, 0.0]];
        let classes = samples(&means, 30, 0.1, 2);
        let discriminant = Discriminant::new(&borrowed(&classes)).unwrap();
        let fresh = samples(&means, 200, 0.1, 3);
        let mut n_right = 0;
        for (class, samples) in fresh.iter().enumerate() {
            for x in samples {
                let p = discriminant.probabilities(x);
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9 && p.iter().all(|p| p.is_finite()));
                n_right += usize::from(p[class] > 0.5);
            }
        }
        assert!(n_right >= 392, "{n_right} of 400");
    }

    #[test]
    fn confidence_is_the_share_of_right_ones() {
        // Classes that overlap.
        let means = [vec![0.0, 0.0, 0.1, 0.0], vec![0.0, 0.1, 0.0, 0.0], vec![0.0, 0.0, 0.0, 0.1]];
        let classes = samples(&means, 60, 0.25, 4);
        let discriminant = Discriminant::new(&borrowed(&classes)).unwrap();
        let (mut confidence, mut right) = (0.0, 0.0);
        for (class, samples) in samples(&means, 1000, 0.25, 5).iter().enumerate() {
            for x in samples {
                let p = discriminant.probabilities(x);
                let best = (0..3).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
                confidence += p[best] / 3000.0;
                right += f64::from(best == class) / 3000.0;
            }
        }
        assert!((confidence - right).abs() < 0.05, "confidence {confidence}, right {right}");
    }

    #[test]
    fn one_sample_is_enough_and_none_is_an_error() {
        let (a, b) = ([1.0f32, 0.0], [0.0f32, 1.0]);
        let p = Discriminant::new(&[vec![&a], vec![&b]]).unwrap().probabilities(&[0.9, 0.1]);
        assert!(p[0] > p[1], "{p:?}");
        assert!(Discriminant::new(&[vec![&a]]).is_err());
        assert!(Discriminant::new(&[vec![&a], vec![]]).is_err());
        assert!(Discriminant::new(&[vec![&a], vec![&[1.0f32]]]).is_err());
    }
}
