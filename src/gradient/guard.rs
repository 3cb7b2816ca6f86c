//! The description of a model is checked by its results: logits as llama.cpp computes them.

use super::PolicyGradient;
use crate::engine::{AdapterOptions, GraphOp, Input, KvType, Session, SessionOptions, Token};
use crate::error::{Error, Result};
use crate::ffi::tensor_type::TensorType;

/// Tokens that are compared.
const N_TOKENS: usize = 24;
/// Largest [`PolicyGradient::distance_from_llama_cpp`] that rounding explains, for weights in floating point
/// (measured: 2e-6 for F32) and for others (0.02 for Q8_0, 0.05 for Q4_0, where llama.cpp rounds activations).
const LARGEST: [f64; 2] = [0.01, 0.3];

impl PolicyGradient {
    /// How far logits at m = 1 are from llama.cpp's, which rounds activations for quantized weights: ‖difference‖ /
    /// ‖logits - their mean‖, after some tokens from all over the vocabulary.
    ///
    /// # Errors
    /// llama.cpp cannot run the model.
    pub fn distance_from_llama_cpp(&self) -> Result<f64> {
        let adapted = self.weights.adapted();
        let n = N_TOKENS.min(adapted.model().n_ctx_train() as usize);
        let tokens: Vec<Token> = (0..n).map(|i| ((i * 7919 + 13) % self.head.n_vocab()) as Token).collect();
        let ours = self.logits(&tokens, None)?;
        let options = SessionOptions {
            n_ctx: n as u32,
            n_threads: self.pool.current_num_threads() as u32,
            kv: KvType::F32,
            flash_attention: false,
            ..Default::default()
        };
        let adapter = AdapterOptions { form: self.weights.form(), op: GraphOp::Auto, n_slots: 1 };
        let mut session = Session::adapted(adapted, &options, &adapter)?;
        let inputs: Vec<_> = tokens.iter().map(|&token| Input { seq: 0, token, output: true }).collect();
        session.decode(&inputs)?;
        let mut squares = [0.0; 2];
        for (i, ours) in ours.iter().enumerate() {
            let [difference, spread] = squared(ours, session.logits(i));
            squares = [squares[0] + difference, squares[1] + spread];
        }
        Ok((squares[0] / squares[1]).sqrt())
    }

    pub(super) fn check(&self) -> Result<()> {
        let distance = self.distance_from_llama_cpp()?;
        let largest = LARGEST[usize::from(self.is_quantized())];
        if distance <= largest {
            return Ok(());
        }
        Err(Error::engine(format!(
            "logits computed here are {distance:.2} of their spread away from llama.cpp's"
        ))
        .file(self.weights.file().path())
        .hint("the exact gradient misses a part of this model; `Evolution` needs no gradient"))
    }

    fn is_quantized(&self) -> bool {
        let float = [TensorType::F32, TensorType::F16, TensorType::BF16];
        self.weights.file().tensors().iter().any(|tensor| !float.contains(&tensor.ty))
    }
}

/// ‖a - b‖² and ‖b - mean b‖².
fn squared(a: &[f32], b: &[f32]) -> [f64; 2] {
    let mean = b.iter().map(|&b| f64::from(b)).sum::<f64>() / b.len() as f64;
    let square = |x: f64| x * x;
    let difference = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    [difference, b.iter().map(|b| square(f64::from(*b) - mean)).sum()]
}
