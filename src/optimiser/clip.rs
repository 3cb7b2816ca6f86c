//! Clipping by the norm of all parameters together.

/// Scales `gradient` down to a Euclidean norm of at most `limit`; returns the norm it had.
pub fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    if norm > limit {
        gradient.iter_mut().for_each(|g| *g = (f64::from(*g) * (limit / norm)) as f32);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_the_direction_and_what_is_small() {
        let mut g = [3.0, -4.0];
        assert_eq!(clip(&mut g, 1.0), 5.0);
        assert!((g[0] - 0.6).abs() < 1e-7 && (g[1] + 0.8).abs() < 1e-7, "{g:?}");
        let mut small = [0.3, 0.4];
        clip(&mut small, 1.0);
        assert_eq!(small, [0.3, 0.4]);
    }
}
