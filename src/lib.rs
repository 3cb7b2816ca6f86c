//! llama-svf: self-adaptive LLMs (Transformer², arXiv 2501.06252) for llama.cpp.
//!
//! A frozen linear layer W `[n_out, n_in]` is decomposed once, W = U·diag(σ)·Vᵀ. An *expert* is one
//! vector m per layer that multiplies σ; a *mixture* is m = 1 + Σ αᵢ·(mᵢ − 1). At inference each
//! adapted layer runs through the ggml op in `kernels/`, with the mixture of each sequence chosen by
//! its *slot*.
//!
//! Imports go downwards only:
//!
//! | layer | modules |
//! |---|---|
//! | command line | [`cli`] |
//! | work on whole models | [`decompose`], [`eval`], [`train`], [`dispatch`], [`report`], [`bench`] |
//! | gradients of a model's experts | [`gradient`] |
//! | running a model with experts | [`engine`] |
//! | items to answer, and the score of an answer | [`task`], [`reward`] |
//! | files and their validation; a model to try | [`sidecar`], [`expert`], [`embedded`] |
//! | the edge to ggml and llama.cpp, the only `unsafe` | [`ffi`] |
//! | pure mathematics; the embedded model's world | [`svd`], [`cem`], [`optimiser`], [`skills`] |
//! | drawing | [`page`] |
//! | work that goes on where it was interrupted | [`resume`] |
//! | errors, progress, whole-or-not-at-all writes, temporary files | [`error`], [`progress`], [`atomic`], [`temporary`] |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod atomic;
pub mod bench;
pub mod cem;
pub mod cli;
pub mod decompose;
pub mod dispatch;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod eval;
pub mod expert;
pub mod ffi;
pub mod gradient;
pub mod optimiser;
pub mod page;
pub mod progress;
pub mod report;
pub mod resume;
pub mod reward;
pub mod sidecar;
pub mod skills;
pub mod svd;
pub mod task;
pub mod temporary;
pub mod train;
