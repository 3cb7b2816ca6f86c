//! Rotary position embedding: pairs of components of a head turn with the position (Su et al. 2021).

use std::f64::consts::TAU;

/// Which components form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairs {
    /// 2i and 2i + 1 (llama).
    Neighbours,
    /// i and i + n/2 (neox).
    Halves,
}

/// The angles of a model.
pub(super) struct Rope {
    pairs: Pairs,
    /// Components of a head that turn; the others stay.
    n_rotated: usize,
    /// Radians per position, for each pair.
    frequencies: Vec<f64>,
    /// What components that turn are multiplied with.
    magnitude: f64,
}

/// How angles are stretched beyond the context that a model was trained for.
pub(super) struct Scaling {
    /// What positions are multiplied with.
    pub scale: f64,
    /// What the frequency of each pair is divided by, where a file says it.
    pub factors: Option<Vec<f32>>,
    /// What components that turn are multiplied with.
    pub magnitude: f64,
    pub yarn: Option<Yarn>,
}

/// Pairs that turn often keep their angles, those that hardly turn are stretched (Peng et al. 2023, YaRN).
pub(super) struct Yarn {
    /// Tokens of the context before it was stretched.
    pub n_ctx: f64,
}

/// Turns within that context, from which on a pair keeps its angles, and up to which it is stretched; of llama.cpp.
const MANY_TURNS: f64 = 32.0;
const FEW_TURNS: f64 = 1.0;

impl Scaling {
    pub(super) const NONE: Self = Self { scale: 1.0, factors: None, magnitude: 1.0, yarn: None };
}

impl Yarn {
    /// How much pair `i` keeps its angles, from 0 to 1.
    fn kept(&self, i: usize, n_rotated: usize, base: f64) -> f64 {
        let n = n_rotated as f64;
        // The pair, as a number with a fraction, that turns so often.
        let pair = |turns: f64| n * (self.n_ctx / (turns * TAU)).ln() / (2.0 * base.ln());
        let (first, last) = (pair(MANY_TURNS).floor().max(0.0), pair(FEW_TURNS).ceil().min(n - 1.0));
        1.0 - ((i as f64 - first) / (last - first).max(1e-3)).clamp(0.0, 1.0)
    }
}

/// Cosines and sines of positions 0, 1, …
pub(super) struct Table<'a> {
    rope: &'a Rope,
    cos_sin: Vec<(f32, f32)>,
}

impl Rope {
    /// Pair i turns by `base` to the power of -2i/n per position, stretched by `scaling`.
    pub(super) fn new(pairs: Pairs, n_rotated: usize, base: f64, scaling: &Scaling) -> Self {
        let Scaling { scale, factors, magnitude, yarn } = scaling;
        let frequency = |i: usize| {
            let factor = factors.as_ref().and_then(|factors| factors.get(i));
            let plain = base.powf(-2.0 * i as f64 / n_rotated as f64) / factor.map_or(1.0, |&f| f64::from(f));
            let kept = yarn.as_ref().map_or(0.0, |yarn| yarn.kept(i, n_rotated, base));
            plain * (scale * (1.0 - kept) + kept)
        };
        // What is stretched attends more evenly; YaRN makes up for it.
        let sharper = if yarn.is_some() { 1.0 - 0.1 * scale.ln() } else { 1.0 };
        Self {
            pairs,
            n_rotated,
            frequencies: (0..n_rotated / 2).map(frequency).collect(),
            magnitude: magnitude * sharper,
        }
    }

    pub(super) fn table(&self, n_positions: usize) -> Table<'_> {
        let angles = (0..n_positions).flat_map(|t| self.frequencies.iter().map(move |f| t as f64 * f));
        let turn =
            |angle: f64| ((self.magnitude * angle.cos()) as f32, (self.magnitude * angle.sin()) as f32);
        let cos_sin = angles.map(turn).collect();
        Table { rope: self, cos_sin }
    }
}

impl Table<'_> {
    /// Turns every head (`size` components) of `x`, which has as many for each of `positions`, by the angle of its
    /// position.
    pub(super) fn rotate(&self, x: &mut [f32], size: usize, positions: &[usize]) {
        self.turn(x, size, positions, 1.0);
    }

    /// The transpose: the way back of a gradient.
    pub(super) fn rotate_back(&self, x: &mut [f32], size: usize, positions: &[usize]) {
        self.turn(x, size, positions, -1.0);
    }

    fn turn(&self, x: &mut [f32], size: usize, positions: &[usize], direction: f32) {
        let half = self.rope.frequencies.len();
        let n = x.len() / positions.len().max(1);
        for (x, &position) in x.chunks_exact_mut(n).zip(positions) {
            let angles = &self.cos_sin[position * half..][..half];
            for head in x.chunks_exact_mut(size) {
                let head = &mut head[..self.rope.n_rotated];
                match self.rope.pairs {
                    Pairs::Neighbours => {
                        for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
                            (pair[0], pair[1]) = turned(pair[0], pair[1], cos, direction * sin);
                        }
                    }
                    Pairs::Halves => {
                        let (first, second) = head.split_at_mut(half);
                        for ((a, b), &(cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                            (*a, *b) = turned(*a, *b, cos, direction * sin);
                        }
                    }
                }
            }
        }
    }
}

fn turned(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, a * sin + b * cos)
}
