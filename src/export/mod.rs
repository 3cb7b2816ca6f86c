//! Experts for programs that know nothing of them: llama.cpp as it comes, and Hugging Face's.
//!
//! An adapted weight is W′ = W + U·diag(c)·Vᵀ with c = σ⊙(m−1) (paper, section 3.1, without the part that is W's own). That is
//! a LoRA (Hu et al. 2021) with B = U·diag(c) and A = Vᵀ, exact for any expert and any mixture, up to the types in which A and B
//! are stored: see [`lora`] for llama.cpp's format and [`peft`] for Hugging Face's. Or it is a weight like any other, once it
//! is multiplied out and stored in the place of W: see [`merged`].

mod change;
pub mod lora;
pub mod merged;
pub mod peft;

pub use change::{Change, Cut, WeightChange};
