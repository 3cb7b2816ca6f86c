//! QR factorisation by Householder reflections, on one core.

use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_q_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_q,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Conj, Mat, MatMut, MatRef, Par};

use super::with_scratch;
use crate::error::Result;

/// A = Q·R, with the reflections that make up Q.
pub(super) struct Qr<'a> {
    /// R above and on the diagonal, the reflections below it. `[m, n]`
    factored: MatMut<'a, f32>,
    /// How the reflections combine to blocks.
    blocks: Mat<f32>,
}

impl<'a> Qr<'a> {
    /// Factors A `[m, n]`, m ≥ n, in its place.
    ///
    /// # Errors
    /// Not enough memory, as with the products below.
    pub fn new(a: MatMut<'a, f32>) -> Result<Self> {
        let (m, n) = a.shape();
        let block = recommended_block_size::<f32>(m, n);
        let mut qr = Self { factored: a, blocks: Mat::zeros(block, n) };
        with_scratch(qr_in_place_scratch::<f32>(m, n, block, Par::Seq, Default::default()), |stack| {
            qr_in_place(qr.factored.as_mut(), qr.blocks.as_mut(), Par::Seq, stack, Default::default());
            Ok(())
        })?;
        Ok(qr)
    }

    /// R `[n, n]`, upper triangular.
    pub fn r(&self) -> Mat<f32> {
        let n = self.factored.ncols();
        let mut r = Mat::zeros(n, n);
        r.copy_from_triangular_upper(self.factored.as_ref().subrows(0, n));
        r
    }

    /// Q·X `[m, k]`, where Q `[m, n]` has orthonormal columns, for X `[n, k]`.
    pub fn apply_q(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>> {
        let mut out = Mat::zeros(self.factored.nrows(), x.ncols());
        out.as_mut().subrows_mut(0, x.nrows()).copy_from(x);
        let (m, block) = (self.factored.nrows(), self.blocks.nrows());
        with_scratch(apply_q_scratch::<f32>(m, block, x.ncols()), |stack| {
            let (basis, blocks) = (self.factored.as_ref(), self.blocks.as_ref());
            apply_q(basis, blocks, Conj::No, out.as_mut(), Par::Seq, stack);
            Ok(())
        })?;
        Ok(out)
    }

    /// Q `[m, n]` itself.
    pub fn q(&self) -> Result<Mat<f32>> {
        let n = self.factored.ncols();
        self.apply_q(Mat::<f32>::identity(n, n).as_ref())
    }
}
