//! Compares the leading terms of a model's matrices with those of their complete decompositions:
//!
//! `cargo run --release --example leading_terms -- model.gguf --rank 64 --tensors 'blk\.0\.ffn_(up|down)'`
//!
//! Prints, for each matrix, the seconds of both ways; the largest relative difference of singular values; the largest
//! residual ‖W·v − σ·u‖ or ‖Wᵀ·u − σ·v‖ over the smallest σ; the sine of the largest angle between the spaces of the
//! right vectors, beside the relative gap behind the last value, which decides how well defined that space is; and the
//! largest entry of UᵀU − 1 and VᵀV − 1 of both ways.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use faer::{Mat, MatRef};
use llama_svf::decompose::Selection;
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::svd::Svd;

/// Compare leading terms with complete decompositions.
#[derive(Parser)]
struct Args {
    model: PathBuf,
    /// Singular values to compare.
    #[arg(long, default_value_t = 64)]
    rank: usize,
    /// ffn, attn, all or a regular expression.
    #[arg(long, default_value = "ffn")]
    tensors: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = GgufFile::open(&args.model)?;
    let selection = Selection::parse(&args.tensors)?;
    println!("weight n_out n_in rank leading_s complete_s sigma residual angle gap orthonormality complete_orthonormality");
    for tensor in
        model.tensors().iter().filter(|tensor| tensor.n_dims == 2 && selection.matches(&tensor.name))
    {
        let [n_in, n_out, ..] = tensor.ne;
        let w = model.to_f32(tensor)?;
        let full = n_in.min(n_out);
        let rank = args.rank.min(full);
        let began = Instant::now();
        let leading = Svd::new(&w, n_out, n_in, rank)?;
        let leading_seconds = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let complete = Svd::new(&w, n_out, n_in, full)?;
        let complete_seconds = began.elapsed().as_secs_f64();

        let w = MatRef::from_row_major_slice(&w, n_out, n_in);
        let [found, expected] = [&leading, &complete].map(|svd| Vectors::of(svd, n_out, n_in, rank));
        let sigma = |(s, expected): (&f32, &f32)| (f64::from(*s) / f64::from(*expected) - 1.0).abs();
        let off = leading.sigma.iter().zip(&complete.sigma).map(sigma).fold(0.0, f64::max);
        let gap = complete.sigma.get(rank).map_or(1.0, |next| 1.0 - next / complete.sigma[rank - 1]);
        println!(
            "{} {n_out} {n_in} {rank} {leading_seconds:.2} {complete_seconds:.2} {off:.1e} {:.1e} {:.1e} {gap:.1e} \
             {:.1e} {:.1e}",
            tensor.name,
            found.residual(w, &leading.sigma),
            found.angle(&expected),
            found.orthonormality(),
            expected.orthonormality(),
        );
    }
    Ok(())
}

/// The leading vectors of both sides, as columns.
struct Vectors {
    u: Mat<f64>,
    v: Mat<f64>,
}

impl Vectors {
    fn of(svd: &Svd, n_out: usize, n_in: usize, rank: usize) -> Self {
        Self {
            u: Mat::from_fn(n_out, rank, |i, k| f64::from(svd.u[i * svd.rank + k])),
            v: Mat::from_fn(n_in, rank, |j, k| f64::from(svd.vt[k * n_in + j])),
        }
    }

    /// The products are f32, with an error of about 1e-6 relative to σ₁.
    fn residual(&self, w: MatRef<'_, f32>, sigma: &[f32]) -> f64 {
        let side = |w: MatRef<'_, f32>, from: &Mat<f64>, to: &Mat<f64>| {
            let products = w * Mat::from_fn(from.nrows(), from.ncols(), |i, k| from[(i, k)] as f32);
            let residual = |k: usize| {
                let entry = |i: usize| f64::from(products[(i, k)]) - f64::from(sigma[k]) * to[(i, k)];
                (0..to.nrows()).map(|i| entry(i).powi(2)).sum::<f64>().sqrt()
            };
            (0..sigma.len()).map(residual).fold(0.0, f64::max)
        };
        let worst = side(w, &self.v, &self.u).max(side(w.transpose(), &self.u, &self.v));
        worst / f64::from(sigma[sigma.len() - 1])
    }

    /// Between the spaces of the right vectors.
    fn angle(&self, other: &Self) -> f64 {
        let along = other.v.transpose() * &self.v;
        let rest = &self.v - &other.v * along;
        rest.singular_values().map_or(f64::NAN, |sines| sines[0])
    }

    fn orthonormality(&self) -> f64 {
        let off = |q: &Mat<f64>| (q.transpose() * q - Mat::<f64>::identity(q.ncols(), q.ncols())).norm_max();
        off(&self.u).max(off(&self.v))
    }
}
