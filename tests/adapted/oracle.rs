//! A transformer in float64, written down from the papers: slow, plain, one sequence at a time. It knows nothing of
//! the library but how to read its files.

use std::collections::HashMap;

use crate::models::{RandomModel, SLIDING_WINDOW, WINDOW_BASE};
use llama_svf::engine::{AdaptedModel, Form, LoraModel, Token};
use llama_svf::gradient::Group;
use rayon::prelude::*;

type Vector = Vec<f64>;

pub struct Oracle {
    shape: RandomModel,
    form: Form,
    /// Everything in the model's file, matrices `[n_out][n_in]` row by row.
    tensors: HashMap<String, Vector>,
    /// By weight: its name, n_in, n_out, U `[n_out][r]`, σ, Vᵀ `[r][n_in]`.
    factors: Vec<(String, usize, usize, Vector, Vector, Vector)>,
    /// Whether the parameters of a weight are not m but A `[r][n_in]` and then B `[n_out][r]`.
    is_lora: bool,
}

impl Oracle {
    pub fn new(shape: &RandomModel, adapted: &AdaptedModel, form: Form) -> Self {
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vector>();
        let (file, sidecar) = (adapted.model().file(), adapted.sidecar());
        let tensors =
            file.tensors().iter().map(|t| (t.name.clone(), wide(file.to_f32(t).unwrap()))).collect();
        let factor = |t| wide(sidecar.file().to_f32(t).unwrap());
        let factors = sidecar
            .weights
            .iter()
            .map(|w| (w.name.clone(), w.n_in, w.n_out, factor(&w.u), wide(w.sigma.clone()), factor(&w.vt)));
        Self { shape: shape.clone(), form, tensors, factors: factors.collect(), is_lora: false }
    }

    pub fn of_lora(shape: &RandomModel, lora: &LoraModel) -> Self {
        Self { is_lora: true, ..Self::new(shape, lora.adapted(), Form::Residual) }
    }

    /// J(m), the mean over answers of Σ over tokens of A·ln π_m - `kl`·KL(π_m ‖ π_1); and the mean entropy and KL
    /// per token.
    pub fn objective(&self, m: &[Vec<f64>], groups: &[Group], kl: f64) -> [f64; 3] {
        self.objective_beside(&self.base(groups), m, groups, kl)
    }

