//! Models that are odd or damaged: whatever a file says, the program answers, or refuses in one line that names the file.
//!
//! Each file is given to a process of its own, because what is looked for would end it: an assertion of ggml, a signal, a
//! hang, a wish for more memory than there is.
#![cfg(unix)]

#[path = "../support/gguf_edit.rs"]
mod gguf_edit;
#[path = "../support/program.rs"]
#[allow(dead_code)]
mod program;

mod architectures;
mod commands;
mod damage;
mod harness;
mod keys;
mod metadata;
mod net;
mod refusals;
mod split;
mod tensors;
mod values;
mod vocabulary;
