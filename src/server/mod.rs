//! Answering over HTTP, as llama-server does, each request with its own mixture of experts.
//!
//! ```text
//! listen ── guard (key, origin, size) ── router
//!                                          │ a body's Fields
//!              wishes, sampling, prompt ◄──┤ what is wanted
//!                               choose ◄───┤ which experts answer: named, or chosen by pass 1
//!                               answers ◄──┤ requests at work, as asynchronous events
//!                               formats ◄──┘ these as OpenAI's, Anthropic's or llama.cpp's JSON
//! ```
//!
//! The engine's threads decode; nothing here waits for them but by awaiting. What a route, a field or an error is like is
//! told in this folder's README.

mod answers;
mod body;
mod chat;
mod choose;
mod compat;
mod completion;
mod error;
mod experts;
mod fields;
mod formats;
mod guard;
mod listen;
mod metrics;
mod models;
mod page;
mod prompt;
mod reply;
mod router;
mod sampling;
mod slots;
mod state;
mod text;
mod wishes;

pub use choose::Default as DefaultChoice;
pub use experts::{Adaptation, Experts, NamedExpert};
pub use guard::Origins;
pub use listen::{serve, Bound};
pub use state::{Engine, Settings};
