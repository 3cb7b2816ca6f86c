//! Fused against composed for one op, side by side: `cargo bench --bench op` on the CPU and every GPU,
//! `cargo bench --bench op -- gpu` on GPUs only.
//!
//! Each graph holds several ops with factors of their own, so that factors come from memory as they do in
//! a model. Both run in turn; the tables show medians. On GPUs, where decoding is bound by reading the factors,
//! that is as bytes of factors per second too.

use std::time::Instant;

use llama_svf::ffi::device::Device;
use llama_svf::ffi::op::{Arguments, Kernel, OpGraph};
use llama_svf::ffi::tensor_type::TensorType;

const ROUNDS: usize = 25;
const THREADS: usize = 2;

/// Factors of all ops of a graph, in bytes: more than caches hold.
const CPU_BYTES: usize = 64 << 20;
const GPU_BYTES: usize = 512 << 20;

fn main() {
    if !std::env::args().any(|argument| argument == "gpu") {
        cpu();
    }
    let gpus: Vec<_> = Device::all().into_iter().filter(|device| !device.is_cpu()).collect();
    if gpus.is_empty() {
        println!("no GPU");
    }
    for gpu in gpus {
        decode_on(gpu);
    }
}

fn cpu() {
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
                let op = Op::new(n_in, n_out, rank, ty, n_tokens);
                let copies = CPU_BYTES.div_ceil(op.bytes()).clamp(2, if n_tokens >= 128 { 4 } else { 48 });
                let [fused, composed] = op.times(Device::cpu(), copies).map(|time| time.expect("on the CPU"));
                worst = worst.max(fused / composed);
                println!(
                    "{:>14} {rank:>5} {:>5} {n_tokens:>4}  {fused:>10.1} {composed:>10.1} {:>6.2}",
                    format!("{n_in}x{n_out}"),
                    ty.name(),
                    fused / composed
                );
            }
        }
    }
    println!("worst ratio {worst:.2}");
}

/// Feed-forward layers of a 0.5B and an 8B model, one and eight tokens.
fn decode_on(gpu: Device) {
    println!("{} ({})", gpu.name(), gpu.backend());
    println!(
        "{:>14} {:>5} {:>5} {:>2}  {:>10} {:>6} {:>12} {:>6}",
        "n_in x n_out", "rank", "type", "T", "fused µs", "GB/s", "composed µs", "GB/s"
    );
    for (n_in, n_out) in [(896, 4864), (4096, 14336)] {
        for rank in [64, n_in] {
            for ty in [TensorType::F16, TensorType::Q8_0] {
                for n_tokens in [1, 8] {
                    let op = Op::new(n_in, n_out, rank, ty, n_tokens);
                    let copies = GPU_BYTES.div_ceil(op.bytes()).max(2);
                    let [fused, composed] = op.times(gpu, copies).map(|time| match time {
                        Some(time) => {
                            (format!("{time:.1}"), format!("{:.0}", op.bytes() as f64 / time / 1e3))
                        }
                        None => ("-".into(), "-".into()),
                    });
                    println!(
                        "{:>14} {rank:>5} {:>5} {n_tokens:>2}  {:>10} {:>6} {:>12} {:>6}",
                        format!("{n_in}x{n_out}"),
                        ty.name(),
                        fused.0,
                        fused.1,
                        composed.0,
                        composed.1
                    );
                }
            }
        }
    }
}

struct Op(Arguments);

impl Op {
    fn new(n_in: usize, n_out: usize, rank: usize, ty: TensorType, n_tokens: usize) -> Self {
        let values = |n: usize| (0..n).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect::<Vec<_>>();
        let factor = |rows: usize, row_len: usize| {
            let ty = if row_len.is_multiple_of(ty.block_len()) { ty } else { TensorType::F16 };
            let mut bytes = Vec::new();
            ty.quantize(&values(rows * row_len), row_len, &mut bytes).expect("finite values");
            (ty, bytes)
        };
        Self(Arguments {
            n_in,
            n_out,
            rank,
            x: values(n_in * n_tokens),
            base: Some(values(n_out * n_tokens)),
            vt: factor(rank, n_in),
            u: factor(n_out, rank),
            s: values(rank * 9),
            ids: (0..n_tokens).map(|i| (i % 8 + 1) as i32).collect(),
        })
    }

    /// Bytes of the factors.
    fn bytes(&self) -> usize {
        self.0.vt.1.len() + self.0.u.1.len()
    }

    /// Microseconds per op, fused and composed; `None` where `device` has no such kernel.
    fn times(&self, device: Device, copies: usize) -> [Option<f64>; 2] {
        let mut graphs = [Kernel::Fused, Kernel::Composed]
            .map(|kernel| OpGraph::on(device, &self.0, kernel, THREADS, copies).expect("valid arguments"));
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS + 2 {
            for (graph, times) in graphs.iter_mut().zip(&mut times) {
                let Some(graph) = graph else { continue };
                let start = Instant::now();
                graph.compute().expect("the op computes");
                if round >= 2 {
                    times.push(start.elapsed().as_secs_f64() * 1e6 / copies as f64);
                }
            }
        }
        times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied()
        })
    }
}
