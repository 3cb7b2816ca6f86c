//! Rotary position embedding: pairs of components of a head turn with the position (Su et al. 2021).

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
}

/// Cosines and sines of positions 0, 1, …
pub(super) struct Table<'a> {
    rope: &'a Rope,
    cos_sin: Vec<(f32, f32)>,
}

impl Rope {
    /// `base` to the power of -2i/n per position, times `scale`, divided by `factors` where there are some.
    pub(super) fn new(
        pairs: Pairs,
        n_rotated: usize,
        base: f64,
        scale: f64,
        factors: Option<&[f32]>,
    ) -> Self {
        let frequency = |i: usize| {
            let factor = factors.and_then(|factors| factors.get(i)).map_or(1.0, |&factor| f64::from(factor));
            scale * base.powf(-2.0 * i as f64 / n_rotated as f64) / factor
        };
        Self { pairs, n_rotated, frequencies: (0..n_rotated / 2).map(frequency).collect() }
    }

    pub(super) fn table(&self, n_positions: usize) -> Table<'_> {
        let angles = (0..n_positions).flat_map(|t| self.frequencies.iter().map(move |f| t as f64 * f));
        let cos_sin = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).collect();
        Table { rope: self, cos_sin }
    }
}

impl Table<'_> {
    /// Turns every head (`size` components) of `x`, which has as many for each of `positions`, by the angle of its
    /// position.
    pub(super) fn rotate(&self, x: &mut [f32], size: usize, positions: &[usize]) {
        self.turn(x, size, positions, 1.0);
    }

    /// The inverse, which is also the transpose: the way back of a gradient.
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
