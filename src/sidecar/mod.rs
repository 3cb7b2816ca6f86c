//! The sidecar file `MODEL.svf.gguf`: the factors of a base model, and which model that is.

pub mod fingerprint;

pub use fingerprint::Fingerprint;
