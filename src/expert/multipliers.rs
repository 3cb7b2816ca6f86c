//! One number for each singular value of each adapted weight.

use crate::error::{Error, Result};
use crate::sidecar::Sidecar;

/// One vector `[rank]` for each adapted weight, in the sidecar's order: the multipliers m, a gradient of something by
/// them, or the parameters that they follow from.
#[derive(Clone, Debug, PartialEq)]
pub struct Multipliers {
    /// Those of all weights in turn.
    values: Vec<f32>,
    /// Where in `values` each weight ends.
    ends: Vec<usize>,
}

impl Multipliers {
    /// m = 1 for every weight of `sidecar`, which changes nothing.
    pub fn identity(sidecar: &Sidecar) -> Self {
        Self::filled(sidecar.weights.iter().map(|weight| weight.rank), 1.0)
    }

    /// `value` everywhere, for weights with these ranks.
    pub fn filled(ranks: impl IntoIterator<Item = usize>, value: f32) -> Self {
        let ends: Vec<_> = ranks
            .into_iter()
            .scan(0, |end, rank| {
                *end += rank;
                Some(*end)
            })
            .collect();
        Self { values: vec![value; ends.last().copied().unwrap_or(0)], ends }
    }

    /// 0 everywhere, for the same weights.
    pub fn zeros_like(&self) -> Self {
        Self { values: vec![0.0; self.values.len()], ends: self.ends.clone() }
    }

    /// Length of each weight's vector.
    pub fn ranks(&self) -> impl Iterator<Item = usize> + '_ {
        self.iter().map(<[f32]>::len)
    }

    /// The vector of weight `index`.
    ///
    /// # Panics
    /// There is no such weight.
    pub fn weight(&self, index: usize) -> &[f32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.values[start..self.ends[index]]
    }

    /// The vector of weight `index`.
    ///
    /// # Panics
    /// There is no such weight.
    pub fn weight_mut(&mut self, index: usize) -> &mut [f32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &mut self.values[start..self.ends[index]]
    }

    /// The vectors.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        (0..self.ends.len()).map(|index| self.weight(index))
    }

    /// The vectors.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let (mut rest, mut start) = (self.values.as_mut_slice(), 0);
        self.ends.iter().map(move |&end| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(end - start);
            (rest, start) = (after, end);
            own
        })
    }

    /// All vectors in turn, as one.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// All vectors in turn, as one.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Checks that all numbers are finite; the error calls them `what`.
    ///
    /// # Errors
    /// One is NaN or infinite.
    pub fn check_finite(&self, what: &str) -> Result<()> {
        match self.values.iter().find(|value| !value.is_finite()) {
            None => Ok(()),
            Some(value) => Err(Error::engine(format!("{what} became {value}"))),
        }
    }
}

impl<V: AsRef<[f32]>> FromIterator<V> for Multipliers {
    fn from_iter<I: IntoIterator<Item = V>>(vectors: I) -> Self {
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        for vector in vectors {
            values.extend_from_slice(vector.as_ref());
            ends.push(values.len());
        }
        Self { values, ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_those_that_it_was_made_of() {
        let vectors = [vec![1.0, 2.0], vec![], vec![3.0]];
        let mut m: Multipliers = vectors.iter().collect();
        assert!(m.iter().eq(vectors.iter().map(Vec::as_slice)));
        assert_eq!((m.flat(), m.weight(2)), (&[1.0, 2.0, 3.0][..], &[3.0][..]));
        assert!(m.ranks().eq([2, 0, 1]));
        assert_eq!(m.zeros_like(), Multipliers::filled([2, 0, 1], 0.0));
        m.iter_mut().zip(1..).for_each(|(weight, i)| weight.iter_mut().for_each(|m| *m *= i as f32));
        m.weight_mut(0)[1] = 7.0;
        assert_eq!(m.flat(), [1.0, 7.0, 9.0]);
        m.check_finite("m").unwrap();
        m.flat_mut()[1] = f32::NAN;
        assert_eq!(m.check_finite("m").unwrap_err().to_string(), "m became NaN");
        assert_eq!(Multipliers::filled([], 1.0).iter().len(), 0);
    }
}
