//! Lower bounds on what an adapter can cost, relative to the base model.
//!
//! A decoded token reads every weight once, so at batch 1 time follows bytes: nothing that reads the factors
//! beside the weights can take less than (base bytes + factor bytes) ÷ base bytes of the base model's time; the
//! factored form reads them in place of the weights that they describe. A long prompt reads the same bytes once for
//! all its tokens and is limited by arithmetic instead.
//! Attention, norms and caches are left out of both: they only make the base model slower.

use crate::engine::Form;
use crate::error::{Error, Result};
use crate::ffi::gguf::GgufFile;
use crate::sidecar::Sidecar;

/// Tables from which rows are looked up; a token reads one row.
const LOOKED_UP: [&str; 4] = ["token_embd.", "per_layer_token_embd.", "position_embd.", "token_types."];
const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// Bytes and multiplications per token, and the bounds that follow.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of base weights that a decoded token reads.
    pub base_bytes: usize,
    /// Bytes of U and Vᵀ.
    pub factor_bytes: usize,
    /// Bytes of base weights that a decoded token does not read, because the factors take their place.
    pub replaced_bytes: usize,
    /// Bytes of the LoRA matrices as F16.
    pub lora_f16_bytes: usize,
    /// Multiplications per prompt token in base weights (the output head computes one token of a prompt and is
    /// left out).
    base_products: usize,
    factor_products: usize,
    replaced_products: usize,
}

impl Bounds {
    pub(super) fn new(model: &GgufFile, sidecar: &Sidecar, form: Form) -> Result<Self> {
        let mut bounds = Self {
            base_bytes: 0,
            factor_bytes: 0,
            replaced_bytes: 0,
            lora_f16_bytes: 0,
            base_products: 0,
            factor_products: 0,
            replaced_products: 0,
        };
        // Where no output head is stored, the table of embeddings is also that.
        let head = if model.tensor(OUTPUT).is_some() { OUTPUT } else { EMBEDDING };
        for tensor in model.tensors() {
            let is_head = tensor.name == head;
            let is_table = LOOKED_UP.iter().any(|table| tensor.name.starts_with(table));
            if tensor.n_dims != 2 || (is_table && !is_head) {
                continue;
            }
            bounds.base_bytes += tensor.n_bytes;
            if !is_head {
                bounds.base_products += tensor.n_elements();
            }
        }
        for weight in &sidecar.weights {
            let products = weight.rank * (weight.n_in + weight.n_out);
            bounds.factor_bytes += weight.u.n_bytes + weight.vt.n_bytes;
            bounds.factor_products += products;
            bounds.lora_f16_bytes += 2 * products;
            if form == Form::Factored {
                bounds.replaced_bytes += model.require_tensor(&weight.name)?.n_bytes;
                bounds.replaced_products += weight.n_in * weight.n_out;
            }
        }
        if bounds.base_bytes == 0 || bounds.base_products == 0 {
            return Err(Error::invalid("the model has no matrices to compare with").file(model.path()));
        }
        Ok(bounds)
    }

    /// Bytes that a decoded token reads with experts.
    pub fn adapted_bytes(&self) -> usize {
        self.base_bytes - self.replaced_bytes + self.factor_bytes
    }

    /// Bytes that it reads with experts ÷ those of the base model: 1 + factor bytes ÷ base bytes, in residual form.
    pub fn byte_bound(&self) -> f64 {
        self.adapted_bytes() as f64 / self.base_bytes as f64
    }

    /// 1 + LoRA bytes ÷ base bytes, as F16.
    pub fn lora_f16_byte_bound(&self) -> f64 {
        1.0 + self.lora_f16_bytes as f64 / self.base_bytes as f64
    }

    /// Multiplications with experts ÷ those of the base model, for long prompts.
    pub fn flop_bound(&self) -> f64 {
        (self.base_products - self.replaced_products + self.factor_products) as f64
            / self.base_products as f64
    }
}
