//! A curve in one line of text.

/// Values per curve.
pub const COLUMNS: usize = 24;

/// `values` as at most [`COLUMNS`] means over neighbours.
pub fn resample(values: &[f32]) -> Vec<f32> {
    let columns = COLUMNS.min(values.len());
    (0..columns)
        .map(|i| {
            let part = &values[i * values.len() / columns..(i + 1) * values.len() / columns];
            (part.iter().map(|&x| f64::from(x)).sum::<f64>() / part.len() as f64) as f32
        })
        .collect()
}

/// Bars of heights between 0 and `full`.
pub fn line(values: &[f32], full: f32) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |&value: &f32| {
        let height = if full > 0.0 { (value / full).clamp(0.0, 1.0) } else { 0.0 };
        // Rounded up, so that only nothing looks like nothing.
        BARS[(height * 8.0).ceil() as usize]
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_shape() {
        assert_eq!(line(&[0.0, 0.001, 0.5, 1.0], 1.0), " ▁▄█");
        assert_eq!(line(&[0.0, 0.0], 0.0), "  ");
        let ramp: Vec<f32> = (0..240).map(|i| i as f32).collect();
        assert_eq!(resample(&ramp)[..2], [4.5, 14.5]);
        assert_eq!(resample(&ramp).len(), COLUMNS);
        assert_eq!(resample(&[1.0, 2.0]), [1.0, 2.0]);
    }
}
