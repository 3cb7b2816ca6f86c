//! Fused against composed for one op, side by side: `cargo bench --bench op`.
//!
//! Each graph holds several ops with factors of their own, so that factors come from memory as they do in
//! a model. Both run in turn; the table shows medians and their ratio (below 1: the fused op is faster).

use std::time::Instant;

use llama_svf::ffi::op::{Arguments, Kernel, OpGraph};
use llama_svf::ffi::tensor_type::TensorType;

const ROUNDS: usize = 25;
const THREADS: usize = 2;

fn main() {
    let shapes =
        [(896, 4864, 64), (4864, 896, 64), (896, 4864, 16), (896, 896, 256), (896, 4864, 896), (64, 172, 64)];
    println!(
        "{:>14} {:>5} {:>5} {:>4}  {:>10} {:>10} {:>6}",
        "n_in x n_out", "rank", "type", "T", "fused µs", "composed µs", "ratio"
    );
    let mut worst = 0f64;
    for (n_in, n_out, rank) in shapes {
        for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
            for n_tokens in [1, 2, 4, 8, 16, 32, 64, 128, 512] {
                let ratio = compare(n_in, n_out, rank, ty, n_tokens);
                worst = worst.max(ratio);
            }
        }
    }
    println!("worst ratio {worst:.2}");
}

fn compare(n_in: usize, n_out: usize, rank: usize, ty: TensorType, n_tokens: usize) -> f64 {
    let values = |n: usize| (0..n).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect::<Vec<_>>();
    let factor = |rows: usize, row_len: usize| {
        let ty = if row_len.is_multiple_of(ty.block_len()) { ty } else { TensorType::F16 };
        let mut bytes = Vec::new();
        ty.quantize(&values(rows * row_len), row_len, &mut bytes).expect("finite values");
        (ty, bytes)
    };
    let arguments = Arguments {
        n_in,
        n_out,
        rank,
        x: values(n_in * n_tokens),
        base: Some(values(n_out * n_tokens)),
        vt: factor(rank, n_in),
        u: factor(n_out, rank),
        s: values(rank * 9),
        ids: (0..n_tokens).map(|i| (i % 8 + 1) as i32).collect(),
    };
    let bytes = arguments.vt.1.len() + arguments.u.1.len();
    let copies = (64_usize << 20).div_ceil(bytes).clamp(2, if n_tokens >= 128 { 4 } else { 48 });
    let kernels = [Kernel::Fused, Kernel::Composed];
    let mut graphs =
        kernels.map(|kernel| OpGraph::new(&arguments, kernel, THREADS, copies).expect("valid arguments"));
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS + 2 {
        for (graph, times) in graphs.iter_mut().zip(&mut times) {
            let start = Instant::now();
            graph.compute().expect("the op computes");
            if round >= 2 {
                times.push(start.elapsed().as_secs_f64() * 1e6 / copies as f64);
            }
        }
    }
    let [fused, composed] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!(
        "{:>14} {rank:>5} {:>5} {n_tokens:>4}  {fused:>10.1} {composed:>10.1} {:>6.2}",
        format!("{n_in}x{n_out}"),
        ty.name(),
        fused / composed
    );
    fused / composed
}
