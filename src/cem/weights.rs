//! The weights of one group of layers: how they are sampled, and how they are normalised before they are applied.

/// Samples N(mean, std) clamped to [0, 1], again while all weights are 0, which would be no mixture. `normal`
/// draws from N(0, 1).
pub(super) fn sample<R>(mean: &[f64], std: &[f64], rng: &mut R, normal: impl Fn(&mut R) -> f64) -> Vec<f64> {
    // A mean is that of elites, none of which is all 0; so some weight has a chance of at least 1/2.
    loop {
        let draw = |(mean, std): (&f64, &f64)| (mean + std * normal(rng)).clamp(0.0, 1.0);
        let alphas: Vec<_> = mean.iter().zip(std).map(draw).collect();
        if alphas.iter().any(|&alpha| alpha > 0.0) {
            return alphas;
        }
    }
}

/// `alphas`, `n_experts` for each group in turn, with a sum of 1 in every group: m is then the interpolation of
/// experts that the paper has. Each group must have a weight above 0, as every candidate has.
pub fn normalised(alphas: &[f64], n_experts: usize) -> Vec<f64> {
    let group = |alphas: &[f64]| {
        let sum: f64 = alphas.iter().sum();
        alphas.iter().map(|alpha| alpha / sum).collect::<Vec<_>>()
    };
    alphas.chunks(n_experts).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_clamped_and_one_that_is_all_zero_is_drawn_again() {
        let draws = std::cell::RefCell::new(vec![-3.0, -3.0, -3.0, 0.5, 9.0, -9.0].into_iter());
        let normal = |_: &mut ()| draws.borrow_mut().next().unwrap();
        assert_eq!(sample(&[0.25; 3], &[0.5; 3], &mut (), normal), [0.5, 1.0, 0.0]);
        assert_eq!(draws.borrow().len(), 0, "the first three were drawn and thrown away");
    }

    #[test]
    fn every_group_sums_to_one_whatever_its_scale() {
        let alphas = [0.2, 0.2, 1.0, 0.0];
        assert_eq!(normalised(&alphas, 2), [0.5, 0.5, 1.0, 0.0]);
        let scaled: Vec<_> = alphas.iter().map(|alpha| alpha * 0.25).collect();
        assert_eq!(normalised(&scaled, 2), normalised(&alphas, 2));
    }
}
