//! The edge to ggml and llama.cpp: the only module in which `unsafe` may appear.
//!
//! ggml aborts the process on misuse. Everything that comes from a file or a user is therefore checked
//! here, in Rust, before ggml sees it.
#![allow(unsafe_code)]

pub mod chat;
pub mod context;
pub mod device;
pub mod factors;
pub mod fatal;
pub mod gguf;
mod guard;
pub mod log;
pub mod model;
pub mod op;
pub mod rpc;
mod svf;
pub mod tensor_type;
