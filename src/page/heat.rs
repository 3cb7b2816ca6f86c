//! Changes by weight and component as a heat map: a row for each weight, such as m − 1 from the largest singular value to
//! the smallest.

use std::fmt::Write as _;

use super::escape;

/// Most columns: neighbours share a cell beyond it.
const COLUMNS: usize = 128;
const LABELS: f64 = 170.0;
const WIDTH: f64 = 1080.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 58.0;

/// The picture of `changes` of `weights`: blue is weaker, red stronger, white as in the base model.
pub fn svg(title: &str, weights: &[String], changes: &[Vec<f32>]) -> String {
    let cells: Vec<Vec<f64>> = changes.iter().map(|changes| binned(changes)).collect();
    // The largest change would drown all others; the 99th percentile of cells is full colour.
    let mut sizes: Vec<_> = cells.iter().flatten().map(|cell| cell.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let limit = sizes.get(sizes.len() * 99 / 100).copied().unwrap_or(0.0);
    let limit = if limit > 0.0 { limit } else { 1e-3 };

    let row = (900.0 / weights.len().max(1) as f64).clamp(5.0, 16.0);
    let bottom = TOP + row * weights.len() as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"changes by weight and component\">\
         <text class=\"title\" x=\"{LABELS}\" y=\"16\">{}</text>\n",
        bottom + BOTTOM,
        escape(title)
    );
    let most = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let width = (WIDTH - LABELS - 10.0) / most as f64;
    // Not every label fits where rows are low.
    let every = (11.0 / row).ceil() as usize;
    for (i, (name, cells)) in weights.iter().zip(&cells).enumerate() {
        let y = TOP + row * i as f64;
        // Writing to a string cannot fail.
        if i % every == 0 {
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LABELS - 6.0,
                y + row / 2.0 + 4.0,
                escape(name.trim_end_matches(".weight"))
            );
        }
        for (j, cell) in cells.iter().enumerate() {
            let _ = write!(
                svg,
                "<rect x=\"{:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{row:.1}\" fill=\"{}\"/>",
                LABELS + width * j as f64,
                width + 0.05,
                colour(cell / limit)
            );
        }
        svg.push('\n');
    }
    let _ = writeln!(
        svg,
        "<rect x=\"{LABELS}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" stroke=\"#e3e7ee\"/>",
        WIDTH - LABELS - 10.0,
        bottom - TOP
    );
    legend(&mut svg, bottom + 18.0, limit);
    svg + "</svg>\n"
}

fn legend(svg: &mut String, top: f64, limit: f64) {
    const STEPS: i32 = 20;
    for i in -STEPS..=STEPS {
        let part = f64::from(i) / f64::from(STEPS);
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"6.1\" height=\"10\" fill=\"{}\"/>",
            LABELS + 6.0 * f64::from(i + STEPS),
            colour(part)
        );
    }
    let right = LABELS + 6.0 * f64::from(2 * STEPS + 1);
    for (x, anchor, text) in [
        (LABELS, "start", format!("−{limit:.3}")),
        ((LABELS + right) / 2.0, "middle", "0".to_owned()),
        (right, "end", format!("+{limit:.3}")),
    ] {
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
            top + 24.0
        );
    }
}

/// Means over at most [`COLUMNS`] stretches of about equal length.
fn binned(changes: &[f32]) -> Vec<f64> {
    let n = changes.len().min(COLUMNS);
    let edge = |i: usize| i * changes.len() / n;
    let mean = |i: usize| {
        let cell = &changes[edge(i)..edge(i + 1)];
        cell.iter().map(|&change| f64::from(change)).sum::<f64>() / cell.len() as f64
    };
    (0..n).map(mean).collect()
}

/// From blue (−1) over white (0) to red (1).
fn colour(part: f64) -> String {
    let part = if part.is_finite() { part.clamp(-1.0, 1.0) } else { 0.0 };
    let end = if part < 0.0 { [33.0, 102.0, 172.0] } else { [178.0, 24.0, 43.0] };
    let [r, g, b] = end.map(|end: f64| (255.0 + (end - 255.0) * part.abs()).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_means_and_white_is_no_change() {
        assert_eq!(binned(&[0.5, 0.0, -0.5]), [0.5, 0.0, -0.5]);
        let mut changes = vec![0.0; 256];
        changes[0] = 1.0;
        assert_eq!((binned(&changes).len(), binned(&changes)[0]), (128, 0.5));
        assert_eq!([colour(0.0), colour(-1.0), colour(7.0)], ["#ffffff", "#2166ac", "#b2182b"]);
        assert_eq!(colour(f64::NAN), "#ffffff");
    }
}