    /// dJ/dm by central differences.
    pub fn gradient(&self, m: &[Vec<f64>], groups: &[Group], kl: f64) -> Vec<Vec<f64>> {
        const STEP: f64 = 1e-5;
        let base = self.base(groups);
        let in_weight = |(w, m): (usize, &Vec<f64>)| (0..m.len()).map(move |i| (w, i)).collect::<Vec<_>>();
        let places: Vec<_> = m.iter().enumerate().flat_map(in_weight).collect();
        let flat: Vec<f64> = places
            .par_iter()
            .map(|&(w, i)| {
                let at = |step: f64| {
                    let mut m = m.to_vec();
                    m[w][i] += step;
                    self.objective_beside(&base, &m, groups, kl)[0]
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            })
            .collect();
        let mut flat = flat.into_iter();
        m.iter().map(|m| flat.by_ref().take(m.len()).collect()).collect()
    }

    /// ln π_1 after every token of every answer's sequence.
    fn base(&self, groups: &[Group]) -> Vec<Vec<Vector>> {
        let nothing = || self.factors.iter().map(|(_, i, o, _, s, _)| vec![0.0; s.len() * (i + o)]).collect();
        let at_one = self.with(&if self.is_lora { nothing() } else { self.ones() });
        let answers = groups.iter().flat_map(|group| group.rollouts.iter().map(move |r| (group, r)));
        let all = answers.map(|(group, rollout)| [&group.prompt[..], &rollout.tokens[..]].concat());
        all.map(|all| self.logits(&at_one, &all).iter().map(|logits| log_softmax(logits)).collect()).collect()
    }

    fn objective_beside(&self, base: &[Vec<Vector>], m: &[Vec<f64>], groups: &[Group], kl: f64) -> [f64; 3] {
        let at_m = self.with(m);
        let (mut j, mut entropy, mut divergence) = (0.0, 0.0, 0.0);
        let (mut base, mut n_tokens) = (base.iter(), 0.0);
        for group in groups {
            for (rollout, base) in group.rollouts.iter().zip(&mut base) {
                let all = [&group.prompt[..], &rollout.tokens[..]].concat();
                let logits = self.logits(&at_m, &all);
                for (i, &token) in rollout.tokens.iter().enumerate() {
                    let at = group.prompt.len() + i - 1;
                    let log_pi = log_softmax(&logits[at]);
                    let d: f64 = log_pi.iter().zip(&base[at]).map(|(p, q)| p.exp() * (p - q)).sum();
                    j += f64::from(rollout.advantage) * log_pi[token as usize] - kl * d;
                    divergence += d;
                    entropy -= log_pi.iter().map(|p| p.exp() * p).sum::<f64>();
                    n_tokens += 1.0;
                }
            }
        }
        let n_answers: usize = groups.iter().map(|group| group.rollouts.len()).sum();
        [j / n_answers as f64, entropy / n_tokens, divergence / n_tokens]
    }

    pub fn ones(&self) -> Vec<Vec<f64>> {
        self.factors.iter().map(|(_, _, _, _, sigma, _)| vec![1.0; sigma.len()]).collect()
    }

    /// The tensors with the adapted ones composed at `m`.
    fn with(&self, m: &[Vec<f64>]) -> HashMap<&str, Vector> {
        let mut tensors: HashMap<&str, Vector> =
            self.tensors.iter().map(|(name, values)| (name.as_str(), values.clone())).collect();
        for ((name, n_in, n_out, u, sigma, vt), m) in self.factors.iter().zip(m) {
            let w = tensors.get_mut(name.as_str()).unwrap();
            if self.is_lora {
                let (rank, (a, b)) = (sigma.len(), m.split_at(sigma.len() * n_in));
                for (o, b) in b.chunks_exact(rank).enumerate() {
                    for (a, b) in a.chunks_exact(*n_in).zip(b) {
                        w[o * n_in..][..*n_in].iter_mut().zip(a).for_each(|(w, a)| *w += b * a);
                    }
                }
                continue;
            }
            if matches!(self.form, Form::Factored) {
                w.fill(0.0);
            }
            let shift = if matches!(self.form, Form::Factored) { 0.0 } else { 1.0 };
            for o in 0..*n_out {
                for (k, (sigma, m_k)) in sigma.iter().zip(m).enumerate() {
                    let scale = u[o * m.len() + k] * sigma * (m_k - shift);
                    for i in 0..*n_in {
                        w[o * n_in + i] += scale * vt[k * n_in + i];
                    }
                }
            }
        }
        tensors
    }

    /// What block `layer` of the base model leaves for each token.
    pub fn hidden(&self, layer: usize, tokens: &[Token]) -> Vec<Vector> {
        self.blocks(&self.with(&self.ones()), tokens, layer + 1)
    }

    fn logits(&self, t: &HashMap<&str, Vector>, tokens: &[Token]) -> Vec<Vector> {
        let xs = self.blocks(t, tokens, self.shape.layers);
        xs.iter().map(|x| times(&t["output.weight"], &rms_norm(x, &t["output_norm.weight"]))).collect()
    }

    /// What the first `layers` blocks make of the tokens.
    fn blocks(&self, t: &HashMap<&str, Vector>, tokens: &[Token], layers: usize) -> Vec<Vector> {
        let RandomModel { width, heads, kv_heads, ref arch, .. } = self.shape;
        let size = width / heads;
        let is_gemma = arch == "gemma3";
        let embedding_scale = if is_gemma { (width as f64).sqrt() } else { 1.0 };
        let embedding = |&token: &Token| {
            let row = &t["token_embd.weight"][token as usize * width..][..width];
            row.iter().map(|x| x * embedding_scale).collect()
        };
        let mut xs: Vec<Vector> = tokens.iter().map(embedding).collect();
        let halves = !["llama", "smollm3"].contains(&arch.as_str());
        let has_head_norms = ["qwen3", "gemma3"].contains(&arch.as_str());
        let ones = vec![1.0; size / 2];
        let factors = t.get("rope_factors_short.weight").unwrap_or(&ones);
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let get = |part: &str| &t[name(part).as_str()];
            let linear = |part: &str, x: &[f64]| {
                let mut y = times(get(&format!("{part}.weight")), x);
                if let Some(bias) = t.get(name(&format!("{part}.bias")).as_str()) {
                    y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
                y
            };
            let has_window = is_gemma && layer % 2 == 0;
            let base = if has_window { f64::from(WINDOW_BASE) } else { 10_000.0 };
            let is_turned = arch != "smollm3" || (layer + 1) % 4 != 0;
            let normed_after = |part: &str, y: Vector| if is_gemma { rms_norm(&y, get(part)) } else { y };
            let (mut qs, mut ks, mut vs) = (Vec::new(), Vec::new(), Vec::new());
            for (position, x) in xs.iter().enumerate() {
                let x = rms_norm(x, get("attn_norm.weight"));
                // phi3 has queries, keys and values in one matrix, in this order.
                let of_three = |part: &str| {
                    let kv = kv_heads * size;
                    let rows = match part {
                        _ if arch != "phi3" => return linear(part, &x),
                        "attn_q" => 0..width,
                        "attn_k" => width..width + kv,
                        _ => width + kv..width + 2 * kv,
                    };
                    linear("attn_qkv", &x)[rows].to_vec()
                };
                let turned = |part: &str| {
                    let mut y = of_three(part);
                    for head in y.chunks_mut(size) {
                        if has_head_norms {
                            head.copy_from_slice(&rms_norm(head, get(&format!("{part}_norm.weight"))));
                        }
                        if is_turned {
                            rotate(head, position, base, factors, halves);
                        }
                    }
                    y
                };
                qs.push(turned("attn_q"));
                ks.push(turned("attn_k"));
                vs.push(of_three("attn_v"));
            }
            for (position, x) in xs.iter_mut().enumerate() {
                let mut attended = Vec::new();
                for head in 0..heads {
                    let kv = head / (heads / kv_heads) * size..;
                    let q = &qs[position][head * size..][..size];
                    let first =
                        if has_window { (position + 1).saturating_sub(SLIDING_WINDOW as usize) } else { 0 };
                    let scores: Vector = (first..=position)
                        .map(|other| dot(q, &ks[other][kv.clone()][..size]) / (size as f64).sqrt())
                        .collect();
                    let p = log_softmax(&scores);
                    let start = attended.len();
                    attended.resize(start + size, 0.0);
                    for (p, v) in p.iter().zip(&vs[first..]) {
                        attended[start..].iter_mut().zip(&v[kv.clone()]).for_each(|(a, v)| *a += p.exp() * v);
                    }
                }
                let add = |x: &mut Vector, y: Vector| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
                add(x, normed_after("post_attention_norm.weight", linear("attn_output", &attended)));
                let normed = rms_norm(x, get("ffn_norm.weight"));
                // The gate comes first.
                let (gate, up) = match linear("ffn_up", &normed) {
                    mut both if arch == "phi3" => {
                        let up = both.split_off(both.len() / 2);
                        (both, up)
                    }
                    up => (linear("ffn_gate", &normed), up),
                };
                let gated = |g: f64| if is_gemma { gelu(g) } else { g / (1.0 + (-g).exp()) };
                let act: Vector = gate.iter().zip(&up).map(|(&g, u)| gated(g) * u).collect();
                add(x, normed_after("post_ffw_norm.weight", linear("ffn_down", &act)));
            }
        }
        xs
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(w: &[f64], x: &[f64]) -> Vector {
    w.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn rms_norm(x: &[f64], w: &[f64]) -> Vector {
    // 1e-5 in F32, as the file says it.
    let rms = (dot(x, x) / x.len() as f64 + f64::from(1e-5_f32)).sqrt();
    x.iter().zip(w).map(|(x, w)| x / rms * w).collect()
}

/// The approximation by tanh, which is gemma's.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn rotate(head: &mut [f64], position: usize, base: f64, factors: &[f64], halves: bool) {
    let n = head.len();
    for (i, factor) in factors.iter().enumerate() {
        let angle = position as f64 * base.powf(-2.0 * i as f64 / n as f64) / factor;
        let (a, b) = if halves { (i, i + n / 2) } else { (2 * i, 2 * i + 1) };
        (head[a], head[b]) =
            (head[a] * angle.cos() - head[b] * angle.sin(), head[a] * angle.sin() + head[b] * angle.cos());
    }
}

fn log_softmax(logits: &[f64]) -> Vector {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = most + logits.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
    logits.iter().map(|l| l - log_sum).collect()
}
